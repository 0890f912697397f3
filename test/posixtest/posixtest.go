// Package posixtest is a suite over a mount path: what only a kernel sees of a
// file system, from errnos of system calls with every kind of path and caller to
// mappings, locks, holes and directory streams. It runs on any directory; its
// own test runs it on the local disk, which must pass.
//
//	posixtest.Run(t, "/mnt/demo", posixtest.Options{ACL: true})
//
// The tests were written from the manual pages (section 2, and path_resolution,
// inode, acl, xattr of section 7 and 5). They run as root; calls by ordinary
// users are made on threads of their own that give up root, so the mount must let
// other users in (allow_other). A random test prints its seed; MORTAR_SEED
// repeats it.
//
// The file system must not be served by the process that runs the suite: a page
// fault of a mapping would wait for the server, and Go's runtime, when it stops
// the world, for the thread in the page fault.
//
// What a file system can't do goes into Options, each with its reason.
package posixtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options says how the file system below a path differs from ext4. The zero
// value is ext4 without ACLs.
type Options struct {
	ACL        bool // POSIX ACLs work (mount option acl)
	NoAllocate bool // fallocate(2) is EOPNOTSUPP
	NoShift    bool // collapse and insert range are EOPNOTSUPP: not in FUSE's kernel part
	NoHoles    bool // SEEK_DATA sees no holes
	NoDirNlink bool // a directory's nlink is always 1 (Btrfs)
	NoExchange bool // RENAME_EXCHANGE is EINVAL
	NoMmap     bool // no shared mappings (FUSE with direct_io before Linux 6.6)
	NoTrusted  bool // trusted.* is EOPNOTSUPP
	NoExec     bool // mounted noexec
	Entries    int  // of the large directory; 0: 5,000
	Exercises  int  // operations of the file exerciser; 0: 3,000
}

// env is what a test works with.
type env struct {
	*testing.T
	dir  string // the test's own, empty at the start, mode 0777
	opts Options
}

// test is one test of the suite.
type test struct {
	name string
	run  func(e *env)
}

// patience is how long anything is waited for that should come at once.
const patience = 20 * time.Second

// Run tests the file system at dir, which must be a directory that root may write.
func Run(t *testing.T, dir string, opts Options) {
	if os.Geteuid() != 0 {
		t.Fatal("posixtest wants to be root, to make calls as several users")
	}
	t.Cleanup(unmask())
	top, err := os.MkdirTemp(dir, "posixtest-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(top, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(top); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	groups := []struct {
		name  string
		tests []test
	}{
		{"paths", pathTests}, {"open", openTests}, {"make", makeTests}, {"remove", removeTests}, {"gone", goneTests}, {"rename", renameTests},
		{"users", userTests}, {"sticky", stickyTests}, {"setid", setidTests}, {"priv", privTests}, {"attr", attrTests}, {"times", timeTests}, {"atime", atimeTests},
		{"data", dataTests}, {"mmap", mmapTests}, {"space", spaceTests}, {"copy", copyTests}, {"handle", handleTests}, {"dir", dirTests},
		{"lock", lockTests}, {"xattr", xattrTests}, {"acl", aclTests}, {"exercise", exerciseTests},
	}
	for i, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for j, c := range g.tests {
				t.Run(c.name, func(t *testing.T) {
					e := &env{T: t, dir: fmt.Sprintf("%s/%d-%d", top, i, j), opts: opts}
					e.ok(unix.Mkdir(e.dir, 0o777))
					c.run(e)
				})
			}
		})
	}
}

// path returns the path of a name in the test's directory.
func (e *env) path(names ...string) string {
	return filepath.Join(append([]string{e.dir}, names...)...)
}

// ok fails the test if a call failed.
func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("unexpected error: %v", err)
	}
}

// fails fails the test unless a call failed with one of the errnos.
func (e *env) fails(err error, errnos ...syscall.Errno) {
	e.Helper()
	if !is(err, errnos...) {
		e.Fatalf("got %v, want %v", err, names(errnos))
	}
}

// is reports whether err is one of the errnos.
func is(err error, errnos ...syscall.Errno) bool {
	return slices.ContainsFunc(errnos, func(n syscall.Errno) bool { return err != nil && errors.Is(err, n) })
}

// names prints errnos.
func names(errnos []syscall.Errno) string {
	var all []string
	for _, n := range errnos {
		all = append(all, strconv.Quote(n.Error()))
	}
	return strings.Join(all, " or ")
}

// call is a system call that must fail, and how.
type call struct {
	what   string
	do     func() error
	errnos []syscall.Errno
}

// all checks that each of several calls fails as it should.
func (e *env) all(calls ...call) {
	e.Helper()
	for _, c := range calls {
		if err := c.do(); !is(err, c.errnos...) {
			e.Errorf("%s: got %v, want %v", c.what, err, names(c.errnos))
		}
	}
}

// only lists errnos for a call.
func only(errnos ...syscall.Errno) []syscall.Errno { return errnos }

