package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// peerID is the server's UUID in the fixtures.
const peerID = "8d088b94-c2f2-44de-bd38-c15e5b597f34"

// fake is a daemon in memory: the volumes of the fixtures, and the refusals of
// the real one.
type fake struct {
	api.Pool // what daemons ask each other: not asked for here
	api.Sets // what bricks ask

	pending  func(*api.HealInfo) // heal_test.go
	pool     pool                // pool_test.go
	volumes  []api.Volume
	status   map[string][]api.BrickStatus
	newID    string // of the next volume
	notes    []string
	requests []any // what was asked for, in order
	closed   bool
}

func (f *fake) Close() error { f.closed = true; return nil }

func refuse(format string, a ...any) error {
	return &api.Error{Errno: api.ErrGeneric, Message: fmt.Sprintf(format, a...)}
}

func (f *fake) find(name string) (*api.Volume, error) {
	for i := range f.volumes {
		if f.volumes[i].Name == name {
			return &f.volumes[i], nil
		}
	}
	return nil, &api.Error{Errno: api.ErrNoVolume, Message: "Volume " + name + " does not exist"}
}

func (f *fake) VolumeCreate(_ context.Context, r api.CreateRequest) (api.Volume, error) {
	f.requests = append(f.requests, r)
	if _, err := f.find(r.Name); err == nil {
		return api.Volume{}, &api.Error{Message: "Volume " + r.Name + " already exists"}
	}
	v := volumeOf(r.Name, f.newID, api.Created, r.Bricks...)
	for _, o := range f.volumes {
		for _, b := range o.Bricks {
			if slices.Contains(r.Bricks, b.Name) {
				return api.Volume{}, refuse("Brick: %s not available. Brick may be containing or be contained by an existing brick.", b.Name)
			}
		}
	}
	f.volumes = append(f.volumes, v)
	slices.SortFunc(f.volumes, func(a, b api.Volume) int { return strings.Compare(a.Name, b.Name) })
	return v, nil
}

func (f *fake) VolumeStart(_ context.Context, r api.VolumeRequest) (api.Volume, error) {
	f.requests = append(f.requests, r)
	v, err := f.find(r.Name)
	switch {
	case err != nil:
		return api.Volume{}, err
	case v.State == api.Started && !r.Force:
		return api.Volume{}, refuse("Volume %s already started", r.Name)
	}
	v.State = api.Started
	return *v, nil
}

func (f *fake) VolumeStop(_ context.Context, r api.VolumeRequest) (api.Volume, error) {
	f.requests = append(f.requests, r)
	v, err := f.find(r.Name)
	switch {
	case err != nil:
		return api.Volume{}, err
	case v.State != api.Started:
		return api.Volume{}, refuse("Volume %s is not in the started state", r.Name)
	}
	v.State = api.Stopped
	return *v, nil
}

func (f *fake) VolumeDelete(_ context.Context, r api.VolumeRequest) (api.Volume, error) {
	f.requests = append(f.requests, r)
	v, err := f.find(r.Name)
	switch {
	case err != nil:
		return api.Volume{}, err
	case v.State == api.Started:
		return api.Volume{}, refuse("Volume %s has been started.Volume needs to be stopped before deletion.", r.Name)
	}
	gone := *v
	f.volumes = slices.DeleteFunc(f.volumes, func(v api.Volume) bool { return v.Name == r.Name })
	return gone, nil
}

func (f *fake) VolumeInfo(_ context.Context, r api.VolumeRequest) ([]api.Volume, error) {
	if r.Name == "" {
		return f.volumes, nil
	}
	v, err := f.find(r.Name)
	if err != nil {
		return nil, err
	}
	return []api.Volume{*v}, nil
}

func (f *fake) VolumeStatus(_ context.Context, r api.StatusRequest) ([]api.VolumeStatus, error) {
	f.requests = append(f.requests, r)
	var list []api.VolumeStatus
	for _, v := range f.volumes {
		if v.State == api.Started && (r.Name == "" || r.Name == v.Name) {
			list = append(list, api.VolumeStatus{Name: v.Name, ID: v.ID, Bricks: slices.Clone(f.status[v.Name])})
		}
	}
	if r.Name == "" {
		return list, nil
	}
	if _, err := f.find(r.Name); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, refuse("Volume %s is not started", r.Name)
	}
	if r.Brick != "" {
		list[0].Bricks = slices.DeleteFunc(list[0].Bricks, func(b api.BrickStatus) bool { return b.Name != r.Brick })
		if len(list[0].Bricks) == 0 {
			return nil, refuse("No brick %s in volume %s", r.Brick, r.Name)
		}
	}
	return list, nil
}

func (f *fake) VolumeSet(_ context.Context, r api.SetRequest) (api.SetReply, error) {
	f.requests = append(f.requests, r)
	if _, err := f.find(r.Name); err != nil {
		return api.SetReply{}, err
	}
	for i := 0; i < len(r.Pairs); i += 2 {
		if err := spec.Validate(r.Pairs[i], r.Pairs[i+1]); err != nil {
			return api.SetReply{}, refuse("%v", err)
		}
	}
	return api.SetReply{Notes: f.notes}, nil
}

func (f *fake) VolumeReset(_ context.Context, r api.ResetRequest) (api.SetReply, error) {
	f.requests = append(f.requests, r)
	if _, err := f.find(r.Name); err != nil {
		return api.SetReply{}, err
	}
	return api.SetReply{}, nil
}

