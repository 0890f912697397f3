package dht

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

var longAgo = volume.Time{Sec: 1400000001, Nsec: 5}

// hasTime reports an error unless all say of a directory that its mtime is longAgo.
func (w *world) hasTime(t *testing.T, dir volume.ID) {
	t.Helper()
	if a, err := w.client().Getattr(w.ctx, dir); err != nil || a.Mtime != longAgo {
		t.Errorf("mtime %v, want %v; error %v", a.Mtime, longAgo, err)
	}
}

// ofSeveral makes a world whose sets have several members each, so that one that is away comes back.
func ofSeveral(t *testing.T) *world {
	c := &cluster{}
	c.init(t, 3, false)
	for i := range c.m.Sets {
		c.m.Sets[i].Members = make([]spec.Member, 2)
	}
	return newWorldOf(t, c)
}

// TestTimesReachWhoFailsOver sets the time of a directory while another set, in which names were made in it, fails over. That
// set was left out, and its own, later, time was the directory's when it was back.
func TestTimesReachWhoFailsOver(t *testing.T) {
	w := ofSeveral(t)
	w.mkdir(w.dir, 1, "d")
	dir := w.ids["d"]
	w.file(dir, 2, "f")
	w.nodes[2].halt()
	done := make(chan error, 1)
	go func() {
		_, err := w.fs.Setattr(w.ctx, dir, volume.Change{Mask: volume.SetMtime, Mtime: longAgo})
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("it did not wait for the set: %v", err)
		done <- err
	case <-time.After(5 * lookAgain):
	}
	w.nodes[2].start()
	w.must(<-done)
	w.hasTime(t, dir)
}

// TestTimesThatCantBeTold fails rather than set the time of a directory without a set that does not come back.
func TestTimesThatCantBeTold(t *testing.T) {
	w := ofSeveral(t)
	w.nodes[2].halt()
	defer w.nodes[2].start()
	ctx, cancel := context.WithTimeout(w.ctx, 5*lookAgain)
	defer cancel()
	_, err := w.fs.Setattr(ctx, w.dir, volume.Change{Mask: volume.SetMtime, Mtime: longAgo})
	if volume.ErrnoOf(err) != syscall.EIO {
		t.Errorf("it ended with %v", err)
	}
}

// TestTimesOfAnExecutedRequest has the home's process end with the change that executes the request: its client is told so, and does
// not send it again, so the other sets must have heard of it before.
func TestTimesOfAnExecutedRequest(t *testing.T) {
	w := newWorld(t)
	w.mkdir(w.dir, 1, "d")
	dir := w.ids["d"]
	w.file(dir, 2, "f")
	f := &fault{applied: true}
	f.left.Store(1)
	w.nodes[1].fault.Store(f)
	if _, err := w.fs.Setattr(w.ctx, dir, volume.Change{Mask: volume.SetMtime, Mtime: longAgo}); err == nil {
		t.Error("the home's end was not noticed")
	}
	w.nodes[1].restart()
	w.hasTime(t, dir)
}

// TestTimesOfALateCopy makes a set's copy of a directory when the directory has got a time from before its birth. The copy
// had the time of the birth, which was the later.
func TestTimesOfALateCopy(t *testing.T) {
	w := newWorld(t)
	stop := w.drop(2, opCopy)
	w.mkdir(w.dir, 1, "d")
	dir := w.ids["d"]
	stop()
	if _, err := w.nodes[2].store.Copy(w.ctx, dir); !isStale(err) {
		t.Fatalf("set 2 has a copy: %v", err)
	}
	_, err := w.fs.Setattr(w.ctx, dir, volume.Change{Mask: volume.SetAtime | volume.SetMtime, Atime: longAgo, Mtime: longAgo})
	w.must(err)
	_, _, err = w.fs.ReadDir(w.ctx, dir, volume.CookieStart, 100, false)
	w.must(err)
	if _, err := w.nodes[2].store.Copy(w.ctx, dir); err != nil {
		t.Fatalf("set 2 has no copy: %v", err)
	}
	w.hasTime(t, dir)
	w.nodes[1].halt()
	if a, err := w.client().Getattr(w.ctx, dir); err != nil || a.Mtime.Sec < 0 {
		t.Errorf("of its copies alone: mtime %v, error %v", a.Mtime, err)
	}
	w.nodes[1].start()
}
