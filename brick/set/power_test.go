package set

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// losable makes members in memory that can lose their power.
func losable(t testing.TB, _ int) (volume.Member, string) {
	return model.NewStore(1, model.WithPowerLoss()), t.TempDir()
}

// cutPower ends the node's process and has its machine lose what was not synced: of the store, and
// of the operation log, which nobody syncs.
func (n *node) cutPower(rng *rand.Rand) {
	n.end(rng.IntN(4) != 0) // seldom is it noticed only by silence
	n.member.(*model.Store).PowerLoss(rng)
	n.member.(*model.Store).Hold()
	names, err := filepath.Glob(filepath.Join(n.dir, "ops.*"))
	must(n.c.t, err)
	for _, name := range names {
		st, err := os.Stat(name)
		must(n.c.t, err)
		must(n.c.t, os.Truncate(name, rng.Int64N(st.Size()+1)))
	}
	n.boot = fmt.Sprintf("boot %d", rng.Uint64())
}

// comeBack starts a node whose machine was booted anew, and waits until it is in sync again as such.
func (n *node) comeBack() {
	n.c.t.Helper()
	n.start()
	n.c.eventually(n.id+" has a new seat", 20*time.Second, func() bool {
		seat, in := n.c.auth.now().Seat(n.id)
		return in && seat.Boot == n.boot
	})
}

// TestReboots does random operations on sets of which one machine after the other loses its power, while the others
// have everything: no answer tells of it.
func TestReboots(t *testing.T) {
	t.Parallel()
	for members := 2; members <= 3; members++ {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			t.Parallel()
			seed := testSeed(t)
			rng := rand.New(rand.NewPCG(seed, 3))
			var c *cluster
			var f *front
			stop, stopped, reboots := make(chan struct{}), make(chan struct{}), 0
			ops, most := 400, 8
			if testing.Short() {
				ops, most = 150, 3
			}
			cfg := fstest.Config{New: func(t *testing.T) volume.FS {
				c = begunCluster(t, members, losable)
				f = newFront(c)
				f.delay = 20 * time.Millisecond
				m := newNemesis(c, seed)
				m.stop = stop
				go func() {
					defer close(stopped)
					for reboots < most && m.rest(time.Duration(rng.Int64N(int64(400*time.Millisecond)))) {
						if len(c.auth.now().InSync) != members || c.serving() == nil {
							continue
						}
						victim := m.victim()
						victim.cutPower(rng)
						reboots++
						m.rest(time.Duration(rng.Int64N(int64(200 * time.Millisecond))))
						victim.start()
					}
				}()
				return f
			}}
			fstest.Random(t, cfg, ops)
			close(stop)
			<-stopped
			t.Logf("%d reboots", reboots)
			c.allInSync(30 * time.Second)
			f.settled(t)
			c.equal()
		})
	}
}

// TestOpenAtOneRebooted has a backup lose with its power what is open at the primary and has no name: it is
// there again when the backup has to take over.
func TestOpenAtOneRebooted(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(testSeed(t), 5))
	for try := range 300 { // mostly what is not synced survives
		c := begunCluster(t, 2, losable)
		p, s := c.primary(10 * time.Second)
		b := c.nodes[1-p.i]
		_, id := newFile(t, s, "a", "hello")
		must(t, s.Unlink(t.Context(), volume.Root, "a"))
		b.cutPower(rng)
		if _, err := b.member.Describe(t.Context(), id); err == nil {
			continue // it is still there
		}
		b.comeBack()
		p.end(true)
		_, s = c.otherThan(p, 10*time.Second)
		if got := content(t, s, id); got != "hello" {
			t.Errorf("it has %q", got)
		}
		t.Logf("at the attempt %d", try)
		return
	}
	t.Fatal("the power takes nothing away")
}

