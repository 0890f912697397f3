package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Ledger is a simple account of what was acknowledged, beside the witnesses: its
// writers create, overwrite, rename and remove files of their own, synced
// or not, and in the end everything must be as the last acknowledgement said. What failed may
// be as before or as wanted, and is not touched again.
type Ledger struct {
	t    testing.TB
	dir  string
	stop chan struct{}
	work sync.WaitGroup

	mu struct {
		sync.Mutex
		files    map[string][]byte // what must be there; nil: nothing may be
		unsure   map[string]bool
		acked    int
		by       []int // of them, each writer's
		synced   int
		failures map[string]int
		slowest  time.Duration
	}
}

const ledgerPause = 3 * time.Millisecond

// StartLedger writes in a new directory on the first mount, through all of them.
func StartLedger(t testing.TB, seed uint64, writers int, mounts ...string) *Ledger {
	t.Helper()
	dir, err := os.MkdirTemp(mounts[0], "ledger-")
	if err != nil {
		t.Fatal(err)
	}
	l := &Ledger{t: t, dir: filepath.Base(dir), stop: make(chan struct{})}
	l.mu.files, l.mu.unsure, l.mu.failures = map[string][]byte{}, map[string]bool{}, map[string]int{}
	l.mu.by = make([]int, writers)
	for i := range writers {
		w := &bookkeeper{l: l, id: i, mount: mounts[i%len(mounts)], dice: rand.New(rand.NewPCG(seed, uint64(i)))}
		l.work.Go(func() {
			if err := apart(w.run); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *Ledger) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.work.Wait()
}

// bookkeeper is one writer with its files.
type bookkeeper struct {
	l     *Ledger
	id    int
	mount string
	dice  *rand.Rand
	mine  []string
	count int
}

func (w *bookkeeper) run() {
	tick := time.NewTicker(ledgerPause)
	defer tick.Stop()
	for {
		select {
		case <-w.l.stop:
			return
		case <-tick.C:
		}
		w.step()
	}
}

func (w *bookkeeper) path(name string) string { return filepath.Join(w.mount, w.l.dir, name) }

func (w *bookkeeper) content() []byte {
	line := fmt.Appendf(nil, "%d %d\n", w.id, w.count)
	return bytes.Repeat(line, 1+w.dice.IntN(1500))
}

// step does one operation.
func (w *bookkeeper) step() {
	w.count++
	name := fmt.Sprintf("%d-%d", w.id, w.count)
	sync := w.dice.IntN(3) == 0
	at := -1
	if len(w.mine) > 0 {
		at = w.dice.IntN(len(w.mine))
	}
	switch kind := w.dice.IntN(8); {
	case at < 0 || kind < 4:
		b := w.content()
		if w.book(map[string][]byte{name: b}, sync, func() error { return w.write(name, os.O_CREATE|os.O_EXCL, b, sync) }) {
			w.mine = append(w.mine, name)
		}
	case kind < 6:
		b := w.content()
		if !w.book(map[string][]byte{w.mine[at]: b}, sync, func() error { return w.write(w.mine[at], os.O_TRUNC, b, sync) }) {
			w.drop(at)
		}
	case kind == 6:
		old := w.mine[at]
		w.drop(at)
		b := w.l.has(old)
		if w.book(map[string][]byte{old: nil, name: b}, false, func() error { return os.Rename(w.path(old), w.path(name)) }) {
			w.mine = append(w.mine, name)
		}
	default:
		old := w.mine[at]
		w.drop(at)
		w.book(map[string][]byte{old: nil}, false, func() error { return unlink(w.path(old)) })
	}
}

func (w *bookkeeper) drop(at int) { w.mine = append(w.mine[:at], w.mine[at+1:]...) }

func (w *bookkeeper) write(name string, flags int, b []byte, sync bool) error {
	f, err := os.OpenFile(w.path(name), flags|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// unlink is unlink(2) alone. os.Remove goes on with rmdir(2) and returns what that says: of a file whose removal failed and
// is carried out nevertheless that it is not there.
func unlink(path string) error {
	if err := unix.Unlink(path); err != nil {
		return &fs.PathError{Op: "unlink", Path: path, Err: err}
	}
	return nil
}

func (l *Ledger) has(name string) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.files[name]
}

// book executes f and enters what is then, or that nobody knows.
func (w *bookkeeper) book(then map[string][]byte, synced bool, f func() error) bool {
	begin := time.Now()
	err := f()
	l := w.l
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.slowest = max(l.mu.slowest, time.Since(begin))
	for name, b := range then {
		if err != nil {
			l.mu.unsure[name] = true
			delete(l.mu.files, name)
		} else {
			l.mu.files[name] = b
		}
	}
	if err != nil {
		what := errorName(err)
		if l.mu.failures[what]++; l.mu.failures[what] <= 3 {
			l.t.Logf("%s after %v: %v", time.Now().Format("15:04:05.000"), time.Since(begin).Round(time.Millisecond), err)
		}
		if _, ok := known(err); ok {
			l.t.Errorf("%v: of a file that nobody else touches", err)
		}
		return false
	}
	l.mu.acked++
	l.mu.by[w.id]++
	if synced {
		l.mu.synced++
	}
	return true
}

// count returns how many changes were acknowledged.
func (l *Ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.acked
}

// Progress waits until n more changes are acknowledged.
func (l *Ledger) Progress(n int) {
	l.t.Helper()
	from := l.count()
	Eventually(l.t, "changes are acknowledged", func() error {
		if now := l.count(); now < from+n {
			return fmt.Errorf("%d of %d", now-from, n)
		}
		return nil
	})
}

// ProgressOfAll waits until n more changes of each writer are acknowledged.
func (l *Ledger) ProgressOfAll(n int) {
	l.t.Helper()
	counts := func() []int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.Clone(l.mu.by)
	}
	from := counts()
	Eventually(l.t, "changes of each client are acknowledged", func() error {
		now := counts()
		for i := range now {
			if now[i] < from[i]+n {
				return fmt.Errorf("%v, they were %v", now, from)
			}
		}
		return nil
	})
}

// Account is what a ledger comes to.
type Account struct {
	Acknowledged, Synced, Lost int
	Failures                   map[string]int
	Slowest                    time.Duration
}

// Finish stops the writers and counts what was acknowledged and is not so, as
// seen through a mount; each is an error of the test.
func (l *Ledger) Finish(mount string) Account {
	l.t.Helper()
	l.end()
	a := Account{Acknowledged: l.mu.acked, Synced: l.mu.synced, Failures: l.mu.failures, Slowest: l.mu.slowest}
	for name, want := range l.mu.files {
		b, err := os.ReadFile(filepath.Join(mount, l.dir, name))
		switch {
		case want == nil && errors.Is(err, fs.ErrNotExist):
			continue
		case want != nil && err == nil && bytes.Equal(b, want):
			continue
		}
		if a.Lost++; a.Lost <= 5 {
			l.t.Errorf("%s: acknowledged and lost: %d bytes %.20q (%v), want %d bytes %.20q", name, len(b), b, err, len(want), want)
		}
	}
	entries, err := os.ReadDir(filepath.Join(mount, l.dir))
	if err != nil {
		l.t.Error(err)
	}
	for _, e := range entries {
		if want, known := l.mu.files[e.Name()]; !l.mu.unsure[e.Name()] && (!known || want == nil) {
			l.t.Errorf("%s is listed and should not be there", e.Name())
			a.Lost++
		}
	}
	return a
}
