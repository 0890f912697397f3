package fuse

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// TestListingIsNoNews: attributes that waited in a fetched page must not undo
// what the kernel has learnt since.
func TestListingIsNoNews(t *testing.T) {
	m, s := mount(t, model.New(), "attribute-timeout=60,entry-timeout=60")
	for i := range 900 { // all in the first page, of which the kernel takes a part at a time
		write(t, fmt.Sprint(m, "/", i), "old")
	}
	d := open(t, m, os.O_RDONLY)
	first, err := d.Readdirnames(1)
	must(t, err)
	for i := range 900 {
		write(t, fmt.Sprint(m, "/", i), "longer")
	}
	must(t, unix.Link(m+"/1", m+"/second"))
	rest, err := d.Readdirnames(-1)
	must(t, err)
	if n := len(first) + len(rest); n < 900 {
		t.Errorf("%d names", n)
	}
	for i := range 900 {
		if st := stat(t, fmt.Sprint(m, "/", i)); st.Size != 6 {
			t.Fatalf("file %d has size %d again", i, st.Size)
		}
	}
	// And a name that was removed stays so.
	if _, err := d.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	first, err = d.Readdirnames(1)
	must(t, err)
	for i := range 900 {
		must(t, os.Remove(fmt.Sprint(m, "/", i)))
	}
	if _, err = d.Readdirnames(-1); err != nil {
		t.Fatal(err)
	}
	for i := range 900 {
		if _, err := os.Lstat(fmt.Sprint(m, "/", i)); !os.IsNotExist(err) {
			t.Fatalf("file %d is back: %v (%v)", i, err, first)
		}
	}
	_ = s
}

