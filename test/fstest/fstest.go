// Package fstest is the conformance suite of volume.FS: what every
// implementation of the one contract must pass, whatever it is made of.
//
//	func TestConformance(t *testing.T) {
//		fstest.Run(t, fstest.Config{New: func(t *testing.T) volume.FS { … }})
//	}
//
// Run holds many small tests, each of a sentence of volume/fs.go, attr.go or
// doc.go. Random does the same random operations on the file system and on
// test/model's and compares every answer; RandomConcurrent does that from
// several goroutines in directories of their own.
//
// A random test prints its seed; MORTAR_SEED=n in the environment repeats it.
// A Feature that is missing is said in Config.Features, with a reason beside it.
package fstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// Config says what is tested.
type Config struct {
	// New returns a file system whose root is empty. It is called once by each of Run,
	// Random and RandomConcurrent; t.Cleanup takes it down.
	New      func(t *testing.T) volume.FS
	Features Features
}

// Features says what the file system under test, or the disk below it, can't do.
// The zero value is a file system that does everything.
type Features struct {
	NoACL      bool // no system.posix_acl_*
	NoTrusted  bool // no trusted.*
	NoAllocate bool // Allocate is EOPNOTSUPP
	NoShift    bool // Allocate does neither collapse nor insert ranges (tmpfs, loopbacks)
	NoSeek     bool // Seek knows no holes: all is data
	NoDirNlink bool // the Nlink of directories is not known (1)
	Slow       bool // each operation takes milliseconds: counts are reduced
}

// testTime is how long one test may take before its operations are cancelled.
const testTime = 60 * time.Second

// env is what a test works with: the file system, a directory of its own, and
// calls that fail the test when the file system does.
type env struct {
	*testing.T
	fs   volume.FS
	ctx  context.Context
	dir  volume.ID // empty at the start
	feat Features
}

// test is one test of the suite.
type test struct {
	name string
	run  func(e *env)
}

var dirs atomic.Int64 // numbers the tests' directories

// Run tests one file system against the whole contract.
func Run(t *testing.T, cfg Config) {
	fsys := cfg.New(t)
	groups := []struct {
		name  string
		tests []test
	}{
		{"lookup", lookupTests}, {"stale", staleTests}, {"make", makeTests}, {"bear", bearTests}, {"create", createTests},
		{"link", linkTests}, {"rename", renameTests}, {"readdir", readdirTests}, {"attr", attrTests}, {"priv", privTests},
		{"data", dataTests}, {"copy", copyTests}, {"space", spaceTests}, {"xattr", xattrTests}, {"acl", aclTests},
		{"lock", lockTests}, {"context", contextTests}, {"concurrent", concurrentTests},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, c := range g.tests {
				t.Run(c.name, func(t *testing.T) { c.run(newEnv(t, fsys, cfg.Features)) })
			}
		})
	}
}

// newEnv returns an env with a directory of its own.
func newEnv(t *testing.T, fsys volume.FS, feat Features) *env {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTime)
	t.Cleanup(cancel)
	e := &env{T: t, fs: fsys, ctx: ctx, feat: feat}
	a, err := fsys.Make(ctx, volume.Root, fmt.Sprintf("test-%d", dirs.Add(1)), volume.Node{Mode: syscall.S_IFDIR | 0o755})
	e.ok(err)
	e.dir = a.ID
	return e
}

// count returns n, or less on a slow file system.
func (e *env) count(n int) int {
	if e.feat.Slow {
		return max(1, n/10)
	}
	return n
}

// ok fails the test if an operation failed.
func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("unexpected error: %v", err)
	}
}

// fails fails the test unless the error is an *Error with one of the errnos.
func (e *env) fails(err error, errnos ...syscall.Errno) {
	e.Helper()
	if err == nil {
		e.Fatalf("no error, want %v", names(errnos))
	}
	var ve *volume.Error
	if !errors.As(err, &ve) {
		e.Fatalf("error %v (%T) is no *volume.Error", err, err)
	}
	if !slices.Contains(errnos, volume.ErrnoOf(err)) {
		e.Fatalf("error %v, want %v", err, names(errnos))
	}
}