func (f *fake) VolumeGet(_ context.Context, r api.GetRequest) ([]api.OptionValue, error) {
	set := map[string]string{}
	if r.Name != "all" {
		v, err := f.find(r.Name)
		if err != nil {
			return nil, err
		}
		for _, o := range v.Options {
			set[o.Name] = o.Value
		}
	}
	var list []spec.Shown
	switch {
	case r.Name == "all" && r.Key == "all":
		list = spec.ListCluster(nil)
	case r.Key == "all":
		list = spec.List(set)
	default:
		s, err := spec.Get(r.Key, set)
		if err != nil {
			return nil, refuse("%v", err)
		}
		list = []spec.Shown{s}
	}
	var values []api.OptionValue
	for _, s := range list {
		values = append(values, api.OptionValue(s))
	}
	return values, nil
}

func (f *fake) Status(context.Context) (api.Status, error) {
	return api.Status{ID: peerID, Version: "test", Store: f.pool.trouble}, nil
}

func (f *fake) WatchMap(context.Context, string, func(*spec.Map) error) error {
	return refuse("not asked for by the command line")
}

func (f *fake) AttachBrick(context.Context, api.BrickHello, func(*spec.Map) error) error {
	return refuse("not asked for by the command line")
}

// volumeOf is a distributed volume as a daemon defines it.
func volumeOf(name, id string, state api.State, bricks ...string) api.Volume {
	v := api.Volume{Name: name, ID: id, State: state, Stripe: 1, Replica: 1}
	for _, b := range bricks {
		host, path, err := spec.ParseBrick(b)
		if err != nil {
			panic(err)
		}
		v.Bricks = append(v.Bricks, api.Brick{Name: b, Host: host, Path: path, PeerID: peerID})
	}
	for _, s := range slices.Backward(spec.Fresh(false)) { // a daemon keeps them in order of setting
		v.Options = append(v.Options, api.OptionValue{Name: s.Name, Value: s.Value})
	}
	return v
}

// sampled is a daemon with the volumes that the fixtures were captured from.
func sampled() *fake {
	names := func(dir string, n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("gtest:/d/%s%d", dir, i+1))
		}
		return list
	}
	disperse := volumeOf("disperse", "707d13d1-1de8-4bec-98cd-0254106c3f66", api.Started, names("c", 3)...)
	disperse.Disperse, disperse.Redundancy = 3, 1
	distrep := volumeOf("distrep", "3b7b4833-993e-4499-bb7f-91102a8e5686", api.Started, names("e", 6)...)
	distrep.Replica, distrep.Arbiter = 3, 1
	distrep.Bricks[2].Arbiter, distrep.Bricks[5].Arbiter = true, true
	distribute := volumeOf("distribute", "74742337-83e2-46d3-b8e6-4a0bb00bd731", api.Started, names("a", 2)...)
	replicate := volumeOf("replicate", "4f8b5cee-19c4-464d-9ba7-70a6ed21bb63", api.Started, names("b", 3)...)
	replicate.Replica = 3
	for _, v := range []*api.Volume{&distrep, &replicate} {
		v.Options = append([]api.OptionValue{{Name: "performance.client-io-threads", Value: "off"}}, v.Options...)
		v.Options = append(v.Options, api.OptionValue{Name: "cluster.granular-entry-heal", Value: "on"})
	}
	f := &fake{volumes: []api.Volume{disperse, distrep, distribute, replicate}, newID: "3b0809c7-64ec-406b-ac93-1e4c368a145b",
		status: map[string][]api.BrickStatus{}}
	ports := map[string][]int{"disperse": {59322, 338, 52273, 354, 51587, 370}, "distribute": {57318, 176, 54848, 192},
		"distrep":   {60029, 424, 55988, 440, 60914, 456, 60144, 472, 58265, 488, 59514, 504},
		"replicate": {53042, 239, 59795, 255, 50314, 271}}
	for _, v := range f.volumes {
		for i, b := range v.Bricks {
			p := ports[v.Name]
			f.status[v.Name] = append(f.status[v.Name], api.BrickStatus{Brick: b, Online: true, Port: p[2*i], PID: p[2*i+1]})
		}
	}
	return f
}

// withDisks adds what detail shows, and withClients what clients shows.
func withDisks(f *fake) {
	free := []uint64{253023682560, 253023682560, 253023703040}
	inodes := []uint64{16244888, 16244888, 16244889}
	for i := range f.status["replicate"] {
		f.status["replicate"][i].Disk = &api.Disk{FileSystem: "ext4", Device: "/dev/vda", BlockSize: 4096,
			MountOptions: "rw,relatime,discard,resv_strict,resuid=65534,resgid=65534",
			Total:        270553174016, Free: free[i], Inodes: 16777216, InodesFree: inodes[i]}
	}
}

// withRoles has the second brick of "replicate" out of sync.
func withRoles(f *fake) {
	for i, role := range []string{api.RolePrimary, api.RoleBehind, api.RoleInSync} {
		b := &f.status["replicate"][i]
		b.Set, b.Role, b.Epoch = 1, role, 7
	}
}

func withClients(f *fake) {
	client := func(port int, read, written uint64) api.Client {
		return api.Client{Addr: fmt.Sprintf("10.88.0.1:%d", port), BytesRead: read, BytesWritten: written, Version: "test"}
	}
	s := f.status["replicate"]
	s[0].Clients = []api.Client{client(49146, 4752, 4976), client(49110, 2536, 1664)}
	s[1].Clients = []api.Client{client(49142, 4752, 4976), client(49108, 2592, 1664)}
	s[2].Clients = []api.Client{client(49141, 4752, 4976), client(49107, 2592, 1664)}
}
