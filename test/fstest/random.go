package fstest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// Environment variables of the random tests.
const (
	seedVariable = "MORTAR_SEED" // a number: that seed instead of a new one
	soakVariable = "MORTAR_SOAK" // a duration: go on with new seeds for so long
)

// recent is how many operations a failure prints.
const recent = 40

// Random does ops random operations on the file system and on a model, and
// fails at the first answer that differs, printing the seed and the last
// operations. Every few operations both trees are compared whole.
func Random(t *testing.T, cfg Config, ops int) { random(t, cfg, ops, 1) }

// RandomConcurrent is Random in several directories at once, each compared with
// a model of its own: operations in one must not show in another.
func RandomConcurrent(t *testing.T, cfg Config, ops int) { random(t, cfg, ops, 4) }

// random runs walkers side by side, in as many rounds as the time for it allows.
func random(t *testing.T, cfg Config, ops, walkers int) {
	seed := seedOf(t)
	end := time.Now().Add(soakOf(t))
	fsys := cfg.New(t)
	for round := uint64(0); round == 0 || time.Now().Before(end); round++ {
		var wg sync.WaitGroup
		for i := range walkers {
			wg.Go(func() {
				w := newWalker(fsys, cfg.Features, seed+round, uint64(i))
				if err := w.walk(ops); err != nil {
					t.Errorf("%s=%d: directory %d: %v\nthe last operations:\n%s",
						seedVariable, seed+round, i, err, strings.Join(w.log[max(0, len(w.log)-recent):], "\n"))
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
	}
}

// seedOf returns the environment's seed, or a new one, and prints it.
func seedOf(t *testing.T) uint64 {
	seed := rand.Uint64N(1e9)
	if s := os.Getenv(seedVariable); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
		seed = n
	}
	t.Logf("%s=%d", seedVariable, seed)
	return seed
}

// soakOf returns for how long to go on.
func soakOf(t *testing.T) time.Duration {
	s := os.Getenv(soakVariable)
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("%s: %v", soakVariable, err)
	}
	return d
}

// twin is an object, as the file system under test and as the model name it.
type twin struct {
	got, want volume.ID
	kind      uint32 // type bits
}

// String shows a twin in the log.
func (t *twin) String() string { return fmt.Sprintf("%s %s", typeName(t.kind), t.want.String()[:6]) }

// twinFile is an open file on both sides.
type twinFile struct {
	*twin
	got, want volume.File
	flags     volume.Flags
	number    int
}

// walker does random operations on both sides.
type walker struct {
	got   volume.FS
	want  *model.FS
	feat  Features
	rng   *rand.Rand
	base  context.Context
	ctx   context.Context // base with a Cred
	top   *twin
	name  string // of top
	seen  []*twin
	twins map[volume.ID]*twin // by want
	open  []*twinFile
	opens int
	log   []string
}

// newWalker returns a walker; it does nothing yet.
func newWalker(fsys volume.FS, feat Features, seed, number uint64) *walker {
	return &walker{
		got: fsys, want: model.New(), feat: feat,
		rng:   rand.New(rand.NewPCG(seed, number)),
		twins: map[volume.ID]*twin{}, name: fmt.Sprintf("random-%d", dirs.Add(1)),
	}
}

// walk does ops operations in a new directory and removes it.
func (w *walker) walk(ops int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	w.base, w.ctx = ctx, ctx
	n := volume.Node{Mode: syscall.S_IFDIR | 0o755}
	a, err := w.got.Make(ctx, volume.Root, w.name, n)
	if err != nil {
		return err
	}
	b, err := w.want.Make(ctx, volume.Root, w.name, n)
	if err != nil {
		return err
	}
	w.top = w.add(a.ID, b)
	for i := range ops {
		if err := w.step(); err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
		if i%200 == 199 {
			if err := w.compare(w.top, w.name); err != nil {
				return fmt.Errorf("after operation %d: %w", i, err)
			}
		}
	}
	for len(w.open) > 0 {
		if err := w.close(); err != nil {
			return err
		}
	}
	if err := w.compare(w.top, w.name); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	return removeAll(ctx, w.got, volume.Root, w.name, a.ID)
}

// note logs an operation.
func (w *walker) note(format string, a ...any) { w.log = append(w.log, fmt.Sprintf(format, a...)) }

// add remembers an object that was made.
func (w *walker) add(got volume.ID, a volume.Attr) *twin {
	t := &twin{got: got, want: a.ID, kind: a.Type()}
	w.twins[a.ID] = t
	w.seen = append(w.seen, t)
	if len(w.seen) > 80 { // old ones are mostly gone; the top stays
		i := 1 + w.rng.IntN(40)
		w.seen = append(w.seen[:i], w.seen[i+1:]...)
	}
	return t
}

// agree compares two errors. With loose any error equals any other: more than
// one thing may be wrong, and which is told is not said.
func agree(got, want error, loose bool) error {
	a, b := volume.ErrnoOf(got), volume.ErrnoOf(want)
	if a == b || loose && a != 0 && b != 0 {
		return nil
	}
	return fmt.Errorf("got error %v, want %v", got, want)
}

// same compares attributes, and errors first.
func (w *walker) same(a volume.Attr, got error, b volume.Attr, want error) error {
	if got != nil || want != nil {
		return agree(got, want, false)
	}
	t := w.twins[b.ID]
	if t == nil || t.got != a.ID {
		return fmt.Errorf("got object %v, want the twin of %v: %+v", a.ID, b.ID, t)
	}
	nlink := b.Nlink
	if w.feat.NoDirNlink && b.IsDir() {
		nlink = 1
	}
	size := b.Size
	if b.IsDir() {
		size = a.Size // each has its own idea
	}
	if a.Mode != b.Mode || a.Nlink != nlink || a.UID != b.UID || a.GID != b.GID || a.Rdev != b.Rdev || a.Size != size || a.Held != 0 {
		return fmt.Errorf("got attributes %+v, want %+v", a, b)
	}
	if !sameTime(a.Mtime, b.Mtime) {
		return fmt.Errorf("got mtime %v, want %v", a.Mtime, b.Mtime)
	}
	return nil
}

// setBefore is later than any time that the walkers set, and earlier than any
// that a clock gives: seconds since the epoch.
const setBefore = 1_500_000_000

// sameTime compares two times, of which those of a clock are all the same.
func sameTime(got, want volume.Time) bool {
	if want.Sec < setBefore {
		return got == want
	}
	return got.Sec >= setBefore
}

// removeAll removes a directory and all in it.
func removeAll(ctx context.Context, fsys volume.FS, dir volume.ID, name string, id volume.ID) error {
	for after, end := volume.CookieStart, false; !end; {
		var es []volume.Entry
		var err error
		if es, end, err = fsys.ReadDir(ctx, id, after, 100, false); err != nil {
			return err
		}
		for _, x := range es {
			after = x.Cookie
			if x.Mode&syscall.S_IFMT == syscall.S_IFDIR {
				err = removeAll(ctx, fsys, id, x.Name, x.ID)
			} else {
				err = fsys.Unlink(ctx, id, x.Name)
			}
			if err != nil {
				return err
			}
		}
	}
	return fsys.Rmdir(ctx, dir, name)
}
