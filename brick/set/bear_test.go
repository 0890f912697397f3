package set

import (
	"bytes"
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// Files that are made with what is in them.

// borns are the files that a test makes: empty but for attributes, small, and too large to be sent to one after the other.
func borns() []volume.Node {
	then := volume.Change{Mask: volume.SetMinimalACL | volume.SetMtime | volume.SetUID, Mode: 0o640, UID: 7, Mtime: volume.Time{Sec: 1000, Nsec: 7}}
	var ns []volume.Node
	for _, size := range []int{0, 1, 5000, startMax, startMax + 1, volume.IOMax} {
		for _, c := range []volume.Change{{}, then} {
			ns = append(ns, volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o6750, Data: bytes.Repeat([]byte("data"), size/4+1)[:size], Then: c})
		}
	}
	return ns
}

// makeBorns makes them, as somebody without privileges.
func makeBorns(t *testing.T, s volume.Store, prefix string) {
	t.Helper()
	for i, n := range borns() {
		a, err := s.Make(volume.WithCred(t.Context(), volume.Cred{UID: 5, GID: 6}), volume.Root, fmt.Sprint(prefix, i), n)
		must(t, err)
		if a.ID != n.ID || a.Size != int64(len(n.Data)) {
			t.Errorf("%d bytes: %+v", len(n.Data), a)
		}
	}
}

// TestBorn makes files on sets of which a member is an arbiter, and of which a member comes back that was away: all have them, and the
// arbiter has all but contents.
func TestBorn(t *testing.T) {
	t.Parallel()
	for _, arbiter := range []bool{false, true} {
		t.Run(fmt.Sprint("arbiter ", arbiter), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, inMemory)
			last := c.nodes[2]
			last.arbiter = arbiter
			c.begin()
			p, s := c.primary(10 * time.Second)
			makeBorns(t, s, "all")
			c.equal()
			for _, n := range []*node{c.nodes[(p.i+1)%2], last} {
				if n == p {
					continue
				}
				n.end(true)
				makeBorns(t, s, "without "+n.id)
				n.start()
				c.allInSync(20 * time.Second)
			}
			c.equal()
			if !arbiter {
				return
			}
			for _, e := range namesOn(t, last) {
				if a, err := last.member.Getattr(t.Context(), e.ID); err != nil || a.Blocks != 0 {
					t.Errorf("the arbiter has %d blocks of %s: %v", a.Blocks, e.Name, err)
				}
			}
		})
	}
}

// namesOn returns what is in the root of a node.
func namesOn(t *testing.T, n *node) []volume.Entry {
	t.Helper()
	es, end, err := n.member.ReadDir(t.Context(), volume.Root, 0, 1000, false)
	must(t, err)
	if !end || len(es) == 0 {
		t.Fatalf("%d names, end %v", len(es), end)
	}
	return es
}

// TestBornAtArbiter ends the arbiter's process at each of the steps in which it makes a file.
func TestBornAtArbiter(t *testing.T) {
	t.Parallel()
	for step := 1; step <= 3; step++ {
		for _, done := range []bool{false, true} {
			c := newCluster(t, 3, inMemory)
			c.nodes[2].arbiter = true
			c.begin()
			_, s := c.primary(10 * time.Second)
			n, count, hit := c.nodes[2], 0, make(chan struct{})
			proc := n.proc
			proc.setHook(func(op string, after bool) {
				if op != "make" && op != "setattr" || after != done {
					return
				}
				if count++; count == step {
					proc.kill()
					close(hit)
				}
			})
			node := borns()[5] // with contents and attributes
			made := make(chan error, 1)
			go func() {
				_, err := s.Make(volume.WithCred(t.Context(), volume.Cred{UID: 5, GID: 6}), volume.Root, "new", node)
				made <- err
			}()
			soon(t, hit)
			n.end(true)
			n.start()
			must(t, <-made)
			c.allInSync(20 * time.Second)
			c.equal()
			if t.Failed() {
				t.Fatalf("step %d, done %v", step, done)
			}
		}
	}
}

// soon waits for what must happen.
func soon(t *testing.T, what <-chan struct{}) {
	t.Helper()
	select {
	case <-what:
	case <-time.After(20 * time.Second):
		t.Fatal("the moment does not come")
	}
}

// TestBornFull has no room for what is to be in a file: nothing is made anywhere, whether the primary knows that beforehand, or a member
// finds out.
func TestBornFull(t *testing.T) {
	t.Parallel()
	const block = 64 << 10
	c := begunCluster(t, 2, func(t testing.TB, i int) (volume.Member, string) {
		return model.NewStore(1, model.WithCapacity(3<<20+block)), t.TempDir()
	})
	_, s := c.primary(10 * time.Second)
	for i := range 3 { // the reserve is 1 MiB
		_, err := s.Make(t.Context(), volume.Root, fmt.Sprint(i), volume.Node{Mode: syscall.S_IFREG | 0o600, Data: make([]byte, volume.IOMax)})
		if want := []syscall.Errno{0, 0, syscall.ENOSPC}[i]; volume.ErrnoOf(err) != want {
			t.Errorf("file %d: %v, want %v", i, err, want)
		}
	}
	if n := len(namesOn(t, c.nodes[0])); n != 2 {
		t.Errorf("%d names", n)
	}
	c.equal()
}

// TestBornUnfinished asks about a file by its ID, which its maker has chosen, while not all members have it: there is no answer before that.
func TestBornUnfinished(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 2, inMemory)
	p, s := c.primary(10 * time.Second)
	held := make(chan struct{})
	applied := make(chan struct{})
	c.setWeather(&weather{hold: func(from, to *node, msg []byte) <-chan struct{} {
		if message(msg[frontSize]) == msgApply && from == p {
			close(applied)
			return held
		}
		return nil
	}})
	n := borns()[5]
	made := make(chan error, 1)
	go func() { _, err := s.Make(t.Context(), volume.Root, "new", n); made <- err }()
	soon(t, applied)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if a, err := s.Getattr(ctx, n.ID); err == nil {
		t.Errorf("it is told of already: %+v", a)
	}
	close(held)
	must(t, <-made)
	a, err := s.Getattr(t.Context(), n.ID)
	must(t, err)
	if a.Size != int64(len(n.Data)) {
		t.Errorf("%+v", a)
	}
}

// TestBornOlder has a member that knows version 1 of changes alone refuse what it would make without contents.
func TestBornOlder(t *testing.T) {
	for _, c := range []*change{
		{kind: doMake, node: volume.Node{ID: testID(1), Mode: syscall.S_IFREG}, len: 1},
		{kind: doMake, node: volume.Node{ID: testID(1), Mode: syscall.S_IFREG}, set: volume.Change{Mask: volume.SetMtime}},
	} {
		b := c.append(nil)
		if b[0] != 2 {
			t.Errorf("%v has version %d", c, b[0])
		}
		b[0] = 1
		if err := new(change).parse(&reader{b: b}); err == nil {
			t.Errorf("%v is taken for one of version 1", c)
		}
	}
	if b := (&change{kind: doMake, node: volume.Node{ID: testID(1), Mode: syscall.S_IFREG}}).append(nil); b[0] != 1 {
		t.Errorf("an empty file has version %d", b[0])
	}
}
