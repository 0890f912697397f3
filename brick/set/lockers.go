package set

import (
	"context"
	"maps"
	"slices"
	"sync"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// The sessions that may hold locks are known to all members in sync, each of
// which has them on its disk. The locks themselves are in the memory of the
// primary's server; who becomes primary lets these sessions, and no others, declare
// theirs again (brick/server/locker.go). A change of the list is told like any other change: as one
// that takes off, so that a member that is being aligned gets it with the list that it is handed or
// by itself, but always whole, since it is short, and it has no place in the operation log.

// LockerStore keeps the list on the disk: brick.Store.
type LockerStore interface {
	Lockers() ([][16]byte, error)
	KeepLockers(sessions [][16]byte) error
}

// lockersMax bounds the list: all of it goes into a message.
const lockersMax = 4096

// lockers is the list at a member.
type lockers struct {
	store LockerStore // nil: it is not kept
	mu    struct {
		sync.Mutex
		ids     map[[16]byte]bool
		epoch   Epoch  // of the primary that told it last
		version uint64 // of its list
	}
}

func (k *lockers) init(store LockerStore) error {
	k.store = store
	k.mu.ids = map[[16]byte]bool{}
	if store == nil {
		return nil
	}
	ids, err := store.Lockers()
	for _, id := range ids {
		k.mu.ids[id] = true
	}
	return err
}

// list returns the list and its version.
func (k *lockers) list() ([][16]byte, uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.listLocked(), k.mu.version
}

func (k *lockers) listLocked() [][16]byte {
	return slices.SortedFunc(maps.Keys(k.mu.ids), func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
}

// keepLocked makes ids the list, on the disk first.
func (k *lockers) keepLocked(ids map[[16]byte]bool) error {
	old := k.mu.ids
	k.mu.ids = ids
	if k.store == nil || maps.Equal(old, ids) {
		return nil
	}
	err := k.store.KeepLockers(k.listLocked())
	if err != nil {
		k.mu.ids = old
	}
	return err
}

// set adds a session to the list, or takes it out.
func (k *lockers) set(id [16]byte, in bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	ids := maps.Clone(k.mu.ids)
	if in {
		ids[id] = true
	} else {
		delete(ids, id)
	}
	if len(ids) > lockersMax {
		return volume.Errorf("lock", "", syscall.ENOLCK, "%d clients have locks", lockersMax)
	}
	k.mu.version++
	return k.keepLocked(ids)
}

// take takes over the list of a primary.
func (k *lockers) take(epoch Epoch, r *reader) error {
	version, list := r.u64(), r.sessions()
	if !r.done() {
		return malformed("lockers")
	}
	ids := map[[16]byte]bool{}
	for _, id := range list {
		ids[id] = true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if epoch < k.mu.epoch || epoch == k.mu.epoch && version <= k.mu.version {
		return nil
	}
	if err := k.keepLocked(ids); err != nil {
		return err
	}
	k.mu.epoch, k.mu.version = epoch, version
	return nil
}

// message tells the list to a backup.
func (k *lockers) message(epoch Epoch) []byte {
	ids, version := k.list()
	w := begin(msgLockers, epoch)
	w.u64(version)
	w.sessions(ids)
	return w.b
}

func (w *writer) sessions(ids [][16]byte) {
	w.u32(uint32(len(ids)))
	for _, id := range ids {
		w.id(id)
	}
}

func (r *reader) sessions() [][16]byte {
	n := r.u32()
	if n > lockersMax || int(n)*16 > len(r.b) {
		r.bad = true
		return nil
	}
	ids := make([][16]byte, n)
	for i := range ids {
		ids[i] = r.id()
	}
	return ids
}

// LockerRecord is the list as a reign may change it, and only it: what somebody had in
// mind in an earlier one does not reach into a later one.
type LockerRecord struct{ r *reign }

// Lockers returns the sessions that may hold locks.
func (l LockerRecord) Lockers() ([][16]byte, error) {
	ids, _ := l.r.s.lockers.list()
	return ids, nil
}

// AddLocker returns when all members in sync know, for good, that a session may hold
// locks. It fails with Reason NotPrimary after the reign.
func (l LockerRecord) AddLocker(ctx context.Context, id [16]byte) error {
	return l.r.setLocker(ctx, id, true)
}

// RemoveLocker returns when all know that it does not. It may be repeated.
func (l LockerRecord) RemoveLocker(ctx context.Context, id [16]byte) error {
	return l.r.setLocker(ctx, id, false)
}

func (r *reign) setLocker(ctx context.Context, id [16]byte, in bool) error {
	flights := r.takeOff(&change{kind: doSync}) // which touches nothing
	if flights == nil {
		return r.refuse("lock")
	}
	fl := flights[0]
	err := r.s.lockers.set(id, in)
	r.appliedHere(fl)
	if err != nil {
		r.land(fl)
		return err
	}
	var sending delivery
	r.send(&sending, fl, r.s.lockers.message(r.epoch), nil)
	if err := sending.wait(); err != nil {
		if r.deposed() {
			r.land(fl)
			return r.refuse("lock")
		}
		r.abandon(fl)
		return unavailable("lock", "%w", err)
	}
	r.land(fl)
	return r.lease(ctx, "lock")
}