// TestNewbornUnnamedRebooted has a backup lose with its power what was written last to a file that was made just
// before, and lost its name: no key tells of a newborn file, and no entry leads to it.
func TestNewbornUnnamedRebooted(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(testSeed(t), 6))
	for try := range 300 {
		c := begunCluster(t, 2, losable)
		p, s := c.primary(10 * time.Second)
		b := c.nodes[1-p.i]
		f, id := newFile(t, s, "a", "hello")
		must(t, s.Unlink(t.Context(), volume.Root, "a"))
		_, err := f.Setattr(t.Context(), volume.Change{Mask: volume.SetSize})
		must(t, err)
		b.cutPower(rng)
		if o, err := b.member.Describe(t.Context(), id); err != nil || o.Attr.Size == 0 {
			continue // it is not there, or as it was
		}
		b.comeBack()
		p.end(true)
		_, s = c.otherThan(p, 10*time.Second)
		if got := content(t, s, id); got != "" {
			t.Errorf("it has %q again", got)
		}
		t.Logf("at the attempt %d", try)
		return
	}
	t.Fatal("the power never takes the last change away")
}

// TestHealedInSyncRebooted has a member in sync lose with its power what a new primary had just made equal there.
func TestHealedInSyncRebooted(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(testSeed(t), 7))
	lost := 0
	for try := 0; try < 400 && lost < 5; try++ {
		c := begunCluster(t, 3, losable)
		p, s := c.primary(10 * time.Second)
		x := c.nodes[(p.i+1)%3]
		dir, err := s.Make(t.Context(), volume.Root, "d", volume.Node{Mode: 0o40755})
		must(t, err)
		for _, n := range c.nodes { // nothing of before is listed
			must(t, n.set.ledger.checkpoint(t.Context(), n.set.member))
		}
		never := make(chan struct{})
		c.setWeather(&weather{hold: func(from, to *node, msg []byte) <-chan struct{} {
			if message(msg[frontSize]) == msgApply && from == p && to == x {
				return never
			}
			return nil
		}})
		made := make(chan struct{})
		p.proc.setHook(func(op string, done bool) {
			if op == "make" && done {
				close(made)
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer cancel()
			_, _ = s.Make(ctx, dir.ID, "sub", volume.Node{Mode: 0o40755})
		}()
		<-made
		p.end(true)
		q, s := c.otherThan(p, 10*time.Second)
		close(never)
		<-ctx.Done()
		z := c.nodes[3-p.i-q.i]
		z.cutPower(rng)
		if dump(t, z.member) != dump(t, q.member) {
			lost++
		}
		z.comeBack()
		if err := s.Orphans(t.Context()); err != nil {
			t.Error(err)
		}
		if got, want := dump(t, z.member), dump(t, q.member); got != want {
			t.Fatalf("at the attempt %d %s and its primary %s differ:\n%s", try, z.id, q.id, differ(want, got))
		}
	}
	if lost < 5 {
		t.Errorf("the power took something away %d times only", lost)
	}
}

// TestPowerOfAll has all machines of a set lose their power, time and again: what was synced is there
// afterwards, what was not is alike on all members.
func TestPowerOfAll(t *testing.T) {
	t.Parallel()
	for members := 2; members <= 3; members++ {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			t.Parallel()
			seed := testSeed(t)
			rng := rand.New(rand.NewPCG(seed, 4))
			c := begunCluster(t, members, losable)
			w := &powerWorld{t: t, c: c, rng: rng, files: map[string]*powerFile{}}
			rounds := 12
			if testing.Short() {
				rounds = 4
			}
			for round := range rounds {
				_, s := c.primary(10 * time.Second)
				w.quiet = round > 0 && rng.IntN(2) == 0
				if w.quiet { // behind a checkpoint, so that nothing is listed but what is changed now
					for _, n := range c.nodes {
						must(t, n.set.ledger.checkpoint(t.Context(), n.set.member))
					}
				}
				for range 40 {
					w.step(s)
				}
				if rng.IntN(3) == 0 { // a member is away for the last part
					n, _ := c.primary(10 * time.Second)
					away := c.nodes[(n.i+1)%members]
					if away.set != nil {
						away.end(true)
						for range 10 {
							w.step(s)
						}
					}
				}
				for _, n := range c.nodes {
					n.cutPower(rng)
				}
				for _, i := range rng.Perm(members) {
					c.nodes[i].start()
				}
				_, s = c.primary(20 * time.Second)
				w.look(s, round)
				c.allInSync(20 * time.Second)
				must(t, s.Orphans(t.Context()))
				c.equal()
				if t.Failed() {
					return
				}
			}
			if st := c.auth.now(); st.Power == 0 {
				t.Errorf("nobody has resumed: %+v", st)
			}
		})
	}
}

