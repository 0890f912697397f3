package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Load writes small files on a mount, synced, at a modest pace, until it is
// stopped, and remembers what was acknowledged, what failed, and the longest wait.
type Load struct {
	t    testing.TB
	dir  string
	stop chan struct{}
	work sync.WaitGroup

	mu struct {
		sync.Mutex
		written  []string
		failures []Failure
		slowest  time.Duration
	}
}

// Failure is an operation of a Load that failed.
type Failure struct {
	Path string
	Err  error
	Took time.Duration
}

// How many files are written at once, and how long each writer rests between two.
const (
	loadWriters = 2
	loadPause   = 10 * time.Millisecond
)

// StartLoad writes in a new directory on the mount.
func StartLoad(t testing.TB, mount string) *Load {
	t.Helper()
	dir, err := os.MkdirTemp(mount, "load-")
	if err != nil {
		t.Fatal(err)
	}
	l := &Load{t: t, dir: dir, stop: make(chan struct{})}
	for w := range loadWriters {
		l.work.Go(func() { l.write(w) })
	}
	t.Cleanup(l.end)
	return l
}

func (l *Load) write(writer int) {
	tick := time.NewTicker(loadPause)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		path := filepath.Join(l.dir, fmt.Sprintf("%d-%d", writer, i))
		begin := time.Now()
		err := writeSynced(path, loadContent(path))
		took := time.Since(begin)
		l.mu.Lock()
		l.mu.slowest = max(l.mu.slowest, took)
		if err == nil {
			l.mu.written = append(l.mu.written, path)
		} else {
			l.mu.failures = append(l.mu.failures, Failure{path, err, took})
		}
		l.mu.Unlock()
	}
}

// loadContent is what is written to the file at path.
func loadContent(path string) []byte {
	name := []byte(filepath.Base(path) + "\n")
	return bytes.Repeat(name, 1+len(path)*37%200)
}

func writeSynced(path string, b []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// Progress waits until n more files have been written.
func (l *Load) Progress(n int) {
	l.t.Helper()
	count := func() (int, []Failure) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.mu.written), l.mu.failures
	}
	from, _ := count()
	Eventually(l.t, "files are written", func() error {
		if now, failures := count(); now < from+n {
			return fmt.Errorf("%d of %d; failures %v", now-from, n, failures)
		}
		return nil
	})
}

func (l *Load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.work.Wait()
}

// Stop ends the writing and returns what failed and the longest wait.
func (l *Load) Stop() ([]Failure, time.Duration) {
	l.t.Helper()
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.failures, l.mu.slowest
}

// Finish ends the writing; nothing may have failed, no wait have been longer
// than limit, and all must be there.
func (l *Load) Finish(limit time.Duration) {
	l.t.Helper()
	failures, slowest := l.Stop()
	for _, f := range failures[:min(len(failures), 5)] {
		l.t.Errorf("one of %d failures: %s: %v after %v", len(failures), f.Path, f.Err, f.Took)
	}
	if slowest > limit {
		l.t.Errorf("the longest wait was %v, want at most %v", slowest, limit)
	}
	l.t.Logf("%d files written, the longest wait %v", len(l.mu.written), slowest.Round(time.Millisecond))
	l.Check(l.dir)
}

// Check fails unless all that was acknowledged is there; dir is the load's
// directory, seen through whichever mount.
func (l *Load) Check(dir string) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := 0
	for _, path := range l.mu.written {
		b, err := os.ReadFile(filepath.Join(dir, filepath.Base(path)))
		if err == nil && bytes.Equal(b, loadContent(path)) {
			continue
		}
		if lost++; lost <= 5 {
			l.t.Errorf("%s: acknowledged and lost (%d bytes, %v)", path, len(b), err)
		}
	}
	if lost > 0 {
		l.t.Errorf("%d of %d files lost", lost, len(l.mu.written))
	}
}

// Dir is where the load writes, on its mount.
func (l *Load) Dir() string { return l.dir }
