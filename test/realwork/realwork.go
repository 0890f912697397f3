// Package realwork does on a mount what people do with a file system: copy
// trees, build programs, work with git, tar, rsync and fio, deliver mail, keep
// a database, fill a directory. Each test checks the result with the tool's own
// means or by comparing with what was meant, so that it can fail for one lost
// byte, time or link.
//
//	realwork.Run(t, "/mnt/demo")                  each test at most a minute on a FUSE mount
//	realwork.Run(t, dir, realwork.Tiny())         seconds on a local disk
//
// It needs rsync, fio, git and tar; the Makefile installs them. Nothing reaches
// the network.
package realwork

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// An Option changes how much is done.
type Option func(*work)

// Files sets how many files one directory gets; the default is 100,000.
func Files(n int) Option { return func(w *work) { w.files = n } }

// Tiny makes everything so small that a local disk needs a few seconds.
func Tiny() Option {
	return func(w *work) {
		w.files, w.trees, w.fioSize, w.mails, w.transactions = 2000, []string{"sort", "container"}, "2m", 100, 20
	}
}

// NoXattrs leaves extended attributes out, for a file system without them.
func NoXattrs() Option { return func(w *work) { w.xattrs = false } }

// work is what the tests share.
type work struct {
	dir          string   // on the mount, the run's own
	files        int      // of the large directory
	trees        []string // of GOROOT/src, what is copied
	fioSize      string
	mails        int // for each of several senders
	transactions int
	xattrs       bool
}

// patience is how long one tool may run.
const patience = 3 * time.Minute

// Run does all of it in a directory of its own below dir and removes it.
func Run(t *testing.T, dir string, opts ...Option) {
	w := &work{files: 100_000, trees: []string{"net", "crypto", "go"}, fioSize: "64m", mails: 500, transactions: 200, xattrs: true}
	for _, o := range opts {
		o(w)
	}
	top, err := os.MkdirTemp(dir, "realwork-")
	if err != nil {
		t.Fatal(err)
	}
	w.dir = top
	t.Cleanup(func() {
		if err := os.RemoveAll(top); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	for _, c := range []struct {
		name string
		run  func(t *testing.T, w *work, dir string)
	}{
		{"copy", copyTree}, {"tar", tarTree}, {"rsync", rsyncTree}, {"build", build}, {"git", useGit},
		{"fio", verifyWithFio}, {"maildir", deliverMail}, {"database", keepDatabase}, {"one directory", fillDirectory},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := filepath.Join(w.dir, strings.ReplaceAll(c.name, " ", "-"))
			must(t, os.Mkdir(d, 0o755))
			begin := time.Now()
			c.run(t, w, d)
			t.Logf("%s took %v", c.name, time.Since(begin).Round(10*time.Millisecond))
			must(t, os.RemoveAll(d))
		})
	}
}

// must fails the test if err is an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tool runs a program in dir and returns what it printed.
func tool(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "LC_ALL=C"), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, tail(string(out)))
	}
	return string(out)
}

// tail returns the end of a long text.
func tail(s string) string { return s[max(0, len(s)-4000):] }

// goroot is where the sources to work with are.
func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

// source makes a tree off the mount that has what trees of people have: sources
// of Go's library, and links, odd names, times, modes and attributes.
func (w *work) source(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "mortar-realwork-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	for _, tree := range w.trees {
		to := filepath.Join(dir, tree)
		must(t, os.MkdirAll(filepath.Dir(to), 0o755))
		tool(t, dir, nil, "cp", "-a", filepath.Join(goroot(t), "src", tree), to)
	}
	odd := filepath.Join(dir, "odd")
	must(t, os.MkdirAll(filepath.Join(odd, "empty"), 0o700))
	must(t, os.WriteFile(filepath.Join(odd, "file"), []byte("content"), 0o640))
	must(t, os.Link(filepath.Join(odd, "file"), filepath.Join(odd, "second name")))
	must(t, os.Symlink("file", filepath.Join(odd, "link")))
	must(t, os.Symlink("/nowhere/at/all", filepath.Join(odd, "dangling")))
	must(t, os.WriteFile(filepath.Join(odd, "ä\xff\n*"), nil, 0o4755))
	must(t, os.Chmod(filepath.Join(odd, "ä\xff\n*"), 0o755|os.ModeSetuid))
	must(t, os.WriteFile(filepath.Join(odd, strings.Repeat("n", 255)), []byte("long name"), 0))
	must(t, os.Chmod(filepath.Join(odd, "empty"), 0o777|os.ModeSticky|os.ModeSetgid))
	must(t, os.Lchown(filepath.Join(odd, "link"), 1234, 5678))
	must(t, os.Lchown(filepath.Join(odd, "empty"), 1234, 5678))
	sparse, err := os.Create(filepath.Join(odd, "sparse"))
	must(t, err)
	_, err = sparse.WriteAt([]byte("end"), 10<<20)
	must(t, err)
	must(t, sparse.Close())
	must(t, os.Chtimes(filepath.Join(odd, "file"), time.Unix(1, 1), time.Unix(-1_000_000, 123_456_789)))
	must(t, os.Chtimes(filepath.Join(odd, "empty"), time.Unix(1, 1), time.Unix(1<<32, 1)))
	if w.xattrs {
		tool(t, odd, nil, "setfattr", "-n", "user.comment", "-v", "kept by cp -a", "file")
	}
	return dir
}

// parallel runs f for 0 … n−1 on several goroutines and waits for them.
func parallel(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	workers := max(4, runtime.NumCPU())
	errs := make(chan error, workers)
	for w := range workers {
		go func() {
			for i := w; i < n; i += workers {
				if err := f(i); err != nil {
					errs <- fmt.Errorf("%d: %w", i, err)
					return
				}
			}
			errs <- nil
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}
