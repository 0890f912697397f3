package dht

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// prepare makes a world for a scenario and brings it to rest.
func prepare(t *testing.T, s scenario) (w *world, before string) {
	w = newWorld(t)
	s.setup(w)
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatalf("after setup: %v", wrong)
	}
	return w, w.snapshot()
}

// settled brings the world to rest and compares it with what may have become of
// it. changed is whether the operation happened, as a look at the tree tells.
func (w *world) settled(before string, err error) (changed bool) {
	w.t.Helper()
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		w.t.Fatalf("operation gave %v; the volume is wrong:\n%v", err, wrong)
	}
	if w.born != "" {
		w.wholeBorn()
	}
	after := w.snapshot()
	changed = after != before
	if err == nil && !changed {
		w.t.Fatalf("operation succeeded, and nothing changed: %s", after)
	}
	if err != nil && !isUnsure(err) && changed {
		w.t.Fatalf("operation failed with %v, and changed\n%s to\n%s", err, before, after)
	}
	return changed
}

// again runs the operation until it has happened: nothing that a crash left may be in its way. No step of it is lost now, but
// one may take longer than the short time that it has here; then it is not known what became of it, and the tree tells.
func (w *world) again(s scenario, before string, changed bool) {
	w.t.Helper()
	for began := time.Now(); !changed; {
		err := s.run(w)
		if err != nil && (!isUnsure(err) || time.Since(began) > time.Minute) {
			w.t.Fatalf("after the recovery: %v", err)
		}
		changed = w.settled(before, err)
	}
}

func TestScenarios(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			w, before := prepare(t, s)
			w.settled(before, s.run(w))
		})
	}
}

// TestCrash ends each node's process before each change of its store that an
// operation makes, restarts it, and looks at what became of the volume.
func TestCrash(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			for set := volume.SetID(1); set <= 3; set++ {
				for at := int64(1); ; at++ {
					if !crashAt(t, s, set, at) {
						break
					}
				}
			}
		})
	}
}

// crashAt reports whether the node got that far.
func crashAt(t *testing.T, s scenario, set volume.SetID, at int64) (hit bool) {
	t.Run(fmt.Sprintf("set %d change %d", set, at), func(t *testing.T) {
		w, before := prepare(t, s)
		n := w.nodes[set]
		f := &fault{}
		f.left.Store(at)
		n.fault.Store(f)
		err := w.request(s)
		if !f.hit.Load() && err == nil {
			w.rest(f)
		}
		hit = f.hit.Load()
		n.fault.Store(nil)
		if hit {
			n.restart()
		}
		said := w.asked()
		changed := w.settled(before, err)
		w.outcome(said, changed, err)
		w.again(s, before, changed)
	})
	return hit && !t.Failed()
}

// rest waits until the volume is at rest or the fault has hit.
func (w *world) rest(f *fault) {
	for !f.hit.Load() && w.unrest() != "" {
		w.pause()
	}
}

// TestLostMessages loses each request, and each answer, between sets once.
func TestLostMessages(t *testing.T) {
	for _, s := range scenarios() {
		for _, reply := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s reply %v", s.name, reply), func(t *testing.T) {
				for n := 1; n <= 40 && loseAt(t, s, n, reply); n++ {
				}
			})
		}
	}
}

func loseAt(t *testing.T, s scenario, n int, reply bool) (hit bool) {
	t.Run(fmt.Sprint(n), func(t *testing.T) {
		w, before := prepare(t, s)
		var mu sync.Mutex
		count := 0
		net := network(func(_ *life, _ volume.SetID, _ []byte, send func() ([]byte, error)) ([]byte, error) {
			mu.Lock()
			count++
			lose := count == n
			hit = hit || lose
			mu.Unlock()
			if lose && !reply {
				return nil, errDown
			}
			b, err := send()
			if lose {
				return nil, errDown
			}
			return b, err
		})
		w.net.Store(&net)
		err := w.request(s)
		w.quiet()
		w.net.Store(nil)
		said := w.asked()
		changed := w.settled(before, err)
		w.outcome(said, changed, err)
		w.again(s, before, changed)
	})
	return hit && !t.Failed()
}

// TestDuplicates delivers every step of an operation again when all is over.
func TestDuplicates(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			w, before := prepare(t, s)
			type sent struct {
				to volume.SetID
				b  []byte
			}
			var mu sync.Mutex
			var all []sent
			net := network(func(_ *life, to volume.SetID, b []byte, send func() ([]byte, error)) ([]byte, error) {
				mu.Lock()
				all = append(all, sent{to, b})
				mu.Unlock()
				return send()
			})
			w.net.Store(&net)
			w.settled(before, s.run(w))
			w.net.Store(nil)
			after := w.snapshot()
			for i := range all {
				for _, one := range []sent{all[i], all[len(all)-1-i]} {
					st, err := decodeStep(one.b)
					if err != nil {
						t.Fatal(err)
					}
					if st.op == opCopy {
						continue // see TestLateCopies
					}
					w.nodes[one.to].owner().Step(w.ctx, one.b)
				}
			}
			w.quiet()
			if wrong := w.check(); len(wrong) > 0 {
				t.Fatal(wrong)
			}
			if now := w.snapshot(); now != after {
				t.Fatalf("late steps changed\n%s to\n%s", after, now)
			}
		})
	}
}

// TestLateCopies delivers the making of a directory's copies after its removal.
// What that leaves on a set is dead: nobody sees it, and it is in nobody's way.
func TestLateCopies(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	var late []func()
	net := network(func(_ *life, to volume.SetID, b []byte, send func() ([]byte, error)) ([]byte, error) {
		if st, err := decodeStep(b); err == nil && st.op == opCopy {
			mu.Lock()
			late = append(late, func() { w.nodes[to].owner().Step(w.ctx, b) })
			mu.Unlock()
		}
		return send()
	})
	w.net.Store(&net)
	parent := w.mkdir(w.dir, 1, "p")
	id := w.ids["p"]
	child := w.mkdir(id, 1, "c")
	w.net.Store(nil)
	w.must(w.fs.Rmdir(w.ctx, id, child))
	for _, f := range late {
		f()
	}
	if a, err := w.fs.Lookup(w.ctx, id, child); !isErrno(err, syscall.ENOENT) {
		t.Fatalf("a removed directory is there: %v %v", a.ID, err)
	}
	a, err := w.fs.Make(w.ctx, id, child, volume.Node{Mode: syscall.S_IFDIR | 0o755})
	w.must(err)
	for _, f := range late {
		f()
	}
	if got := w.lookup(id, child); got != a.ID {
		t.Fatalf("%v was looked up, %v was made", got, a.ID)
	}
	w.must(w.fs.Rmdir(w.ctx, id, child))
	for _, f := range late {
		f()
	}
	w.must(w.fs.Rmdir(w.ctx, w.dir, parent))
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
}