// names prints errnos for people.
func names(errnos []syscall.Errno) string {
	s := ""
	for i, n := range errnos {
		if i > 0 {
			s += " or "
		}
		s += fmt.Sprintf("%q", n.Error())
	}
	return s
}

// as returns an env whose operations carry a Cred.
func (e *env) as(c volume.Cred) *env {
	d := *e
	d.ctx = volume.WithCred(e.ctx, c)
	return &d
}

// mkdir makes a directory.
func (e *env) mkdir(dir volume.ID, name string) volume.ID {
	e.Helper()
	return e.make(dir, name, volume.Node{Mode: syscall.S_IFDIR | 0o755}).ID
}

// symlink makes a symbolic link.
func (e *env) symlink(dir volume.ID, name, target string) volume.ID {
	e.Helper()
	return e.make(dir, name, volume.Node{Mode: syscall.S_IFLNK | 0o777, Target: target}).ID
}

// fifo makes a fifo.
func (e *env) fifo(dir volume.ID, name string) volume.ID {
	e.Helper()
	return e.make(dir, name, volume.Node{Mode: syscall.S_IFIFO | 0o644}).ID
}

// make makes an object.
func (e *env) make(dir volume.ID, name string, n volume.Node) volume.Attr {
	e.Helper()
	a, err := e.fs.Make(e.ctx, dir, name, n)
	e.ok(err)
	return a
}

// file makes a file with a content.
func (e *env) file(dir volume.ID, name, content string) volume.ID {
	e.Helper()
	f, a, err := e.fs.Create(e.ctx, dir, name, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write|volume.Excl)
	e.ok(err)
	if content != "" {
		n, err := f.WriteAt(e.ctx, []byte(content), 0, 0)
		e.ok(err)
		if n != len(content) {
			e.Fatalf("wrote %d of %d bytes", n, len(content))
		}
	}
	e.ok(f.Flush(e.ctx))
	e.ok(f.Close())
	return a.ID
}

// open opens a file until the end of the test.
func (e *env) open(id volume.ID, flags volume.Flags) volume.File {
	e.Helper()
	f := e.openOnly(id, flags)
	e.Cleanup(func() {
		if err := f.Close(); err != nil {
			e.Errorf("close: %v", err)
		}
	})
	return f
}

// openOnly opens a file that the test closes itself.
func (e *env) openOnly(id volume.ID, flags volume.Flags) volume.File {
	e.Helper()
	f, err := e.fs.Open(e.ctx, id, flags)
	e.ok(err)
	if f.ID() != id {
		e.Fatalf("opened %v, got a handle of %v", id, f.ID())
	}
	return f
}

// write writes all of p.
func (e *env) write(f volume.File, p string, off int64) {
	e.Helper()
	n, err := f.WriteAt(e.ctx, []byte(p), off, 0)
	e.ok(err)
	if n != len(p) {
		e.Fatalf("wrote %d of %d bytes", n, len(p))
	}
}

// readAt reads up to n bytes.
func (e *env) readAt(f volume.File, off int64, n int) string {
	e.Helper()
	p := make([]byte, n)
	n, err := f.ReadAt(e.ctx, p, off)
	e.ok(err)
	return string(p[:n])
}

// content reads a whole file by its ID.
func (e *env) content(id volume.ID) string {
	e.Helper()
	f := e.openOnly(id, volume.Read)
	s := ""
	for {
		p := e.readAt(f, int64(len(s)), 64<<10)
		if p == "" {
			break
		}
		s += p
	}
	e.ok(f.Close())
	return s
}

