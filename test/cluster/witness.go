package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/linear"
)

// Witnesses are clients of one volume that write down what they asked for and
// were told, for package linear to judge. Each mount has one client in each group, so that no two
// of a group share the kernel's pages and names; the mounts are made with
// entry-timeout=0 and attribute-timeout=0, since what is believed for a second is stale by intent.
//
// A lane is a series of groups of one kind; when a group has had its operations, or so many of
// unknown outcome that judging it would take long, the lane begins the next.
type Witnesses struct {
	t      testing.TB
	mounts []string
	seed   uint64
	stop   chan struct{}
	work   sync.WaitGroup

	history linear.History

	mu struct {
		sync.Mutex
		groups  []*group
		errors  map[string]int
		slowest time.Duration
		broken  []string // what no order of operations could explain either
	}
}

// group is one file, or one directory, and what its clients have open.
type group struct {
	kind linear.Kind
	name string // of the file or directory; of a register's two blocks too
}

const (
	groupOps     = 60 // of each client
	groupUnknown = 5  // more, and the group is given up
	witnessPause = 3 * time.Millisecond
	blockSize    = 4096
	blocks       = 2
)

// StartWitnesses lets a client on each of the mounts work in each of so many lanes of each kind.
func StartWitnesses(t testing.TB, seed uint64, lanes int, mounts ...string) *Witnesses {
	t.Helper()
	w := &Witnesses{t: t, mounts: mounts, seed: seed, stop: make(chan struct{})}
	w.mu.errors = map[string]int{}
	if err := os.MkdirAll(filepath.Join(mounts[0], "witness"), 0o755); err != nil {
		t.Fatal(err)
	}
	for lane := range lanes {
		for _, kind := range []linear.Kind{linear.Write, linear.Append, linear.Create, linear.Lock} {
			w.work.Go(func() { w.lane(kind, lane) })
		}
	}
	t.Cleanup(w.end)
	return w
}

func (w *Witnesses) stopped() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

func (w *Witnesses) end() {
	if !w.stopped() {
		close(w.stop)
	}
	w.work.Wait()
}

// retryPause is between two tries to make what a group is about.
const retryPause = 50 * time.Millisecond

func (w *Witnesses) lane(kind linear.Kind, lane int) {
	for n := 0; !w.stopped(); n++ {
		g := &group{kind: kind, name: fmt.Sprintf("%v-%x-%d-%d", kind, w.seed&0xffff, lane, n)}
		if !w.make(g) {
			select { // whoever tries without end takes the processors from who should come back
			case <-w.stop:
			case <-time.After(retryPause):
			}
			continue
		}
		w.mu.Lock()
		w.mu.groups = append(w.mu.groups, g)
		w.mu.Unlock()
		var clients sync.WaitGroup
		for i := range w.mounts {
			clients.Go(func() {
				c := &client{w: w, group: g, id: i, path: filepath.Join(w.mounts[i], "witness", g.name),
					dice: rand.New(rand.NewPCG(w.seed, uint64(lane<<40|n<<8|i)))}
				if err := apart(c.run); err != nil {
					w.breaks("a client can't begin: %v", err)
				}
			})
		}
		clients.Wait()
	}
}

// make makes what a group is about. What failed is tried under another name.
func (w *Witnesses) make(g *group) bool {
	path := filepath.Join(w.mounts[0], "witness", g.name)
	begin := time.Now()
	var err error
	if g.kind == linear.Create {
		err = os.Mkdir(path, 0o755)
	} else {
		err = os.WriteFile(path, nil, 0o644)
	}
	w.note("make", err, time.Since(begin))
	return err == nil
}

// note counts an error that is none of those that operations are expected to have.
func (w *Witnesses) note(what string, err error, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.slowest = max(w.mu.slowest, took)
	if err == nil {
		return
	}
	what += ": " + errorName(err)
	if w.mu.errors[what]++; w.mu.errors[what] <= 3 {
		w.t.Logf("%s after %v: %v", time.Now().Format("15:04:05.000"), took.Round(time.Millisecond), err)
	}
}

// breaks records what is wrong whatever the order was.
func (w *Witnesses) breaks(format string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mu.broken) < 20 {
		w.mu.broken = append(w.mu.broken, fmt.Sprintf(format, a...))
	}
}

// Testimony is what the clients have to say in the end.
type Testimony struct {
	linear.Verdict
	Errors  map[string]int
	Slowest time.Duration
}

// Finish stops the clients, has everything looked at once more through the
// last mount, and judges. All faults must have been mended.
func (w *Witnesses) Finish(pictures string) Testimony {
	w.t.Helper()
	w.end()
	last := len(w.mounts) - 1
	for _, g := range w.mu.groups {
		c := &client{w: w, group: g, id: len(w.mounts), path: filepath.Join(w.mounts[last], "witness", g.name)}
		c.conclude()
	}
	v := w.history.Check(30*time.Second, pictures)
	for _, b := range append(w.mu.broken, v.Bad...) {
		w.t.Errorf("%s", b)
	}
	for _, p := range v.Pictures {
		w.t.Logf("picture: %s", p)
	}
	return Testimony{v, w.mu.errors, w.mu.slowest}
}

// known turns an error into a result, if it says what has happened.
func known(err error) (linear.Result, bool) {
	switch {
	case err == nil:
		return linear.Done, true
	case errors.Is(err, fs.ErrExist):
		return linear.Exists, true
	case errors.Is(err, fs.ErrNotExist):
		return linear.Missing, true
	}
	return 0, false
}

// errorName is an error without the path that it is about.
func errorName(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
