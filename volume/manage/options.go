package manage

import (
	"context"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// allVolumes in place of a volume's name means the cluster-wide options.
const allVolumes = "all"

// Bounds of an option's stored form, in bytes, and of their number.
const (
	pairsMax = 1024
	valueMax = 4096
)

// alterAttempts bounds how often a change of options is tried while others'
// changes come first. Each server lets one change of a volume through at a time,
// so that many servers may change the same one's at once.
const alterAttempts = 50

// VolumeSet implements api.Daemon. All pairs are checked before any is set, and
// set in one transaction.
func (d *daemon) VolumeSet(ctx context.Context, r api.SetRequest) (api.SetReply, error) {
	settings, notes, err := checkPairs(r)
	if err != nil {
		return api.SetReply{}, err
	}
	return change(ctx, d, r.Name, func(ctx context.Context) (api.SetReply, error) {
		return api.SetReply{Notes: notes}, d.alter(ctx, r.Name, func(old []spec.Setting) []spec.Setting {
			return merge(old, settings)
		})
	})
}

// checkPairs checks the pairs of a request and gives the options their full names.
func checkPairs(r api.SetRequest) (settings []spec.Setting, notes []string, err error) {
	if len(r.Pairs) == 0 || len(r.Pairs)%2 != 0 || len(r.Pairs) > 2*pairsMax {
		return nil, nil, refuse("Options are set in pairs of a key and a value, not with %d words.", len(r.Pairs))
	}
	for p := range slices.Chunk(r.Pairs, 2) {
		o, err := spec.Lookup(p[0])
		if err != nil {
			return nil, nil, refuse("%v", err)
		}
		if len(p[1]) > valueMax {
			return nil, nil, refuse("The value of option %s has %d bytes, more than %d.", o.Name, len(p[1]), valueMax)
		}
		if err := o.Check(p[1]); err != nil {
			return nil, nil, refuse("%v", err)
		}
		if o.Global != (r.Name == allVolumes) {
			if o.Global {
				return nil, nil, refuse("Option \"%s\" is not a valid volume option: it is the cluster's, set it with `volume set all`.", o.Name)
			}
			return nil, nil, refuse("Option \"%s\" is not a valid global option: set it for a volume.", o.Name)
		}
		if !o.Effect {
			notes = append(notes, "Option "+o.Name+" is stored and shown, but has no effect in Mortar.")
		}
		settings = append(settings, spec.Setting{Name: o.Name, Value: p[1]})
	}
	return settings, notes, nil
}

// merge sets options among those that were set: one that is set anew goes to the end.
func merge(old, settings []spec.Setting) []spec.Setting {
	out := slices.Clone(old)
	for _, s := range settings {
		out = slices.DeleteFunc(out, func(o spec.Setting) bool { return o.Name == s.Name })
		out = append(out, s)
	}
	return out
}

// VolumeReset implements api.Daemon.
func (d *daemon) VolumeReset(ctx context.Context, r api.ResetRequest) (api.SetReply, error) {
	name := ""
	if r.Option != "" && r.Option != "all" {
		o, err := spec.Lookup(r.Option)
		if err != nil {
			return api.SetReply{}, refuse("%v", err)
		}
		name = o.Name
	}
	return change(ctx, d, r.Name, func(ctx context.Context) (api.SetReply, error) {
		return api.SetReply{}, d.alter(ctx, r.Name, func(old []spec.Setting) []spec.Setting {
			return slices.DeleteFunc(slices.Clone(old), func(s spec.Setting) bool { return resets(s, name, r.Force) })
		})
	})
}

// resets reports whether a reset of the named option, "" all, takes s back.
// Sticky options stay in a reset of all without force.
func resets(s spec.Setting, name string, force bool) bool {
	if name != "" {
		return s.Name == name
	}
	o, err := spec.Lookup(s.Name)
	return force || err != nil || !o.Sticky
}

// alter changes the options of a volume, or the cluster's, in one transaction.
// They are no affair of the bricks' directories and processes, so no task is needed.
// When another server's change came first, f is applied to what that has left; a
// task that is under way means busy.
func (d *daemon) alter(ctx context.Context, name string, f func([]spec.Setting) []spec.Setting) error {
	for range alterAttempts {
		if err := d.alterOnce(ctx, name, f); err != errConflict {
			return err
		}
		if d.view.now().tasks[name] != nil {
			break
		}
	}
	return busy(name)
}

// alterOnce is alter with errConflict when another change came first.
func (d *daemon) alterOnce(ctx context.Context, name string, f func([]spec.Setting) []spec.Setting) error {
	if name == allVolumes {
		snap, err := d.fresh(ctx)
		if err != nil {
			return err
		}
		same := clientv3.Compare(clientv3.CreateRevision(optionsKey), "=", 0)
		if snap.cluster.V != 0 {
			same = clientv3.Compare(clientv3.Value(optionsKey), "=", encode(snap.cluster))
		}
		c := &clusterRecord{V: recordVersion, Options: f(snap.cluster.Options)}
		_, err = d.commit(ctx, "set", []clientv3.Cmp{same}, clientv3.OpPut(optionsKey, encode(c)))
		return err
	}
	old, err := d.existing(ctx, name)
	if err != nil {
		return err
	}
	v := old.clone()
	v.Options = f(v.Options)
	if err := spec.CheckVolume(v.options(), max(v.Replica, 1)); err != nil {
		return refuse("%v", err)
	}
	_, err = d.commit(ctx, "set", []clientv3.Cmp{noTask(name), unchanged(old)}, putVolume(v))
	return err
}

// VolumeGet implements api.Daemon.
func (d *daemon) VolumeGet(ctx context.Context, r api.GetRequest) ([]api.OptionValue, error) {
	snap, err := d.look(ctx)
	if err != nil {
		return nil, err
	}
	set := map[string]string{}
	list := spec.ListCluster
	if r.Name == allVolumes {
		for _, s := range snap.cluster.Options {
			set[s.Name] = s.Value
		}
	} else {
		v := snap.volume(r.Name)
		if v == nil {
			return nil, noVolume(r.Name)
		}
		set, list = v.options(), spec.List
		for _, s := range spec.Implied(v.Replica) {
			if _, ok := set[s.Name]; !ok {
				set[s.Name] = s.Value
			}
		}
	}
	shown := []spec.Shown{}
	if r.Key == "all" || r.Key == "" {
		shown = list(set)
	} else {
		s, err := spec.Get(r.Key, set)
		if err != nil {
			return nil, refuse("%v", err)
		}
		shown = append(shown, s)
	}
	out := make([]api.OptionValue, len(shown))
	for i, s := range shown {
		out[i] = api.OptionValue{Name: s.Name, Value: s.Value, Default: s.Default}
	}
	return out, nil
}
