package set

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// within runs f in bounded time.
func within(t *testing.T, most time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(most):
		t.Fatalf("%s: not within %v", what, most)
	}
}

// TestBelowQuorum has two of three members go: nothing is acknowledged, and soon nothing is read any more. One
// comes back: what was under way goes on, and is acknowledged.
func TestBelowQuorum(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 3, inMemory)
	p, s := c.primary(10 * time.Second)
	newFile(t, s, "a", "hello")
	b, other := c.nodes[(p.i+1)%3], c.nodes[(p.i+2)%3]
	other.end(true)
	c.eventually("the set is one of two", 10*time.Second, func() bool { return !inSync(p.set.follow.newest(), other.id) })
	b.end(true)

	made := make(chan error, 1)
	go func() {
		_, err := s.Make(context.Background(), volume.Root, "d", volume.Node{Mode: syscall.S_IFDIR | 0o755})
		made <- err
	}()
	c.eventually("it is applied at the primary", 5*time.Second, func() bool {
		_, err := p.member.Lookup(t.Context(), volume.Root, "d")
		return err == nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	within(t, 5*time.Second, "a look at what is under way", func() {
		if a, err := s.Lookup(ctx, volume.Root, "d"); err == nil {
			t.Errorf("what is not acknowledged can be seen: %+v", a)
		}
	})
	select {
	case err := <-made:
		t.Fatalf("a change is answered below the quorum: %v", err)
	case <-time.After(Lease):
	}
	if inSync(c.auth.now(), b.id) != true {
		t.Error("the last backup was taken out of the list, below the quorum")
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	within(t, 5*time.Second, "a look at what is finished", func() {
		if _, err := s.Lookup(short, volume.Root, "a"); err == nil {
			t.Error("it is read without a lease")
		}
	})
	c.eventually("clients are sent away", Lease, func() bool { return c.serving() == nil })
	b.start()
	c.eventually("the set serves again", 10*time.Second, func() bool { return c.serving() != nil })
	f := newFront(c)
	if _, err := f.Lookup(t.Context(), volume.Root, "a"); err != nil {
		t.Error(err)
	}
	_, err := f.Make(t.Context(), volume.Root, "e", volume.Node{Mode: syscall.S_IFDIR | 0o755})
	must(t, err)
	other.start()
	c.allInSync(20 * time.Second)
	c.equal()
	within(t, 5*time.Second, "the change of before", func() { <-made })
}

// now is the state that the store has.
func (a *authority) now() spec.SetState {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

// TestQuorumMember has the only other member miss a change and come back at once: the quorum needs it, so
// it is made equal in its place, the change in flight included, and the change is acknowledged.
func TestQuorumMember(t *testing.T) {
	t.Parallel()
	c := begunWith(t, 2, bothNeeded)
	p, s := c.primary(10 * time.Second)
	b := c.nodes[1-p.i]
	f, id := newFile(t, s, "a", "hello")
	b.end(false)
	type answer struct {
		what string
		err  error
	}
	answers := make(chan answer, 3)
	go func() {
		_, err := s.Make(context.Background(), volume.Root, "d", volume.Node{Mode: syscall.S_IFDIR | 0o755})
		answers <- answer{"make", err}
	}()
	go func() {
		_, err := f.WriteAt(context.Background(), []byte("HELLO"), 0, 0)
		answers <- answer{"write", err}
	}()
	go func() { answers <- answer{"unlink", s.Unlink(context.Background(), volume.Root, "nothing")} }()
	c.eventually("they are applied at the primary", 5*time.Second, func() bool {
		_, err := p.member.Lookup(t.Context(), volume.Root, "d")
		return err == nil
	})
	b.start()
	for range 3 {
		select {
		case a := <-answers:
			if a.err != nil && (a.what != "unlink" || volume.ErrnoOf(a.err) != enoent) {
				t.Errorf("%s: %v", a.what, a.err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("not acknowledged")
		}
	}
	if st := c.auth.now(); st.Epoch != 1 || !inSync(st, b.id) {
		t.Errorf("the member has lost its seat meanwhile, or the primary: %+v", st)
	}
	if got := content(t, s, id); got != "HELLO" {
		t.Errorf("%q", got)
	}
	c.equal()
}

// TestAlignWaits has a member come back, and be made equal, while the primary is still about to apply
// a change: that is part of it.
func TestAlignWaits(t *testing.T) {
	t.Parallel()
	c := begunWith(t, 2, bothNeeded)
	p, s := c.primary(10 * time.Second)
	b := c.nodes[1-p.i]
	about, goes := make(chan struct{}), make(chan struct{})
	p.proc.setHook(func(op string, done bool) {
		if op == "make" && !done {
			close(about)
			<-goes
		}
	})
	made := begun(func() error {
		_, err := s.Make(context.Background(), volume.Root, "d", volume.Node{Mode: syscall.S_IFDIR | 0o755})
		return err
	})
	<-about
	b.end(false)
	r := p.set.reignNow()
	c.eventually("the primary has noticed", 10*time.Second, r.anyDownOf)
	b.start()
	pause(t.Context(), 300*time.Millisecond) // it would be equal by now
	close(goes)
	select {
	case err := <-made:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("not acknowledged")
	}
	p.proc.setHook(nil)
	c.equal()
}

// TestLateMakeUp has a backup hear of a member that has left only after a change made since has come: the
// change is queued for that member all the same, and the backup heals it as the next primary.
func TestLateMakeUp(t *testing.T) {
	t.Parallel()
	for range 10 { // on a busy machine the primary may give the backup up before it hears, or be given up
		if lateMakeUp(t) {
			return
		}
	}
	t.Fatal("the machine was too busy each time")
}

// lateMakeUp is one try; false: the primary did not last.
func lateMakeUp(t *testing.T) bool {
	t.Helper()
	c := begunCluster(t, 3, inMemory)
	p, s := c.primary(10 * time.Second)
	b, gone := c.nodes[(p.i+1)%3], c.nodes[(p.i+2)%3]
	late := make(chan struct{})
	c.setWeather(&weather{hold: func(from, to *node, msg []byte) <-chan struct{} {
		if message(msg[frontSize]) == msgConfig && to == b {
			return late
		}
		return nil
	}})
	r := p.set.reignNow()
	gone.end(true)
	c.eventually("the primary queues for it", 5*time.Second, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.mu.absent[gone.id] != nil
	})
	made := begun(func() error {
		_, err := s.Make(context.Background(), volume.Root, "d", volume.Node{Mode: syscall.S_IFDIR | 0o755})
		return err
	})
	pause(t.Context(), 300*time.Millisecond) // it would be applied there by now
	close(late)
	select {
	case err := <-made:
		if volume.ReasonOf(err) == volume.NotPrimary {
			return false
		}
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("not acknowledged")
	}
	c.eventually("the backup knows that it is finished", 10*time.Second, func() bool {
		end, err := b.set.ledger.unfinished("boot")
		return err == nil && len(end.keys) == 0
	})
	p.end(true)
	c.eventually("the other one takes over", 10*time.Second, func() bool { return b.set.reignNow() != nil })
	p.start()
	c.otherThan(p, 10*time.Second)
	gone.start()
	c.allInSync(20 * time.Second)
	c.equal()
	return true
}

// anyDownOf reports whether somebody sees to a backup that has failed.
func (r *reign) anyDownOf() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.mu.backups {
		if b.down() {
			return true
		}
	}
	return false
}

// TestQuorumLowered has an administrator lower the quorum, which frees the set of a member that is gone.
func TestQuorumLowered(t *testing.T) {
	t.Parallel()
	c := begunWith(t, 2, bothNeeded)
	p, _ := c.primary(10 * time.Second)
	b := c.nodes[1-p.i]
	f := newFront(c)
	b.end(true)
	made := make(chan error, 1)
	go func() {
		_, err := f.Make(context.Background(), volume.Root, "d", volume.Node{Mode: syscall.S_IFDIR | 0o755})
		made <- err
	}()
	select {
	case err := <-made:
		t.Fatalf("acknowledged below the quorum: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	c.setOptions(map[string]string{"cluster.quorum-type": "fixed", "cluster.quorum-count": "1"})
	select {
	case err := <-made:
		must(t, err)
	case <-time.After(15 * time.Second):
		t.Fatal("it waits for ever")
	}
	b.start()
	c.allInSync(20 * time.Second)
	c.equal()
}

// setOptions publishes a map with other options.
func (c *cluster) setOptions(options map[string]string) {
	c.mu.Lock()
	c.options = options
	c.mu.Unlock()
	c.publish()
}
