package fuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// logTo writes a mount's log into the test's.
type logTo struct{ t testing.TB }

func (l logTo) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// mount mounts fs for the length of the test on a new directory, whose path it returns.
func mount(t testing.TB, fs volume.FS, options string) (string, *Server) {
	t.Helper()
	return mountPart(t, fs, "", options)
}

// mountPart mounts a directory of fs.
func mountPart(t testing.TB, fs volume.FS, subdir, options string) (string, *Server) {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "mortar-fuse-") // unlike t.TempDir open to all users
	must(t, err)
	t.Cleanup(func() { os.Remove(dir) })
	must(t, os.Chmod(dir, 0o755))
	o, err := ParseOptions(options, false)
	must(t, err)
	s, err := Mount(context.Background(), Config{
		FS: fs, Dir: dir, Subdir: subdir, Source: "host:/test", Options: o,
		Logger: slog.New(slog.NewTextHandler(logTo{t}, nil)),
	})
	must(t, err)
	t.Cleanup(func() {
		if err := s.Unmount(); err != nil {
			t.Error(err)
			if err := s.Detach(); err != nil {
				t.Error(err)
			}
		}
	})
	return s.Path(), s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func wantText(t testing.TB, path, text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || string(b) != text {
		t.Fatalf("%s: %.40q, %v; want %.40q", path, b, err, text)
	}
}

func wantErrno(t testing.TB, err error, want syscall.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%v; want %v", err, want)
	}
}

func open(t testing.TB, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o644)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func stat(t testing.TB, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return st
}

func TestMountShows(t *testing.T) {
	m, s := mount(t, model.New(), "nosuid,noatime")
	mounts, err := mountsOn(m)
	if err != nil || len(mounts) != 1 || mounts[0].fsType != "fuse.mortar" || mounts[0].source != "host:/test" {
		t.Fatal(mounts, err)
	}
	b, err := os.ReadFile("/sys/class/bdi/" + mounts[0].device + "/read_ahead_kb")
	if err != nil || strings.TrimSpace(string(b)) != fmt.Sprint(defaultReadAhead) {
		t.Errorf("read-ahead %s %v", b, err)
	}
	var st unix.Statfs_t
	must(t, unix.Statfs(m, &st))
	if st.Flags&unix.MS_NOSUID == 0 || st.Flags&unix.MS_NOATIME == 0 || st.Namelen != volume.NameMax {
		t.Errorf("%+v", st)
	}
	if stat(t, m).Ino != 1 {
		t.Error("the root's inode number is not 1")
	}
	must(t, s.Unmount())
	must(t, s.Unmount())
	if mounts, _ := mountsOn(m); len(mounts) != 0 {
		t.Error("still mounted")
	}
}

func TestMountRefuses(t *testing.T) {
	ctx := context.Background()
	m, _ := mount(t, model.New(), "")
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	for _, c := range []struct{ dir, source, subdir, part string }{
		{m, "host:/test", "", "host:/test is already mounted on " + m},
		{m, "host:/other", "", "is busy: host:/test is mounted on it"},
		{file, "host:/test", "", "is not a directory"},
		{file + "x", "host:/test", "", "does not exist"},
		{t.TempDir(), "host:/test", "no/such", "no/such of the volume: no such file"},
	} {
		_, err := Mount(ctx, Config{FS: model.New(), Dir: c.dir, Source: c.source, Subdir: c.subdir, Options: DefaultOptions()})
		if err == nil || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s: %v; want …%s…", c.dir, err, c.part)
		}
	}
	if mounts, _ := mountsOn(m); len(mounts) != 1 {
		t.Error(mounts)
	}
}

func TestSubdir(t *testing.T) {
	fs := model.New()
	m, _ := mount(t, fs, "")
	must(t, os.MkdirAll(m+"/a/b", 0o755))
	write(t, m+"/a/b/f", "deep")
	dir := t.TempDir()
	s, err := Mount(context.Background(), Config{FS: fs, Dir: dir, Source: "host:/test/a/b", Subdir: "a/b", Options: DefaultOptions()})
	must(t, err)
	defer s.Unmount()
	wantText(t, dir+"/f", "deep")
	write(t, dir+"/g", "new")
	wantText(t, m+"/a/b/g", "new")
	wantText(t, dir+"/../"+filepath.Base(dir)+"/g", "new")
}

func TestReadOnly(t *testing.T) {
	fs := model.New()
	m, _ := mount(t, fs, "")
	write(t, m+"/f", "x")
	ro, _ := mount(t, fs, "ro")
	wantText(t, ro+"/f", "x")
	wantErrno(t, os.WriteFile(ro+"/f", nil, 0), syscall.EROFS)
	wantErrno(t, os.Mkdir(ro+"/d", 0o755), syscall.EROFS)
}

