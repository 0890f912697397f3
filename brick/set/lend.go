package set

import (
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/window"
	"github.com/mortarfs/mortar/volume"
)

// Reads past the set. A client on the primary's machine may read a file's contents from the primary's own member, by a
// descriptor. What it reads counts on the same conditions on which ask lets an answer out: nothing is under way
// with it, and the lease holds afterwards. It finds that out in the reign's window (package brick/window,
// which has the proof); what has to be in which order here is
//
//	takeOff     counts the change up, under reign.mu: before it is recorded, applied or sent
//	landLocked  counts it down: when all members in sync have it, or none, or the reign is over
//	depose      shuts the window under reign.mu, before anything is landed that not all have
//	levelLast   shortens the time that the window tells before the new member can get its seat
//	mending     what a comparison mends of the primary's own contents is no change, and is counted all the same
//
// The contents of a member change in no other way while it reigns: alignment, healing and
// settling change others, or come before it serves, and what removes an object leaves its contents to who has it open.

// lentMax is how many objects can be lent at a time; others are read by requests.
const lentMax = 4096

// openWindow makes the reign's window. Without one it reigns as well.
func (r *reign) openWindow() {
	w, err := window.New(lentMax)
	if err != nil {
		r.log.Warn("clients on this machine can't read by themselves", "error", err)
		return
	}
	r.window = w
}

// tenureOf is when the lease ends that these backups have answered for.
func tenureOf(backups []*backup) time.Duration {
	until := Forever
	for _, b := range backups {
		until = min(until, time.Duration(b.answered.Load())+Lease)
	}
	return until
}

// extendLocked tells the window until when reads may be answered.
func (r *reign) extendLocked() {
	if r.window != nil && r.mu.why == "" {
		r.window.SetUntil(tenureOf(r.mu.backups))
	}
}

// launchLocked enters a change among those in flight.
func (r *reign) launchLocked(fl *flight) {
	r.mu.flying[fl.seq] = fl
	for i := range fl.keys {
		if k := &fl.keys[i]; k.Kind == ExtentKey {
			r.window.Begin(k.ID)
		}
	}
}

// landLocked takes a change out of those in flight, if it is one.
func (r *reign) landLocked(fl *flight) {
	if r.mu.flying[fl.seq] != fl {
		return
	}
	delete(r.mu.flying, fl.seq)
	for i := range fl.keys {
		if k := &fl.keys[i]; k.Kind == ExtentKey {
			r.window.End(k.ID)
		}
	}
}

// mending is healConfig's.
func (r *reign) mending(id volume.ID) (mended func()) {
	r.window.Begin(id)
	return func() { r.window.End(id) }
}

// Share implements volume.Sharer.
func (f *file) Share() (shared volume.Shared, err error) {
	lender, ok := volume.SharerOf(f.local)
	if !ok || f.r.window == nil {
		return shared, &volume.Error{Op: "share", Where: f.id.String(), Errno: syscall.EOPNOTSUPP}
	}
	if shared, err = lender.Share(); err != nil {
		return shared, err
	}
	if err = f.lend(&shared); err != nil {
		shared.Close()
		return volume.Shared{}, err
	}
	return shared, nil
}

// lend gives a descriptor of the file the window, and the object a word of it, which it has until the file is closed.
func (f *file) lend(shared *volume.Shared) (err error) {
	r := f.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.why != "" {
		return notPrimary("share")
	}
	slot, ok := r.window.Take(f.id)
	if !ok {
		return volume.Errorf("share", f.id.String(), syscall.ENFILE, "%d files are lent already", lentMax)
	}
	if f.lent {
		r.window.Give(f.id)
	}
	f.lent = true
	shared.Slot = slot
	shared.Window, err = r.window.File()
	return err
}
