package dht

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// view is what the map says, ready for use. It is never changed.
type view struct {
	m       *spec.Map
	layout  *spec.Layout
	version volume.LayoutVersion
	ids     []volume.SetID // all sets, ascending
	sets    map[volume.SetID]volume.Set
	single  bool // one set: nothing is elsewhere
	minFree freeLimit
}

func newView(m *spec.Map, sets map[volume.SetID]volume.Set) (*view, error) {
	if m == nil || len(m.Layouts) == 0 || len(m.Sets) == 0 {
		return nil, volume.Errorf("map", "", syscall.EINVAL, "the map has no set or no layout")
	}
	if err := CheckLayout(m.Layouts[0]); err != nil {
		return nil, &volume.Error{Op: "map", Errno: syscall.EINVAL, Err: err}
	}
	v := &view{m: m, layout: &m.Layouts[0], version: m.Layouts[0].Version, sets: sets, single: len(m.Sets) == 1}
	for _, s := range m.Sets {
		v.ids = append(v.ids, s.ID)
	}
	slices.Sort(v.ids)
	for _, r := range v.layout.Ranges {
		if !v.has(r.Set) {
			return nil, volume.Errorf("map", "", syscall.EINVAL, "the layout names set %d, which the map has not", r.Set)
		}
	}
	if !v.has(m.RootHome) {
		return nil, volume.Errorf("map", "", syscall.EINVAL, "the root's home %d is no set of the map", m.RootHome)
	}
	v.minFree = parseFreeLimit(m.Options["cluster.min-free-disk"])
	return v, nil
}

func (v *view) has(set volume.SetID) bool {
	_, found := slices.BinarySearch(v.ids, set)
	return found
}

// owner returns the set that owns a name.
func (v *view) owner(dir volume.ID, name string) volume.SetID {
	if v.single {
		return v.ids[0]
	}
	return OwnerOf(v.layout, Hash(dir, name))
}

// home returns the home set of a directory: the one that its ID was born on,
// the root's, and what an ID without a set of this volume gets, from the map.
func (v *view) home(dir volume.ID) volume.SetID {
	if b := dir.Born(); dir != volume.Root && v.has(b) {
		return b
	}
	return v.m.RootHome
}

// set returns the set's other side, or an Unavailable error.
func (v *view) set(op string, id volume.SetID) (volume.Set, error) {
	if s := v.sets[id]; s != nil {
		return s, nil
	}
	return nil, unavailable(op, id)
}

// up reports whether set can be asked.
func (v *view) up(id volume.SetID) bool {
	s := v.sets[id]
	return s != nil && s.Up()
}

// several reports whether a set has members that can serve it in one another's place.
func (v *view) several(id volume.SetID) bool {
	i := slices.IndexFunc(v.m.Sets, func(s spec.Set) bool { return s.ID == id })
	return i >= 0 && len(v.m.Sets[i].Members) > 1
}

// comesUp reports whether a set can be asked: a set of several members soon, when
// another of them has taken over, for which it waits until ctx ends; a single brick now, or not.
func (v *view) comesUp(ctx context.Context, id volume.SetID) bool {
	if v.up(id) || !v.several(id) {
		return v.up(id)
	}
	t := time.NewTicker(lookAgain)
	defer t.Stop()
	for !v.up(id) {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
		}
	}
	return true
}

// ask sends a set a step. Steps fail at once while nobody serves their set; of a set with several members another takes over
// then, for which it waits until ctx ends: a step may be repeated.
func (v *view) ask(ctx context.Context, set volume.SetID, step []byte) ([]byte, error) {
	s, err := v.set("step", set)
	if err != nil {
		return nil, err
	}
	b, err := s.Step(ctx, step)
	for err != nil && v.several(set) && volume.ReasonOf(err) == volume.Unavailable && waited(ctx, lookAgain) && v.comesUp(ctx, set) {
		b, err = s.Step(ctx, step)
	}
	return b, err
}

// waited waits; false: ctx has ended before.
func waited(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// lookAgain is how often it is looked whether a set can be asked again.
const lookAgain = 20 * time.Millisecond

func unavailable(op string, set volume.SetID) error {
	return &volume.Error{Op: op, Where: "set " + strconv.Itoa(int(set)), Errno: syscall.EIO, Reason: volume.Unavailable}
}

// freeLimit is cluster.min-free-disk: a share of the disk, or bytes.
type freeLimit struct {
	percent float64
	bytes   uint64
}

// low reports whether a disk is below the limit.
func (f freeLimit) low(s volume.Statfs) bool {
	if f.percent > 0 {
		return float64(s.Available) < float64(s.Total)*f.percent/100
	}
	return s.Available < f.bytes
}

func (f freeLimit) off() bool { return f.percent == 0 && f.bytes == 0 }

// parseFreeLimit reads "10%", "5GB", "500MiB" or bytes; the table of options
// has checked it, and what can't be read counts as no limit. Units are powers
// of 1024, as GlusterFS has them. Without a value it is GlusterFS's 10%.
func parseFreeLimit(s string) freeLimit {
	s = strings.ToUpper(strings.TrimSpace(s))
	if s == "" {
		return freeLimit{percent: 10}
	}
	if p, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.ParseFloat(strings.TrimSpace(p), 64)
		if err != nil || n < 0 || n > 100 {
			return freeLimit{}
		}
		return freeLimit{percent: n}
	}
	num := strings.TrimRight(s, "BIKMGTP ")
	unit := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(s[len(num):]), "B"), "I")
	n, err := strconv.ParseFloat(num, 64)
	shift := strings.Index("KMGTP", unit)
	if err != nil || n < 0 || len(unit) > 1 || shift < 0 {
		return freeLimit{}
	}
	if unit != "" {
		n *= float64(uint64(1) << (10 * (shift + 1)))
	}
	if n >= 1<<63 {
		return freeLimit{}
	}
	return freeLimit{bytes: uint64(n)}
}

// Small helpers for errors.

func isErrno(err error, errno syscall.Errno) bool { return err != nil && volume.ErrnoOf(err) == errno }

// isStale: the object or directory is not here; not: you are outdated.
func isStale(err error) bool {
	return isErrno(err, syscall.ESTALE) && volume.ReasonOf(err) != volume.Outdated
}

func isOutdated(err error) bool { return err != nil && volume.ReasonOf(err) == volume.Outdated }

// isUnsure: the other side may or may not have done it, or can't be asked.
func isUnsure(err error) bool {
	switch volume.ErrnoOf(err) {
	case syscall.EIO, syscall.ETIMEDOUT, syscall.EINTR:
		return true
	}
	return false
}

func fail(op, where string, errno syscall.Errno) error {
	return &volume.Error{Op: op, Where: where, Errno: errno}
}
