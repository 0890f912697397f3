package set

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// authority is a configuration store in memory, whose outcomes can be made unknown.
type authority struct {
	mu    sync.Mutex
	state spec.SetState
	rev   Revision
	down  bool
	deaf  map[int]bool // nodes that do not reach it
	lose  int          // answers of swaps that get lost
}

var errStore = errors.New("the store does not answer")

func (a *authority) Read(ctx context.Context) (spec.SetState, Revision, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		return spec.SetState{}, 0, errStore
	}
	return a.state, a.rev, nil
}

func (a *authority) Swap(ctx context.Context, r Revision, next spec.SetState) (Revision, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		return 0, errStore
	}
	if r != a.rev {
		return 0, ErrConflict
	}
	a.state, a.rev = next, a.rev+1
	if a.lose > 0 {
		a.lose--
		return 0, errStore
	}
	return a.rev, nil
}

// cluster is a set of several members in this process. See network_test.go for
// what may happen to their messages.
type cluster struct {
	t       testing.TB
	auth    *authority
	options map[string]string
	nodes   []*node
	mu      sync.Mutex
	version uint64
	cut     map[[2]int]bool // nothing comes from, to
	weather *weather        // nil: every message arrives once and at once
	log     *slog.Logger
	traced  bool
	late    sync.WaitGroup // messages and answers that nobody waits for
}

// node is a member's machine.
type node struct {
	c       *cluster
	i       int
	id      string
	member  volume.Member
	dir     string
	lockers lockerDisk
	boot    string
	life    string // "": it does not run
	ended   string // life of the last process that was seen to end; "": none was
	proc    *process
	arbiter bool // it has no contents

	set    *Set
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	serve *served
}

func newCluster(t testing.TB, members int, make func(t testing.TB, i int) (volume.Member, string)) *cluster {
	c := &cluster{t: t, auth: &authority{rev: 1, deaf: map[int]bool{}}, cut: map[[2]int]bool{}, options: map[string]string{}}
	var out io.Writer = io.Discard
	if dir := os.Getenv("MORTAR_TEST_LOG"); dir != "" { // a directory: what the members log, and do, goes there
		f, err := os.Create(filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+".log"))
		must(t, err)
		t.Cleanup(func() { f.Close() })
		out, c.traced = f, true
	}
	c.log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for i := range members {
		n := &node{c: c, i: i, id: fmt.Sprintf("m%d", i), boot: "boot"}
		n.member, n.dir = make(t, i)
		c.nodes = append(c.nodes, n)
		c.auth.state.InSync = append(c.auth.state.InSync, spec.Seat{Member: n.id})
	}
	t.Cleanup(func() {
		c.clear()
		for _, n := range c.nodes {
			n.stop()
		}
		c.late.Wait()
		for _, n := range c.nodes {
			if s, ok := n.member.(*brick.Store); ok {
				_ = s.Close()
			}
		}
	})
	return c
}

// inMemory makes members in memory.
func inMemory(t testing.TB, i int) (volume.Member, string) {
	return model.NewStore(1), t.TempDir()
}

// onBricks makes bricks.
func onBricks(t testing.TB, i int) (volume.Member, string) {
	path := newBrick(t)
	s, err := brick.Open(path, brick.Options{})
	must(t, err)
	return s, filepath.Join(path, volume.Reserved, "log")
}

// publish gives all that run a newer map.
func (c *cluster) publish() {
	c.mu.Lock()
	c.version++
	m := &spec.Map{Version: c.version, Volume: "v", ID: "v", Started: true, RootHome: 1, Options: c.options}
	set := spec.Set{ID: 1}
	for _, n := range c.nodes {
		set.Members = append(set.Members, spec.Member{Brick: n.id, ID: n.id, Life: n.life, Ended: n.ended, Arbiter: n.arbiter})
	}
	c.auth.mu.Lock()
	set.State = c.auth.state
	c.auth.mu.Unlock()
	m.Sets = []spec.Set{set}
	var sets []*Set
	var peers []map[string]Peer
	for _, n := range c.nodes {
		if n.set == nil {
			continue
		}
		ps := map[string]Peer{}
		for _, o := range c.nodes {
			if o != n {
				ps[o.id] = wirePeer{n.proc, o}
			}
		}
		sets, peers = append(sets, n.set), append(peers, ps)
	}
	c.mu.Unlock()
	for i, s := range sets {
		if err := s.Update(m, peers[i]); err != nil {
			c.t.Error(err)
		}
	}
}

// start begins a process of the node.
func (n *node) start() {
	n.c.t.Helper()
	life := fmt.Sprintf("%s-%d", n.id, time.Now().UnixNano())
	p := &process{n: n, life: life}
	s, err := New(Config{
		Set: 1, Self: n.id, Life: life, Boot: n.boot, Member: gated{n.member, p}, Dir: n.dir, Authority: asked{n.c.auth, p},
		Lockers: &n.lockers,
		Serve:   p.service, Logger: n.c.log.With("node", n.id),
	})
	if err != nil {
		n.c.t.Fatal(err)
	}
	p.set = s
	ctx, cancel := context.WithCancel(context.Background())
	n.c.mu.Lock()
	n.set, n.life, n.proc, n.cancel, n.done = s, life, p, cancel, make(chan struct{})
	n.c.mu.Unlock()
	n.c.publish()
	go func() { defer close(n.done); s.Run(ctx) }()
}