// open opens a file until the end of the test.
func (e *env) open(path string, flags int, mode uint32) int {
	e.Helper()
	fd, err := openRetry(path, flags, mode)
	e.ok(err)
	e.Cleanup(func() { e.ok(unix.Close(fd)) })
	return fd
}

// openRetry is open(2), again if a signal came (Go's runtime sends them).
func openRetry(path string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// tryOpen opens and closes.
func tryOpen(path string, flags int, mode uint32) error {
	fd, err := openRetry(path, flags, mode)
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

// file makes a file with a content, mode 0644.
func (e *env) file(name, content string) string {
	e.Helper()
	p := e.path(name)
	e.ok(os.WriteFile(p, []byte(content), 0o644))
	return p
}

// mkdir makes a directory, mode 0755.
func (e *env) mkdir(name string) string {
	e.Helper()
	e.ok(unix.Mkdir(e.path(name), 0o755))
	return e.path(name)
}

// holds checks a file's content.
func (e *env) holds(path, content string) {
	e.Helper()
	b, err := os.ReadFile(path)
	e.ok(err)
	if string(b) != content {
		e.Fatalf("%s holds %.60q (%d bytes), want %.60q (%d)", filepath.Base(path), b, len(b), content, len(content))
	}
}

// stat is lstat(2).
func (e *env) stat(path string) unix.Stat_t {
	e.Helper()
	var st unix.Stat_t
	e.ok(unix.Lstat(path, &st))
	return st
}

// mode checks permission bits.
func (e *env) mode(path string, want uint32) {
	e.Helper()
	if m := e.stat(path).Mode & 0o7777; m != want {
		e.Errorf("%s has mode %o, want %o", filepath.Base(path), m, want)
	}
}

// nlink checks a link count.
func (e *env) nlink(path string, want uint64) {
	e.Helper()
	st := e.stat(path)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR && e.opts.NoDirNlink {
		want = 1
	}
	if uint64(st.Nlink) != want {
		e.Errorf("%s has %d links, want %d", filepath.Base(path), st.Nlink, want)
	}
}

// lists checks the names in a directory.
func (e *env) lists(path string, want ...string) {
	e.Helper()
	entries, err := os.ReadDir(path)
	e.ok(err)
	var got []string
	for _, x := range entries {
		got = append(got, x.Name())
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		e.Fatalf("%s holds %q, want %q", filepath.Base(path), got, want)
	}
}

// who is a caller: a user with a group and more groups.
type who struct {
	uid, gid int
	groups   []int
}

// Ordinary users, in groups of their own.
var (
	alice = who{uid: 65501, gid: 65501}
	bob   = who{uid: 65502, gid: 65502}
)

// as makes calls as someone: on a thread that becomes that user and then ends.
func (e *env) as(w who, f func() error) error {
	return thread(func() error { return become(w) }, f)
}

// masked calls f with a umask of its own, which is the process's otherwise, and so that of tests beside this one.
func (e *env) masked(mask int, f func() error) error {
	return thread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		unix.Umask(mask)
		return nil
	}, f)
}

// maskless counts the runs under way, which want a umask of 0.
var maskless struct {
	sync.Mutex
	runs, old int
}

// unmask makes the process's umask 0 until the last run is over, which is when what it returns was called by all.
func unmask() (done func()) {
	maskless.Lock()
	defer maskless.Unlock()
	if maskless.runs++; maskless.runs == 1 {
		maskless.old = unix.Umask(0)
	}
	return func() {
		maskless.Lock()
		defer maskless.Unlock()
		if maskless.runs--; maskless.runs == 0 {
			unix.Umask(maskless.old)
		}
	}
}

// thread calls f on a thread of its own, which prepare makes what f needs.
func thread(prepare, f func() error) error {
	result := make(chan error)
	go onThread(prepare, f, result)
	return <-result
}

// onThread prepares the goroutine's thread, calls f and ends the thread.
func onThread(prepare, f func() error, result chan<- error) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	if unix.Gettid() == os.Getpid() {
		// The process's first thread would not end, and /proc/self is its.
		defer runtime.UnlockOSThread()
		result <- thread(prepare, f)
		return
	}
	if err := prepare(); err != nil {
		result <- fmt.Errorf("a thread's own user or umask: %w", err)
		return
	}
	result <- f()
}

// become changes the credentials of the calling thread alone (the system calls
// themselves do that; it is libraries that tell the other threads).
func become(w who) error {
	groups := make([]uint32, max(1, len(w.groups)))
	for i, g := range w.groups {
		groups[i] = uint32(g)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(w.groups)), uintptr(unsafe.Pointer(&groups[0])), 0); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(w.gid), uintptr(w.gid), uintptr(w.gid)); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(w.uid), uintptr(w.uid), uintptr(w.uid)); errno != 0 {
		return errno
	}
	return nil
}

// eventually polls until f is true.
func (e *env) eventually(what string, f func() bool) {
	e.Helper()
	for end := time.Now().Add(patience); !f(); runtime.Gosched() {
		if time.Now().After(end) {
			e.Fatalf("%s: not within %v", what, patience)
		}
	}
}