// holds fails the test unless a name leads to id.
func (e *env) holds(dir volume.ID, name string, id volume.ID) volume.Attr {
	e.Helper()
	a, err := e.fs.Lookup(e.ctx, dir, name)
	e.ok(err)
	if a.ID != id {
		e.Fatalf("%q leads to %v, want %v", name, a.ID, id)
	}
	if a.Held != 0 {
		e.Fatalf("%q shows a pointer to set %d", name, a.Held)
	}
	return a
}

// missing fails the test unless a name is free.
func (e *env) missing(dir volume.ID, name string) {
	e.Helper()
	_, err := e.fs.Lookup(e.ctx, dir, name)
	e.fails(err, syscall.ENOENT)
}

// attr returns an object's attributes.
func (e *env) attr(id volume.ID) volume.Attr {
	e.Helper()
	a, err := e.fs.Getattr(e.ctx, id)
	e.ok(err)
	if a.ID != id {
		e.Fatalf("attributes of %v say they are %v's", id, a.ID)
	}
	return a
}

// nlink fails the test unless an object has n names.
func (e *env) nlink(id volume.ID, n uint32) {
	e.Helper()
	a := e.attr(id)
	if a.IsDir() && e.feat.NoDirNlink {
		n = 1
	}
	if a.Nlink != n {
		e.Fatalf("nlink %d, want %d", a.Nlink, n)
	}
}

// change sets attributes.
func (e *env) change(id volume.ID, c volume.Change) volume.Attr {
	e.Helper()
	a, err := e.fs.Setattr(e.ctx, id, c)
	e.ok(err)
	if b := e.attr(id); !same(a, b) {
		e.Fatalf("setattr returned %+v, getattr says %+v", a, b)
	}
	return a
}

// same compares attributes, but for the Blocks, which a disk may count later.
func same(a, b volume.Attr) bool {
	a.Blocks, b.Blocks = 0, 0
	return a == b
}

// list returns a directory's entries, read in pages, and checks each page.
func (e *env) list(dir volume.ID, page int, attrs bool) []volume.Entry {
	e.Helper()
	var all []volume.Entry
	after := volume.CookieStart
	for {
		es, end, err := e.fs.ReadDir(e.ctx, dir, after, page, attrs)
		e.ok(err)
		if len(es) > page+1 {
			e.Fatalf("%d entries in a page of %d", len(es), page)
		}
		for _, x := range es {
			if x.Cookie < after || x.Cookie == after && len(all) == 0 || x.Cookie != volume.CookieOf(x.Name) {
				e.Fatalf("entry %q has cookie %d after %d", x.Name, x.Cookie, after)
			}
			after = x.Cookie
			all = append(all, x)
		}
		if end {
			return all
		}
		if len(es) == 0 {
			e.Fatal("an empty page that is not the end")
		}
	}
}

// namesIn returns a directory's names, sorted.
func (e *env) namesIn(dir volume.ID) []string {
	e.Helper()
	var all []string
	for _, x := range e.list(dir, 1000, false) {
		all = append(all, x.Name)
	}
	slices.Sort(all)
	return all
}

// lists fails the test unless a directory has these names.
func (e *env) lists(dir volume.ID, want ...string) {
	e.Helper()
	slices.Sort(want)
	if got := e.namesIn(dir); slices.CompareFunc(got, want, cmp.Compare[string]) != 0 {
		e.Fatalf("directory holds %q, want %q", got, want)
	}
}

// tick returns when the file system's clock has gone on: what changes from now
// on has a later time than what changed before. It polls.
func (e *env) tick() {
	e.Helper()
	now := volume.Change{Mask: volume.SetMtimeNow}
	name := fmt.Sprintf("tick-%d", dirs.Add(1))
	id := e.file(volume.Root, name, "")
	first := e.attr(id).Ctime
	for e.change(id, now); !first.Before(e.attr(id).Ctime); e.change(id, now) {
		if e.ctx.Err() != nil {
			e.Fatal("the clock stands still")
		}
	}
	e.ok(e.fs.Unlink(e.ctx, volume.Root, name))
}