// TestEqualCookies: names with one cookie are not torn apart, whatever the
// size of the requests.
func TestEqualCookies(t *testing.T) {
	h := &hookFS{FS: model.New()}
	h.readDir = func(e []volume.Entry) []volume.Entry {
		for i := range e { // pairs
			e[i].Cookie = e[i&^1].Cookie
		}
		return e
	}
	m, _ := mount(t, h, "")
	for i := range 200 {
		write(t, fmt.Sprintf("%s/%0*d", m, 1+i, i), "")
	}
	d := open(t, m, os.O_RDONLY)
	buf := make([]byte, 4096)
	var names []string
	for {
		n, err := unix.Getdents(int(d.Fd()), buf)
		must(t, err)
		if n == 0 {
			break
		}
		_, _, got := unix.ParseDirent(buf[:n], -1, nil)
		names = append(names, got...)
		// Go on by the offset alone, as after a seek.
		off, err := unix.Seek(int(d.Fd()), 0, unix.SEEK_CUR)
		must(t, err)
		if _, err := unix.Seek(int(d.Fd()), 0, unix.SEEK_SET); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Seek(int(d.Fd()), off, unix.SEEK_SET); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	if len(names) != 200 || len(slices.Compact(names)) != 200 {
		t.Errorf("%d names", len(names))
	}
}

// TestForgotten: the table shrinks to the root, so lookups were counted right.
func TestForgotten(t *testing.T) {
	m, s := mount(t, model.New(), "")
	for i := range 500 {
		must(t, os.MkdirAll(fmt.Sprint(m, "/d", i%7), 0o755))
		write(t, fmt.Sprint(m, "/d", i%7, "/", i), "x")
	}
	for range 3 {
		out, err := exec.Command("ls", "-lR", m).CombinedOutput()
		if err != nil {
			t.Fatal(err, string(out))
		}
	}
	if n := s.front.nodes.len(); n < 500 {
		t.Errorf("%d nodes after a listing", n)
	}
	eventually(t, "everything is forgotten", func() bool {
		must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
		return s.front.nodes.len() == 1
	})
	wantText(t, m+"/d1/1", "x")
}

// TestRequests: what a task costs in calls of the FS.
func TestRequests(t *testing.T) {
	h := &hookFS{FS: model.New()}
	m, _ := mount(t, h, "attribute-timeout=60,entry-timeout=60")
	expect := func(what string, counts map[string]int) {
		t.Helper()
		for op, n := range counts {
			if got := h.take(op); got != n {
				t.Errorf("%s: %d × %s, not %d", what, got, op, n)
			}
		}
	}
	expect("mount", map[string]int{"getattr": 2})
	f := open(t, m+"/f", os.O_CREATE|os.O_WRONLY|os.O_EXCL)
	for range 10 {
		f.WriteString("0123456789")
	}
	f.Close()
	expect("create, write, close", map[string]int{"lookup": 1, "create": 1, "write": 10, "flush": 1, "getattr": 0, "getxattr": 0})
	wantText(t, m+"/f", "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789")
	expect("open, read, close", map[string]int{"open": 1, "read": 1, "flush": 0, "lookup": 0})
	eventually(t, "both are closed", func() bool { return h.take("close") > 0 })

	f = open(t, m+"/f", os.O_WRONLY|os.O_SYNC)
	h.take("sync")
	f.WriteString("x")
	f.Close()
	expect("O_SYNC", map[string]int{"sync": 1})
	f = open(t, m+"/f", os.O_WRONLY|syscall.O_DIRECT|syscall.O_DSYNC)
	f.WriteString("x")
	f.Close()
	expect("O_DIRECT|O_DSYNC", map[string]int{"sync": 0}) // the FS knows from the open
	f = open(t, m+"/f", os.O_WRONLY|syscall.O_DIRECT)
	if _, err := unix.Pwritev2(int(f.Fd()), [][]byte{[]byte("y")}, 0, unix.RWF_DSYNC); err != nil {
		t.Fatal(err)
	}
	f.Close()
	expect("O_DIRECT, RWF_DSYNC", map[string]int{"sync": 1})
}

// asNobody runs a shell command as a user without rights.
func asNobody(t *testing.T, script string) (string, error) {
	t.Helper()
	c := exec.Command("sh", "-c", script)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := c.CombinedOutput()
	return string(out), err
}

// TestForeseen: the kernel asks again for attributes that were only foreseen, and believes what it is told then.
func TestForeseen(t *testing.T) {
	h := &hookFS{FS: model.New(), created: func(a *volume.Attr) { a.Foreseen, a.Mtime = true, volume.Time{Sec: 1} }}
	m, _ := mount(t, h, "attribute-timeout=60,entry-timeout=60")
	f, err := os.Create(m + "/f")
	must(t, err)
	defer f.Close()
	h.take("getattr")
	for range 2 {
		if st := stat(t, m+"/f"); st.Mtim.Sec == 1 {
			t.Error("the kernel believes what was foreseen")
		}
	}
	if n := h.take("getattr"); n != 1 {
		t.Errorf("it asked %d times, want once", n)
	}
}

func TestSuid(t *testing.T) {
	m, _ := mount(t, model.New(), "")
	for _, how := range []string{"echo x >> %s", "echo x > %s", "truncate -s 1 %s", "dd if=/dev/zero of=%s bs=512 count=1 oflag=direct 2>&1"} {
		p := m + "/suid"
		write(t, p, "program")
		must(t, unix.Chmod(p, 0o6777))
		if out, err := asNobody(t, fmt.Sprintf(how, p)); err != nil {
			t.Fatal(how, out, err)
		}
		if st := stat(t, p); st.Mode&07777 != 0o777 {
			t.Errorf("%s: mode %o", how, st.Mode)
		}
		must(t, unix.Chmod(p, 0o6777))
		must(t, os.Chown(p, 1, 1))
		if st := stat(t, p); st.Mode&07777 != 0o777 {
			t.Errorf("chown: mode %o", st.Mode)
		}
		must(t, os.Remove(p))
	}
	write(t, m+"/mine", "")
	if out, err := asNobody(t, "echo x > "+m+"/mine"); err == nil {
		t.Error("anybody may write", out)
	}
}

func TestUmaskAndOwner(t *testing.T) {
	m, _ := mount(t, model.New(), "")
	must(t, os.Chmod(m, 0o1777))
	if out, err := asNobody(t, "umask 027; cd "+m+"; mkdir d; echo > f; mkfifo p; ln -s x l"); err != nil {
		t.Fatal(out, err)
	}
	for name, mode := range map[string]uint32{"d": 0o40750, "f": 0o100640, "p": 0o10640, "l": 0o120777} {
		if st := stat(t, m+"/"+name); st.Mode != mode || st.Uid != 65534 || st.Gid != 65534 {
			t.Errorf("%s: %o %d %d", name, st.Mode, st.Uid, st.Gid)
		}
	}
}

func TestXattr(t *testing.T) {
	for _, acl := range []bool{false, true} {
		options := ""
		if acl {
			options = "acl"
		}
		m, _ := mount(t, model.New(), options)
		p := m + "/f"
		write(t, p, "")
		caps := "\x01\x00\x00\x02\x01" + strings.Repeat("\x00", 15) // cap_chown+ep, version 2
		for name, value := range map[string]string{"user.a": "value", "user.b": "value", "security.capability": caps} {
			must(t, unix.Setxattr(p, name, []byte(value), unix.XATTR_CREATE))
		}
		wantErrno(t, unix.Setxattr(p, "user.a", nil, unix.XATTR_CREATE), syscall.EEXIST)
		wantErrno(t, unix.Setxattr(p, "user.c", nil, unix.XATTR_REPLACE), syscall.ENODATA)
		must(t, unix.Setxattr(p, "user.b", nil, 0))
		buf := make([]byte, 100)
		if n, err := unix.Getxattr(p, "user.a", nil); n != 5 || err != nil {
			t.Error(n, err)
		}
		if n, err := unix.Getxattr(p, "user.b", buf); n != 0 || err != nil {
			t.Error(n, err)
		}
		_, err := unix.Getxattr(p, "user.a", buf[:4])
		wantErrno(t, err, syscall.ERANGE)
		_, err = unix.Listxattr(p, buf[:4])
		wantErrno(t, err, syscall.ERANGE)
		must(t, unix.Removexattr(p, "user.b"))
		n, err := unix.Listxattr(p, buf)
		if string(buf[:n]) != "security.capability\x00user.a\x00" && string(buf[:n]) != "user.a\x00security.capability\x00" {
			t.Errorf("%q %v", buf[:n], err)
		}
		_, err = unix.Getxattr(p, "security.selinux", buf)
		wantErrno(t, err, syscall.EOPNOTSUPP)
		value := []byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x06\x00\x07\x00\x00\x00" +
			"\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x06\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff")
		err = unix.Setxattr(p, xattrACL, value, 0)
		if !acl {
			wantErrno(t, err, syscall.EOPNOTSUPP)
			continue
		}
		must(t, err)
		if st := stat(t, p); st.Mode&0o777 != 0o660 { // the mask shows as the group's
			t.Errorf("mode %o", st.Mode)
		}
		n, err = unix.Getxattr(p, xattrACL, buf)
		if string(buf[:n]) != string(value) {
			t.Errorf("%x %v", buf[:n], err)
		}
	}
}