// stop ends the node's process as kill -9 would, as far as that goes in one process: from
// the first moment on it applies nothing and says nothing. Its daemon does not tell of it.
func (n *node) stop() { n.end(false) }

// end is stop; seen: the daemon tells that this very process has ended.
func (n *node) end(seen bool) {
	n.c.mu.Lock()
	s, p, cancel, done := n.set, n.proc, n.cancel, n.done
	if s != nil && seen {
		n.ended = n.life
	}
	n.life, n.set, n.proc = "", nil, nil
	n.c.mu.Unlock()
	if s == nil {
		return
	}
	n.c.log.Info("the process is killed", "node", n.id)
	p.kill()
	n.c.publish() // the others may act on it at once
	cancel()
	<-done
	p.calls.Wait()
	if err := s.Close(); err != nil {
		n.c.t.Error(err)
	}
	if m, ok := n.member.(interface{ Crash() }); ok {
		m.Crash()
	}
	if old, ok := n.member.(*brick.Store); ok {
		_ = old.Close()
		again, err := brick.Open(filepath.Dir(filepath.Dir(n.dir)), brick.Options{})
		if err != nil {
			n.c.t.Fatal(err)
		}
		n.member = again
	}
	if m, ok := n.member.(interface{ Hold() }); ok {
		m.Hold()
	}
	n.mu.Lock()
	n.serve = nil
	n.mu.Unlock()
}

// primary returns the node that serves, and its store.
func (c *cluster) primary(within time.Duration) (*node, volume.Store) {
	c.t.Helper()
	var found *node
	var store volume.Store
	c.eventually("somebody serves", within, func() bool {
		for _, n := range c.nodes {
			n.mu.Lock()
			s := n.serve
			n.mu.Unlock()
			if s == nil {
				continue
			}
			select {
			case <-s.hidden:
			default:
				found, store = n, s.store
				return true
			}
		}
		return false
	})
	return found, store
}

func (c *cluster) eventually(what string, within time.Duration, f func() bool) {
	c.t.Helper()
	for end := time.Now().Add(within); !f(); {
		if time.Now().After(end) {
			c.t.Fatalf("%s: not within %v", what, within)
		}
		pause(context.Background(), 5*time.Millisecond)
	}
}

// allInSync waits until all members are in sync.
func (c *cluster) allInSync(within time.Duration) {
	c.t.Helper()
	c.eventually("all in sync", within, func() bool {
		c.auth.mu.Lock()
		defer c.auth.mu.Unlock()
		return len(c.auth.state.InSync) == len(c.nodes)
	})
}

// equal compares all members with the first. What has no name and was closed goes a moment later.
func (c *cluster) equal() {
	c.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); pause(context.Background(), 20*time.Millisecond) {
		same := true
		for _, n := range c.nodes[1:] {
			same = same && n.dump(n.arbiter) == c.nodes[0].dump(n.arbiter)
		}
		if same {
			return
		}
	}
	for _, n := range c.nodes[1:] {
		if got, want := n.dump(n.arbiter), c.nodes[0].dump(n.arbiter); got != want {
			c.t.Errorf("members %s and %s differ:\n%s", c.nodes[0].id, n.id, differ(want, got))
		}
	}
}

// sums are what a line of dump ends with.
var sums = regexp.MustCompile(`(?m) \[[0-9a-f ]*\]$`)

// dump lists all that the node's member has; hollow: but contents.
func (n *node) dump(hollow bool) string {
	s := dump(n.c.t, n.member)
	if hollow {
		s = sums.ReplaceAllString(s, "")
	}
	return s
}

// dump lists all that a member has.
func dump(t testing.TB, m volume.Member) string {
	ctx := context.Background()
	var out string
	var walk func(dir volume.ID, at string)
	walk = func(dir volume.ID, at string) {
		var after volume.Cookie
		for {
			es, end, err := m.ReadDir(ctx, dir, after, 1000, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range es {
				after = e.Cookie
				path := filepath.Join(at, e.Name)
				if e.Held != 0 {
					out += fmt.Sprintf("%s → %s at %d\n", path, e.ID, e.Held)
					continue
				}
				o, err := m.Describe(ctx, e.ID)
				if err != nil {
					t.Fatal(err)
				}
				a := o.Attr
				out += fmt.Sprintf("%s %s %o %d:%d nlink %d size %d mtime %v %s %v", path, e.ID, a.Mode, a.UID, a.GID, a.Nlink, a.Size, a.Mtime, o.Target, o.Xattrs)
				if a.IsRegular() {
					sums, err := m.Sums(ctx, e.ID, 0, 1<<16, 1<<16)
					if err != nil {
						t.Fatal(err)
					}
					out += fmt.Sprintf(" %x", sums)
				}
				out += "\n"
				if a.IsDir() {
					walk(e.ID, path)
				}
			}
			if end {
				return
			}
		}
	}
	walk(volume.Root, "/")
	ids, err := m.Nameless(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return out + fmt.Sprintf("nameless %v\n", ids)
}

// differ lists the lines that only one of two texts has.
func differ(a, b string) (out string) {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, l := range as {
		if !slices.Contains(bs, l) {
			out += "- " + l + "\n"
		}
	}
	for _, l := range bs {
		if !slices.Contains(as, l) {
			out += "+ " + l + "\n"
		}
	}
	return out
}