// TestTwoMounts: close-to-open for data, the timeouts for names and attributes.
func TestTwoMounts(t *testing.T) {
	fs := model.New()
	a, _ := mount(t, fs, "")
	b, _ := mount(t, fs, "")
	write(t, a+"/f", "first")
	wantText(t, b+"/f", "first")
	held := open(t, b+"/f", os.O_RDONLY)
	for i := range 20 { // same length, so that only the open can tell
		text := fmt.Sprintf("%05d", i)
		write(t, a+"/f", text)
		wantText(t, b+"/f", text)
		write(t, b+"/f", text+"!")
		wantText(t, a+"/f", text+"!")
	}
	eventually(t, "what was open sees the change", func() bool {
		buf := make([]byte, 6)
		n, _ := held.ReadAt(buf, 0)
		return string(buf[:n]) == "00019!"
	})
	must(t, os.Rename(a+"/f", a+"/g"))
	eventually(t, "rename is seen", func() bool {
		_, err1 := os.Stat(b + "/f")
		_, err2 := os.Stat(b + "/g")
		return errors.Is(err1, syscall.ENOENT) && err2 == nil
	})
	must(t, os.Remove(b+"/g"))
	eventually(t, "unlink is seen", func() bool {
		_, err := os.Stat(a + "/g")
		return errors.Is(err, syscall.ENOENT)
	})
	must(t, os.Symlink("x", a+"/link"))
	if s, err := os.Readlink(b + "/link"); s != "x" {
		t.Error(s, err)
	}
}

// TestSizeAtOpen: who opens a file reads all that another mount had written before, though the kernel was told
// a moment ago where it ended then.
func TestSizeAtOpen(t *testing.T) {
	fs := &hookFS{FS: model.New(), tells: true}
	a, _ := mount(t, fs, "")
	b, _ := mount(t, fs, "attribute-timeout=3600,entry-timeout=3600")
	write(t, a+"/f", "1")
	for i := range 20 {
		if _, err := os.Stat(b + "/f"); err != nil {
			t.Fatal(err)
		}
		text := strings.Repeat("x", i*1000)
		write(t, a+"/f", text)
		wantText(t, b+"/f", text)
	}
}

// TestAppendTwoMounts: O_APPEND from two mounts at once loses nothing, and what
// a mount's own kernel thinks of the offsets is put right.
func TestAppendTwoMounts(t *testing.T) {
	fs := model.New()
	a, _ := mount(t, fs, "")
	b, _ := mount(t, fs, "")
	fa := open(t, a+"/log", os.O_CREATE|os.O_APPEND|os.O_RDWR)
	fb := open(t, b+"/log", os.O_APPEND|os.O_RDWR)
	var want strings.Builder
	for i := range 50 {
		for _, f := range []*os.File{fa, fb} {
			line := fmt.Sprintf("line %d of %d\n", i, f.Fd())
			if _, err := f.WriteString(line); err != nil {
				t.Fatal(err)
			}
			want.WriteString(line)
		}
	}
	for _, f := range []*os.File{fa, fb} {
		eventually(t, "all lines are read", func() bool {
			buf := make([]byte, want.Len()+1)
			n, _ := f.ReadAt(buf, 0)
			return string(buf[:n]) == want.String()
		})
	}
	wantText(t, a+"/log", want.String())
}

// TestAppendWhole: what one write(2) appends is one append, though it begins in the midst of a page and ends in another: cut in two,
// another mount's record could come between.
func TestAppendWhole(t *testing.T) {
	hook := &hookFS{FS: model.New()}
	m, _ := mount(t, hook, "")
	record := strings.Repeat("0123456789", 700)
	want := ""
	for _, flags := range []int{os.O_CREATE | os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_SYNC} {
		f := open(t, m+"/log", flags|os.O_APPEND)
		for range 20 {
			hook.take("append")
			_, err := f.WriteString(record)
			must(t, err)
			if n := hook.take("append"); n != 1 {
				t.Fatalf("flags %o: one write is %d appends", flags, n)
			}
			want += record
		}
		must(t, f.Close())
		wantText(t, m+"/log", want)
	}
}