func TestBirthTime(t *testing.T) {
	m, _ := mount(t, model.New(), "")
	write(t, m+"/f", "x")
	var sx unix.Statx_t
	must(t, unix.Statx(unix.AT_FDCWD, m+"/f", 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &sx))
	if sx.Mask&unix.STATX_BTIME == 0 || sx.Btime.Sec == 0 || sx.Size != 1 || sx.Mode != 0o100644 {
		t.Errorf("%+v", sx)
	}
}

func TestErrnos(t *testing.T) {
	h := &hookFS{FS: model.New()}
	var errno atomic.Uint32
	h.lookup = func(_ context.Context, name string) error {
		if e := syscall.Errno(errno.Load()); e != 0 {
			return &volume.Error{Op: "lookup", Where: name, Errno: e}
		}
		return nil
	}
	m, _ := mount(t, h, "")
	for give, want := range map[syscall.Errno]syscall.Errno{
		syscall.EIO: syscall.EIO, syscall.ETIMEDOUT: syscall.EIO, syscall.ENOSYS: syscall.EOPNOTSUPP,
		syscall.EINTR: syscall.EINTR, syscall.Errno(600): syscall.EIO, syscall.ESTALE: syscall.ESTALE,
		syscall.ENOENT: syscall.ENOENT,
	} {
		errno.Store(uint32(give))
		wantErrno(t, unix.Lstat(m+"/f", &unix.Stat_t{}), want)
	}
	errno.Store(0)
	must(t, os.Mkdir(m+"/f", 0o755))
	wantErrno(t, unix.Mkdir(m+"/f", 0o755), syscall.EEXIST)
	wantErrno(t, unix.Rename(m+"/f", m+"/f/g"), syscall.EINVAL)
}

// TestInterrupt: a signal that its program handles does not disturb a request;
// one that kills ends it.
func TestInterrupt(t *testing.T) {
	h := &hookFS{FS: model.New()}
	looking := make(chan context.Context)
	h.lookup = func(ctx context.Context, name string) error {
		if name != "slow" {
			return nil
		}
		looking <- ctx
		<-ctx.Done()
		return ctx.Err()
	}
	m, _ := mount(t, h, "")
	c := exec.Command("sh", "-c", "trap : USR1; echo ready; test -e $1; echo over", "sh", m+"/slow")
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	if line != "ready\n" {
		t.Fatal(line)
	}
	ctx := (<-looking).(*call)
	// A derived context must work too, and without a goroutine of package context.
	derived, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	must(t, c.Process.Signal(syscall.SIGUSR1))
	eventually(t, "the kernel tells of the signal", ctx.interrupted)
	select {
	case <-ctx.Done():
		t.Error("a handled signal cancelled the request")
	case <-time.After(5 * watchEvery):
	}
	must(t, c.Process.Kill())
	select {
	case <-derived.Done():
	case <-time.After(10 * time.Second):
		t.Error("a killed process still waits")
	}
	if err := c.Wait(); err == nil {
		t.Error("not killed")
	}
}

// TestAbort: a mount that the kernel gives up (umount -f, fusectl) answers what
// is on its way at once.
func TestAbort(t *testing.T) {
	h := &hookFS{FS: model.New()}
	reading := make(chan struct{}, 1)
	h.readAt = func(ctx context.Context) error {
		reading <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	m, s := mount(t, h, "")
	write(t, m+"/f", "x")
	c := exec.Command("cat", m+"/f")
	must(t, c.Start())
	<-reading
	must(t, unix.Unmount(m, unix.MNT_FORCE|unix.MNT_DETACH))
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the server goes on")
	}
	c.Wait()
}
