package manage

import (
	"bufio"
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// describe is a volume as the API tells of it.
func (d *daemon) describe(v *volumeRecord) api.Volume {
	out := api.Volume{Name: v.Name, ID: v.ID, State: v.State, Stripe: 1, Replica: max(v.Replica, 1), Arbiter: v.Arbiter}
	for _, b := range v.Bricks {
		out.Bricks = append(out.Bricks, describeBrick(b))
	}
	for _, o := range v.Options {
		out.Options = append(out.Options, api.OptionValue{Name: o.Name, Value: o.Value})
	}
	return out
}

func describeBrick(b brickRecord) api.Brick {
	return api.Brick{Name: b.name(), Host: b.Host, Path: b.Path, PeerID: b.Server, Arbiter: b.Arbiter}
}

// sorted returns the visible volumes in order of name.
func sorted(s *snapshot) []*volumeRecord {
	var out []*volumeRecord
	for _, v := range s.volumes {
		if v.visible() {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *volumeRecord) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// VolumeInfo implements api.Daemon.
func (d *daemon) VolumeInfo(ctx context.Context, r api.VolumeRequest) ([]api.Volume, error) {
	snap, err := d.look(ctx)
	if err != nil {
		return nil, err
	}
	out := []api.Volume{}
	if r.Name != "" {
		v := snap.volume(r.Name)
		if v == nil {
			return nil, noVolume(r.Name)
		}
		return append(out, d.describe(v)), nil
	}
	for _, v := range sorted(snap) {
		out = append(out, d.describe(v))
	}
	return out, nil
}

// VolumeStatus implements api.Daemon. What only a brick's own server can see its
// daemon is asked for.
func (d *daemon) VolumeStatus(ctx context.Context, r api.StatusRequest) ([]api.VolumeStatus, error) {
	snap, err := d.look(ctx)
	if err != nil {
		return nil, err
	}
	out, err := d.volumeStatus(ctx, snap, r)
	if err == nil && r.Detail && !r.Own {
		d.fillDisks(ctx, snap, r, out)
	}
	return out, err
}

// fillDisks asks the other servers for what lies under their bricks. Of one
// that does not answer in time that is left out.
func (d *daemon) fillDisks(ctx context.Context, snap *snapshot, r api.StatusRequest, out []api.VolumeStatus) {
	ctx, cancel := context.WithTimeout(ctx, meetTimeout)
	defer cancel()
	places := map[string][]*api.BrickStatus{} // by server
	for i := range out {
		for j := range out[i].Bricks {
			if b := &out[i].Bricks[j]; b.PeerID != d.id() {
				places[b.PeerID] = append(places[b.PeerID], b)
			}
		}
	}
	r.Own, r.Clients, r.Brick = true, false, ""
	var wg sync.WaitGroup
	for id, bricks := range places {
		server := snap.servers[id]
		if server == nil || snap.alive[id] == "" {
			continue
		}
		wg.Go(func() {
			c, err := api.DialFrom(ctx, d.host, server.api())
			if err != nil {
				return
			}
			defer c.Close()
			told, err := c.VolumeStatus(ctx, r)
			if err != nil {
				return
			}
			disks := map[string]*api.Disk{}
			for _, v := range told {
				for _, b := range v.Bricks {
					disks[b.Name] = b.Disk
				}
			}
			for _, b := range bricks {
				b.Disk = disks[b.Name]
			}
		})
	}
	wg.Wait()
}

func (d *daemon) volumeStatus(ctx context.Context, snap *snapshot, r api.StatusRequest) ([]api.VolumeStatus, error) {
	out := []api.VolumeStatus{}
	if r.Name == "" {
		for _, v := range sorted(snap) {
			if v.State == api.Started {
				st := d.status(snap, v, r)
				if r.Clients {
					d.askClients(ctx, snap, v, &st)
				}
				out = append(out, st)
			}
		}
		return out, nil
	}
	v := snap.volume(r.Name)
	switch {
	case v == nil:
		return nil, noVolume(r.Name)
	case v.State != api.Started:
		return nil, refuse("Volume %s is not started", r.Name)
	}
	if r.Brick != "" {
		host, path, err := spec.ParseBrick(r.Brick)
		if err != nil {
			return nil, refuse("%v", err)
		}
		r.Brick = spec.JoinBrick(host, path)
		if !slices.ContainsFunc(v.Bricks, func(b brickRecord) bool { return b.name() == r.Brick }) {
			return nil, refuse("No brick %s in volume %s", r.Brick, r.Name)
		}
	}
	st := d.status(snap, v, r)
	if r.Clients {
		d.askClients(ctx, snap, v, &st)
	}
	return append(out, st), nil
}

func (d *daemon) status(snap *snapshot, v *volumeRecord, r api.StatusRequest) api.VolumeStatus {
	out := api.VolumeStatus{Name: v.Name, ID: v.ID}
	for _, b := range v.Bricks {
		if r.Brick != "" && r.Brick != b.name() {
			continue
		}
		s := api.BrickStatus{Brick: describeBrick(b), Set: b.Set}
		s.Role, s.Epoch = snap.role(v, b)
		s.Online, s.PID, s.Port = d.online(snap, b, snap.haveOf(v.ID, b.ID))
		if r.Detail && b.Server == d.id() {
			s.Disk = diskOf(b.Path)
		}
		out.Bricks = append(out.Bricks, s)
	}
	return out
}

// role is the part that a brick has in a set of several members, and the set's
// epoch; "" where it is the set.
func (s *snapshot) role(v *volumeRecord, b brickRecord) (role string, epoch uint64) {
	r := s.sets[setRef{v.ID, b.Set}]
	if r == nil {
		return "", 0
	}
	role = api.RoleBehind
	if _, in := r.State.Seat(b.ID); in {
		role = api.RoleInSync
	}
	if r.State.Primary == b.ID {
		role = api.RolePrimary
	}
	return role, r.State.Epoch
}

// online tells whether a brick's process is there and registered, its process
// ID (-1: none) and port (0: none). Of one on this server the keeper knows it
// before the record does.
func (d *daemon) online(snap *snapshot, b brickRecord, h haveRecord) (bool, int, int) {
	if b.Server != d.id() {
		if h.Is == running && h.Port != 0 && h.PID != 0 && snap.alive[b.Server] != "" {
			return true, h.PID, h.Port
		}
		return false, -1, 0
	}
	if k := d.supervisor.keeper(b.ID); k != nil {
		if pid, port, registered := k.online(); registered && len(findBricks(pid)) == 1 {
			return true, pid, port
		}
	}
	return false, -1, 0
}

// diskOf describes the file system under a directory, nil if it can't be asked.
func diskOf(path string) *api.Disk {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return nil
	}
	d := &api.Disk{
		BlockSize: st.Bsize, Total: st.Blocks * uint64(st.Bsize), Free: st.Bavail * uint64(st.Bsize),
		Inodes: st.Files, InodesFree: st.Ffree,
	}
	d.FileSystem, d.Device, d.MountOptions = mountOf(path)
	return d
}

// mountOf finds the mount on which path lies, in the process's mountinfo
// (proc(5)): the last of the longest mount points above path.
func mountOf(path string) (fsType, device, options string) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return "", "", ""
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", "", ""
	}
	defer f.Close()
	best := -1
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 3 {
			continue
		}
		point := unescape.Replace(l[4])
		if len(point) < best || !spec.Within(path, point) {
			continue
		}
		best = len(point)
		fsType, device, options = r[0], unescape.Replace(r[1]), joinOptions(l[5], r[2])
	}
	return fsType, device, options
}

// joinOptions joins a mount's own options with the file system's, each once.
func joinOptions(mount, super string) string {
	var out []string
	for o := range strings.SplitSeq(mount+","+super, ",") {
		if o != "" && !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return strings.Join(out, ",")
}

// Status implements api.Daemon.
func (d *daemon) Status(context.Context) (api.Status, error) {
	s := api.Status{
		ID: d.id(), Version: d.cfg.Version, PID: os.Getpid(),
		Listen: d.listen, StateDir: d.dir.path,
	}
	select {
	case <-d.opened:
		s.Cluster = d.store.Status().Pool.Cluster
	default:
	}
	if err := d.trouble(); err != nil {
		s.Store = err.Error()
	} else if s.Cluster != "" && d.silent() {
		s.Store = d.lost(errSilent).Error()
	} else if err := d.dir.checkSpace(); err != nil {
		s.Store = err.Error()
	}
	return s, nil
}

// describeListen is where a daemon listens, for people.
func describeListen(host string, port int) string {
	if host == "" {
		host = "*"
	}
	return host + ":" + strconv.Itoa(port)
}