// TestAppendFails has an append fail, at a layer that could delay it and at one that can't: who wrote is told.
func TestAppendFails(t *testing.T) {
	for _, late := range []bool{false, true} {
		var fails atomic.Bool
		hook := &hookFS{FS: model.New(), late: late}
		hook.append = func() error {
			if fails.Load() {
				return &volume.Error{Op: "append", Errno: syscall.ENOSPC}
			}
			return nil
		}
		m, _ := mount(t, hook, "")
		f := open(t, m+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY)
		_, err := f.WriteString("a")
		must(t, err)
		fails.Store(true)
		if _, err := f.WriteString("b"); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("late %v: an append that fails: %v", late, err)
		}
		fails.Store(false)
		_, err = f.WriteString("c")
		must(t, err)
		wantText(t, m+"/log", "ac")
	}
}

func TestRemovedButUsed(t *testing.T) {
	fs := model.New()
	m, _ := mount(t, fs, "attribute-timeout=0,entry-timeout=0")
	other, _ := mount(t, fs, "")
	must(t, os.Mkdir(m+"/d", 0o750))
	d := open(t, m+"/d", os.O_RDONLY)
	if _, err := d.Stat(); err != nil {
		t.Fatal(err)
	}
	must(t, os.Remove(other+"/d")) // not by this kernel, which would answer by itself
	st, err := d.Stat()
	if err != nil || st.Mode().Perm() != 0o750 || st.Sys().(*syscall.Stat_t).Nlink != 0 {
		t.Errorf("%v %v", st, err)
	}
	if names, err := d.Readdirnames(-1); err != nil || len(names) != 0 {
		t.Errorf("%v %v", names, err)
	}
	f := open(t, m+"/f", os.O_CREATE|os.O_RDWR)
	must(t, os.Remove(m+"/f"))
	_, err = f.WriteString("still here")
	must(t, err)
	must(t, f.Truncate(5))
	must(t, f.Chmod(0o600))
	fi, err := f.Stat()
	if err != nil || fi.Size() != 5 || fi.Mode() != 0o600 || fi.Sys().(*syscall.Stat_t).Nlink != 0 {
		t.Errorf("%v %v", fi, err)
	}
	buf := make([]byte, 9)
	if n, _ := f.ReadAt(buf, 0); string(buf[:n]) != "still" {
		t.Errorf("%q", buf[:n])
	}
}

func TestBigData(t *testing.T) {
	for _, options := range []string{"", "direct-io-mode=enable"} {
		m := mountProcess(t, options)
		data := make([]byte, 5<<20+123)
		r := rand.NewChaCha8([32]byte{1})
		r.Read(data)
		must(t, os.WriteFile(m+"/f", data, 0o644))
		got, err := os.ReadFile(m + "/f")
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%s: %v", options, err)
		}
		f := open(t, m+"/f", os.O_RDWR)
		p, err := unix.Mmap(int(f.Fd()), 0, len(data), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		must(t, err)
		if !bytes.Equal(p, data) {
			t.Errorf("%s: the mapping differs", options)
		}
		copy(p[4096:], "through the mapping")
		must(t, unix.Msync(p, unix.MS_SYNC))
		must(t, unix.Munmap(p))
		buf := make([]byte, 19)
		if _, err := f.ReadAt(buf, 4096); err != nil || string(buf) != "through the mapping" {
			t.Errorf("%s: %q %v", options, buf, err)
		}
	}
}

func TestCopyFileRange(t *testing.T) {
	h := &hookFS{FS: model.New()}
	m, _ := mount(t, h, "")
	data := bytes.Repeat([]byte("mortar "), 500_000)
	must(t, os.WriteFile(m+"/a", data, 0o644))
	a, b := open(t, m+"/a", os.O_RDONLY), open(t, m+"/b", os.O_CREATE|os.O_RDWR)
	h.take("read")
	for done := 0; done < len(data); {
		n, err := unix.CopyFileRange(int(a.Fd()), nil, int(b.Fd()), nil, len(data)-done, 0)
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
		done += n
	}
	if n := h.take("read"); n > 5 {
		t.Errorf("%d reads: the kernel copied it itself", n)
	}
	got, err := os.ReadFile(m + "/b")
	if err != nil || !bytes.Equal(got, data) {
		t.Error("the copy differs", err)
	}
}

func TestListing(t *testing.T) {
	fs := model.New()
	m, _ := mount(t, fs, "")
	other, _ := mount(t, fs, "")
	want := []string{"."}[:0]
	for i := range 3000 {
		name := fmt.Sprintf("%0*d", 1+i%200, i)
		want = append(want, name)
		write(t, other+"/"+name, "x")
	}
	slices.Sort(want)
	for _, dir := range []string{m, other} {
		entries, err := os.ReadDir(dir)
		must(t, err)
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
			if fi, err := e.Info(); err != nil || fi.Size() != 1 {
				t.Fatal(fi, err)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d names, not %d", len(got), len(want))
		}
	}
}
