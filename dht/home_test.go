package dht

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// drop has the network lose all steps of some kinds to a set (0: to any) until
// the returned function is called.
func (w *world) drop(to volume.SetID, ops ...op) (stop func()) {
	var over atomic.Bool
	net := network(func(_ *life, set volume.SetID, b []byte, send func() ([]byte, error)) ([]byte, error) {
		st, err := decodeStep(b)
		for _, op := range ops {
			if err == nil && st.op == op && (to == 0 || set == to) && !over.Load() {
				return nil, errDown
			}
		}
		return send()
	})
	w.net.Store(&net)
	return func() { over.Store(true) }
}

// taken reports whether a name in dir is locked at its owner.
func (w *world) taken(owner volume.SetID, name string) bool {
	o, k := w.nodes[owner].owner(), nameKey{w.dir, name}
	if o.names.lock(w.ctx, k, false, false) != nil {
		return true
	}
	o.names.unlock(k)
	return false
}

// TestHomeToldFirst moves directories whose home can't be told that they were.
// Their names stay held and no other set moves its copy until the home knows: it
// is the home that all sets go by. Names given free before that led to copies
// in an old place for good: the coordinator did not know then whether the move
// still stood, where it was of an exchange's second directory, or of one with a file.
func TestHomeToldFirst(t *testing.T) {
	for _, what := range []string{"rename", "exchange", "exchange with file", "exchange of file"} {
		for home := volume.SetID(1); home <= 3; home++ {
			for _, old := range []volume.SetID{1, 3} {
				t.Run(fmt.Sprintf("%s of %d's by 1, old name %d's", what, home, old), func(t *testing.T) { homeAway(t, what, home, old) })
			}
		}
	}
}

func homeAway(t *testing.T, what string, home, oldOwner volume.SetID) {
	w := newWorld(t)
	from, to, flags := "", "", volume.RenameExchange
	switch what {
	case "rename":
		from, to, flags = w.movedDir(w.dir, oldOwner, home, "d"), w.owned(w.dir, 1, "new"), 0
	case "exchange":
		from, to = w.mkdir(w.dir, oldOwner, "e"), w.movedDir(w.dir, 1, home, "d")
	case "exchange with file":
		from, to = w.movedDir(w.dir, oldOwner, home, "d"), w.pointed(w.dir, 1, 3, "f")
	case "exchange of file":
		from, to = w.pointed(w.dir, oldOwner, 2, "f"), w.movedDir(w.dir, 1, home, "d")
	}
	w.quiet()
	stop := w.drop(home, opFinish)
	if err := w.fs.Rename(w.ctx, w.dir, from, w.dir, to, flags); err != nil {
		t.Fatal(err)
	}
	if home != 1 && !w.taken(1, to) {
		t.Error("the new name is free, and the home does not know of it")
	}
	if home != 1 && !w.taken(oldOwner, from) {
		t.Error("the old name is free, and the home does not know of it")
	}
	stop()
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
}

// TestHomeDown: a directory whose home is down can't be moved; nothing changes.
func TestHomeDown(t *testing.T) {
	w := newWorld(t)
	d, e, to := w.movedDir(w.dir, 1, 2, "d"), w.mkdir(w.dir, 1, "e"), w.owned(w.dir, 1, "new")
	w.quiet()
	w.nodes[2].halt()
	if err := w.fs.Rename(w.ctx, w.dir, d, w.dir, to, 0); !isUnsure(err) {
		t.Errorf("rename: %v", err)
	}
	if err := w.fs.Rename(w.ctx, w.dir, e, w.dir, d, volume.RenameExchange); !isUnsure(err) {
		t.Errorf("exchange: %v", err)
	}
	w.nodes[2].start()
	w.quiet()
	if got := w.lookup(w.dir, d); got != w.ids["d"] {
		t.Errorf("%s leads to %v", d, got)
	}
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
}

// TestNamesAfterRestart ends the coordinator's process while an intent about two
// names of its own is not carried out, or not undone, and looks whether the next
// life holds both. When it held the first only, another operation could have the
// second, and what was repeated of the intent took that one's entries for its own.
//
// With rival, another intent of the last life is about the second name, too, which
// never had it: its end must not set the name free.
func TestNamesAfterRestart(t *testing.T) {
	for _, what := range []string{"rename", "exchange", "directory"} {
		for _, rival := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s rival %v", what, rival), func(t *testing.T) { restartBetween(t, what, rival, opFinish) })
		}
	}
	t.Run("undecided exchange", func(t *testing.T) { restartBetween(t, "exchange", false, opApply, opAbort) })
}

