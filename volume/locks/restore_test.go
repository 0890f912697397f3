package locks

import (
	"slices"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// What is restored takes the place of all that an owner has, in one step.
func TestRestore(t *testing.T) {
	other := volume.ID{2}
	first := func(o volume.LockOwner) bool { return o.Session == owner(1).Session }
	begin := func(t *testing.T) (tab *Table, own, far *Waiter) { // owner 1 is the first session's, 17 is another's
		tab = &Table{}
		for _, l := range []volume.Lock{lock(1, ex, 0, 9), lock(1, ex, 20, 29), lock(17, sh, 40, 49)} {
			if err := tab.Set(id, l); err != nil {
				t.Fatal(err)
			}
		}
		far, err := tab.Enqueue(id, lock(17, ex, 5, 5))
		if err == nil {
			own, err = tab.Enqueue(id, lock(2, ex, 45, 45))
		}
		if err != nil || own == nil || far == nil {
			t.Fatal(own, far, err)
		}
		return tab, own, far
	}
	granted := func(w *Waiter) bool {
		select {
		case <-w.Granted():
			return true
		default:
			return false
		}
	}
	for _, tt := range []struct {
		name    string
		held    []Entry
		errno   syscall.Errno
		want    []volume.Lock
		far     bool // the other's wait is over
		waiting int
	}{
		{"the same", []Entry{{id, lock(1, ex, 0, 9)}, {id, lock(1, ex, 20, 29)}}, 0,
			[]volume.Lock{lock(1, ex, 0, 9), lock(1, ex, 20, 29), lock(17, sh, 40, 49)}, false, 1},
		{"less", []Entry{{id, lock(1, ex, 5, 5)}, {other, lock(1, sh, 1, 1)}}, 0,
			[]volume.Lock{lock(1, ex, 5, 5), lock(17, sh, 40, 49)}, false, 1},
		{"nothing in his way any more", []Entry{{id, lock(1, ex, 20, 29)}}, 0,
			[]volume.Lock{lock(17, ex, 5, 5), lock(1, ex, 20, 29), lock(17, sh, 40, 49)}, true, 0},
		{"what another has", []Entry{{id, lock(1, ex, 0, 9)}, {id, lock(1, ex, 45, 45)}}, syscall.EAGAIN,
			[]volume.Lock{lock(17, ex, 5, 5), lock(17, sh, 40, 49)}, true, 0},
		{"somebody else's", []Entry{{id, lock(17, ex, 60, 60)}}, syscall.EINVAL,
			[]volume.Lock{lock(17, ex, 5, 5), lock(17, sh, 40, 49)}, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tab, own, far := begin(t)
			if err := tab.Restore(first, tt.held); volume.ErrnoOf(err) != tt.errno {
				t.Fatalf("%v, want %v", err, tt.errno)
			}
			if got := tab.mu.files[id].held; !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
			if granted(far) != tt.far {
				t.Errorf("the other's lock: %v", granted(far))
			}
			if _, waiting := tab.Len(); waiting != tt.waiting || granted(own) {
				t.Errorf("%d wait", waiting)
			}
			tab.Drop(func(volume.LockOwner) bool { return true })
			if tab.mu.count != 0 || len(tab.mu.files) != 0 || len(tab.mu.waits) != 0 {
				t.Errorf("left: %d, %v, %v", tab.mu.count, tab.mu.files, tab.mu.waits)
			}
		})
	}
}

// Whoever changes the type of a flock has lost the old one from then on.
func TestBookChange(t *testing.T) {
	flock := func(typ volume.LockType) volume.Lock {
		return volume.Lock{Owner: owner(1), Flock: true, Type: typ, End: volume.LockEnd}
	}
	var b Book
	if b.Change(id, flock(sh)) {
		t.Error("there was none")
	}
	b.Note(id, flock(sh))
	b.Note(id, lock(1, ex, 0, 9))
	if b.Change(id, flock(sh)) || !b.Change(id, flock(ex)) || b.Change(id, flock(ex)) {
		t.Error("only another type is a change, and once")
	}
	if all := b.All(); len(all) != 1 || all[0].Lock != lock(1, ex, 0, 9) {
		t.Errorf("%v", all)
	}
}