// powerFile is what is known of a file.
type powerFile struct {
	id      volume.ID
	content string
	synced  bool // with this very content, and its name
}

// powerWorld is what was done to the files in the root.
type powerWorld struct {
	t     *testing.T
	c     *cluster
	rng   *rand.Rand
	files map[string]*powerFile
	quiet bool // nothing is made, removed or renamed
}

// step changes, or syncs, something.
func (w *powerWorld) step(s volume.Store) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	name := fmt.Sprintf("f%d", w.rng.IntN(12))
	f := w.files[name]
	if f == nil && w.quiet {
		return
	}
	if f == nil && w.rng.IntN(2) == 0 {
		p := fmt.Sprintf("%s born %d.", name, w.rng.IntN(1000))
		a, err := s.Make(ctx, volume.Root, name, volume.Node{Mode: syscall.S_IFREG | 0o600, Data: []byte(p),
			Then: volume.Change{Mask: volume.SetMode | volume.SetMtime, Mode: 0o640, Mtime: volume.Time{Sec: w.rng.Int64N(1e9)}}})
		must(w.t, err)
		w.files[name] = &powerFile{id: a.ID, content: p}
		return
	}
	if f == nil {
		h, a, err := s.Create(ctx, volume.Root, name, volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o644}, volume.Write|volume.Excl)
		must(w.t, err)
		must(w.t, h.Close())
		w.files[name] = &powerFile{id: a.ID}
		return
	}
	h, err := s.Open(ctx, f.id, volume.Read|volume.Write)
	must(w.t, err)
	defer h.Close()
	what := w.rng.IntN(8)
	if w.quiet {
		what %= 4
	}
	switch what {
	case 0, 1, 2:
		p := fmt.Sprintf("%s %d.", name, w.rng.IntN(1000))
		_, err := h.Append(ctx, []byte(p), 0)
		must(w.t, err)
		f.content, f.synced = f.content+p, false
	case 3, 4, 5:
		must(w.t, h.Sync(ctx, w.rng.IntN(2) == 0))
		f.synced = true
	case 6:
		must(w.t, s.Unlink(ctx, volume.Root, name))
		if w.rng.IntN(2) == 0 {
			must(w.t, s.Sync(ctx, volume.Root)) // then it never comes back
		}
		delete(w.files, name)
	case 7:
		to := fmt.Sprintf("f%d", w.rng.IntN(12))
		if to == name {
			return
		}
		must(w.t, s.Rename(ctx, volume.Root, name, volume.Root, to, 0))
		delete(w.files, name)
		w.files[to], f.synced = f, false
	}
}

// look compares what is there with what was synced, and takes the rest as it is.
func (w *powerWorld) look(s volume.Store, round int) {
	w.t.Helper()
	ctx := context.Background()
	for name, f := range w.files {
		a, err := s.Lookup(ctx, volume.Root, name)
		if f.synced && (err != nil || a.ID != f.id || a.Size != int64(len(f.content))) {
			w.t.Errorf("round %d: %s was synced with %d bytes as %v: %+v %v", round, name, len(f.content), f.id, a, err)
		}
	}
	es, _, err := s.ReadDir(ctx, volume.Root, 0, 1000, false)
	must(w.t, err)
	old := w.files
	w.files = map[string]*powerFile{}
	for _, e := range es {
		h, err := s.Open(ctx, e.ID, volume.Read)
		must(w.t, err)
		p := make([]byte, 1<<16)
		n, err := h.ReadAt(ctx, p, 0)
		must(w.t, err)
		must(w.t, h.Close())
		if f := old[e.Name]; f != nil && f.synced && string(p[:n]) != f.content {
			w.t.Errorf("round %d: %s was synced with %q, has %q", round, e.Name, f.content, p[:n])
		}
		w.files[e.Name] = &powerFile{id: e.ID, content: string(p[:n])}
	}
}