func restartBetween(t *testing.T, what string, rival bool, lost ...op) {
	w := newWorld(t)
	from, to, flags := "", w.owned(w.dir, 1, "new"), volume.RenameFlags(0)
	switch what {
	case "rename", "exchange":
		from, to = w.pointed(w.dir, 1, 2, "f"), w.pointed(w.dir, 1, 3, "g")
	case "directory":
		from = w.movedDir(w.dir, 1, 2, "d")
	}
	if what == "exchange" {
		flags = volume.RenameExchange
	}
	w.quiet()
	open := 1
	if rival {
		open++
		w.rival(from)
	}
	stop := w.drop(0, append(lost, opAbort)...)
	if err := w.fs.Rename(w.ctx, w.dir, from, w.dir, to, flags); (lost[0] == opFinish) != (err == nil) {
		t.Fatal(err)
	}
	w.nodes[1].restart()
	if n := w.active(1); n != open {
		t.Errorf("%d intents are open after the restart", n)
	}
	if rival {
		stop()
		stop = w.drop(0, lost...)
		for w.active(1) > 1 && w.ctx.Err() == nil {
			w.pause()
		}
	}
	if !w.taken(1, from) || !w.taken(1, to) {
		t.Errorf("free after the restart: old name %v, new name %v", !w.taken(1, from), !w.taken(1, to))
	}
	done := make(chan error, 1)
	go func() { // who comes for the old name waits
		_, err := w.client().Make(w.ctx, w.dir, from, volume.Node{Mode: syscall.S_IFDIR | 0o755})
		done <- err
	}()
	stop()
	if err := <-done; err != nil && !isErrno(err, syscall.EEXIST) {
		t.Error(err)
	}
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
}

// rival leaves an intent of set 1 about a name that it never had: it waited for the
// other name, in vain, and can't tell the others that it was given up.
func (w *world) rival(name string) {
	w.t.Helper()
	other := w.file(w.dir, 2, "a") // before name, so it waits for this one first
	o := w.nodes[2].owner()
	w.must(o.names.lock(w.ctx, nameKey{w.dir, other}, false, false))
	defer o.names.unlock(nameKey{w.dir, other})
	w.drop(0, opAbort)
	if err := w.fs.Rename(w.ctx, w.dir, other, w.dir, name, volume.RenameNoReplace); err == nil {
		w.t.Fatal("a rename of a name that is taken succeeded")
	}
	if n := w.active(1); n != 1 || w.taken(1, name) {
		w.t.Fatalf("%d intents are open, the name is taken: %v", n, w.taken(1, name))
	}
}

// active counts the intents of a set that are not finished.
func (w *world) active(set volume.SetID) int {
	o := w.nodes[set].owner()
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.mu.active)
}

// TestExchangeWhereBehind exchanges two directories where a set has one of them
// still in the place before its last: that one has to go where the other is. The
// coordinator has started anew, so it does not rest until that set is done.
func TestExchangeWhereBehind(t *testing.T) {
	for _, behind := range []string{"x", "y", "x and z"} {
		t.Run(behind, func(t *testing.T) {
			w := newWorld(t)
			x, y, z := w.movedDir(w.dir, 1, 2, "x"), w.mkdir(w.dir, 1, "y"), w.mkdir(w.dir, 1, "z")
			w.quiet()
			stop := w.drop(0, opFinish)
			w.must(w.fs.Rename(w.ctx, w.dir, x, w.dir, y, volume.RenameExchange))
			store, late := w.nodes[3].store, x
			if behind == "y" {
				late = y
			}
			w.must(store.Rename(w.ctx, w.dir, late, w.sub, "late", volume.RenameNoReplace))
			if behind == "x and z" { // a third one is still where x was before
				w.must(store.Rename(w.ctx, w.dir, z, w.dir, x, volume.RenameNoReplace))
			}
			w.nodes[1].restart()
			stop()
			w.quiet()
			if wrong := w.check(); len(wrong) > 0 {
				t.Fatal(wrong)
			}
		})
	}
}

// TestBehindCoordinator: an exchange by set 2 moved a directory to a name of set
// 1's. While set 2 was away set 1 moved it on. Set 2 starts anew, finds its exchange
// recorded, and its own copy of set 1's name as that left it; it must not tell the
// home, which knows better, to move it back.
func TestBehindCoordinator(t *testing.T) {
	for _, what := range []string{"file", "directory"} {
		t.Run(what, func(t *testing.T) {
			w := newSlow(t)
			dir, other := w.movedDir(w.dir, 2, 3, "d"), w.file(w.dir, 1, "f")
			if what == "directory" {
				other = w.movedDir(w.dir, 1, 2, "f")
			}
			free := w.owned(w.dir, 1, "free")
			w.must(w.fs.Rename(w.ctx, w.dir, other, w.dir, dir, volume.RenameExchange))
			var told atomic.Int64 // by set 2, of which intent the home
			net := network(func(_ *life, to volume.SetID, b []byte, send func() ([]byte, error)) ([]byte, error) {
				st, err := decodeStep(b)
				if err == nil && st.op == opFinish && to == 2 {
					return nil, errDown
				}
				r, rerr := send()
				if err == nil && st.op == opFinish && to == 3 && st.from == 2 && rerr == nil {
					told.Add(1)
				}
				return r, rerr
			})
			w.net.Store(&net)
			w.must(w.fs.Rename(w.ctx, w.dir, other, w.dir, free, 0))
			told.Store(0)
			w.nodes[2].restart()
			for told.Load() < w.finished(2) && w.ctx.Err() == nil {
				w.pause()
			}
			dirID, name, err := w.nodes[3].store.Path(w.ctx, w.ids["d"])
			if err != nil || dirID != w.dir || name != free {
				t.Fatalf("the home has it as %v/%s: %v", dirID, name, err)
			}
		})
	}
}

// finished counts the intents of a set that are finished, but not known to be durable.
func (w *world) finished(set volume.SetID) int64 {
	o := w.nodes[set].owner()
	o.mu.Lock()
	defer o.mu.Unlock()
	return int64(len(o.mu.finished))
}
