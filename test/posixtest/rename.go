package posixtest

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

var renameTests = []test{
	{"onto everything", renameMatrix},
	{"no replace", func(e *env) {
		for kind, p := range e.kinds("") {
			f := e.file("from", "content")
			e.fails(unix.Renameat2(unix.AT_FDCWD, f, unix.AT_FDCWD, p, unix.RENAME_NOREPLACE), unix.EEXIST)
			e.holds(f, "content")
			e.ok(unix.Renameat2(unix.AT_FDCWD, f, unix.AT_FDCWD, p+"-new", unix.RENAME_NOREPLACE))
			e.holds(e.path(kind+"-new"), "content")
		}
	}},
	{"exchange", func(e *env) {
		if e.opts.NoExchange {
			return
		}
		a, b := e.kinds("a-"), e.kinds("b-")
		for ka, pa := range a {
			for kb, pb := range b {
				ia, ib := e.stat(pa).Ino, e.stat(pb).Ino
				e.ok(unix.Renameat2(unix.AT_FDCWD, pa, unix.AT_FDCWD, pb, unix.RENAME_EXCHANGE))
				if e.stat(pa).Ino != ib || e.stat(pb).Ino != ia {
					e.Errorf("%s and %s did not change places", ka, kb)
				}
			}
		}
		e.fails(unix.Renameat2(unix.AT_FDCWD, a["file"], unix.AT_FDCWD, e.path("absent"), unix.RENAME_EXCHANGE), unix.ENOENT)
		e.fails(unix.Renameat2(unix.AT_FDCWD, a["file"], unix.AT_FDCWD, e.path("x"), unix.RENAME_EXCHANGE|unix.RENAME_NOREPLACE), unix.EINVAL)
	}},
	{"into itself", func(e *env) {
		e.ok(os.MkdirAll(e.path("a/b/c"), 0o755))
		e.all(
			call{"into itself", func() error { return unix.Rename(e.path("a"), e.path("a/x")) }, only(unix.EINVAL)},
			call{"deep into itself", func() error { return unix.Rename(e.path("a"), e.path("a/b/c/x")) }, only(unix.EINVAL)},
			call{"onto its parent", func() error { return unix.Rename(e.path("a/b"), e.path("a")) }, only(unix.ENOTEMPTY, unix.EEXIST)},
			call{"onto what is above", func() error { return unix.Rename(e.path("a/b/c"), e.path("a")) }, only(unix.ENOTEMPTY, unix.EEXIST)},
		)
		e.ok(unix.Rename(e.path("a"), e.path("a")))
		e.lists(e.path("a/b"), "c")
	}},
	{"two names of one file", func(e *env) {
		f := e.file("f", "content")
		e.ok(unix.Link(f, e.path("g")))
		e.ok(unix.Rename(f, e.path("g")))
		e.lists(e.dir, "f", "g")
		e.nlink(f, 2)
		e.ok(unix.Rename(f, f))
	}},
	{"absent", func(e *env) {
		e.file("f", "")
		e.fails(unix.Rename(e.path("absent"), e.path("f")), unix.ENOENT)
		e.fails(unix.Rename(e.path("absent"), e.path("absent2")), unix.ENOENT)
		e.fails(unix.Rename(e.path("f"), e.path("absent", "f")), unix.ENOENT)
		e.lists(e.dir, "f")
	}},
	{"a tree keeps its content", func(e *env) {
		e.ok(os.MkdirAll(e.path("a/b/c"), 0o755))
		e.ok(os.WriteFile(e.path("a/b/c/f"), []byte("content"), 0o644))
		fd := e.open(e.path("a/b/c/f"), unix.O_RDWR, 0)
		e.ok(unix.Mkdir(e.path("x"), 0o755))
		e.ok(unix.Rename(e.path("a/b"), e.path("x/y")))
		e.holds(e.path("x/y/c/f"), "content")
		_, err := unix.Pwrite(fd, []byte("CON"), 0)
		e.ok(err)
		e.holds(e.path("x/y/c/f"), "CONtent")
		var a, b unix.Stat_t
		e.ok(unix.Stat(e.path("x/y/.."), &a))
		e.ok(unix.Stat(e.path("x"), &b))
		if a.Ino != b.Ino {
			e.Error(".. of the moved directory is not its new parent")
		}
		e.lists(e.path("a"))
	}},
	{"a loop of renames", func(e *env) {
		e.file("n0", "content")
		for i := range 200 {
			e.ok(unix.Rename(e.path("n"+itoa(i)), e.path("n"+itoa(i+1))))
		}
		e.lists(e.dir, "n200")
		e.holds(e.path("n200"), "content")
	}},
	{"a replaced name is never missing", func(e *env) {
		e.file("target", "0")
		var done atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for !done.Load() {
				b, err := os.ReadFile(e.path("target"))
				if err != nil || len(b) == 0 {
					e.Errorf("the target is missing or empty: %q, %v", b, err)
					return
				}
			}
		})
		for i := range 200 {
			p := e.file("temp"+itoa(i), itoa(i))
			e.ok(unix.Rename(p, e.path("target")))
		}
		done.Store(true)
		wg.Wait()
		e.holds(e.path("target"), "199")
	}},
	{"opposing renames", func(e *env) {
		for i := range 30 {
			top := e.mkdir("t" + itoa(i))
			e.ok(os.MkdirAll(top+"/a", 0o755))
			e.ok(os.MkdirAll(top+"/b", 0o755))
			var one, two error
			var wg sync.WaitGroup
			wg.Go(func() { one = unix.Rename(top+"/a", top+"/b/x") })
			wg.Go(func() { two = unix.Rename(top+"/b", top+"/a/x") })
			wg.Wait()
			if (one == nil) == (two == nil) {
				e.Fatalf("the first: %v; the second: %v", one, two)
			}
		}
	}},
}

// renameMatrix renames every type onto every type, absent and full ones too.
func renameMatrix(e *env) {
	kinds := []string{"absent", "file", "link", "fifo", "dir", "full"}
	for i, from := range kinds[1:] {
		for j, to := range kinds {
			d := e.mkdir(fmt.Sprintf("%d-%d", i, j))
			a, b := filepath.Join(d, "a"), filepath.Join(d, "b")
			e.thing(from, a)
			e.thing(to, b)
			fromDir, toDir := from == "dir" || from == "full", to == "dir" || to == "full"
			ino := e.stat(a).Ino
			err := unix.Rename(a, b)
			var want error
			switch {
			case to == "absent":
			case fromDir && !toDir:
				want = unix.ENOTDIR
			case !fromDir && toDir:
				want = unix.EISDIR
			case to == "full":
				want = unix.ENOTEMPTY
			}
			if err != want && !(want == unix.ENOTEMPTY && err == unix.EEXIST) {
				e.Errorf("%s onto %s: %v, want %v", from, to, err, want)
			}
			if err == nil {
				e.lists(d, "b")
				if e.stat(b).Ino != ino {
					e.Errorf("%s onto %s: another object is there", from, to)
				}
			} else {
				e.lists(d, "a", "b")
			}
		}
	}
}

// thing makes an object of a kind.
func (e *env) thing(kind, path string) {
	e.Helper()
	switch kind {
	case "file":
		e.ok(os.WriteFile(path, []byte(kind), 0o644))
	case "link":
		e.ok(unix.Symlink("target", path))
	case "fifo":
		e.ok(unix.Mkfifo(path, 0o644))
	case "dir":
		e.ok(unix.Mkdir(path, 0o755))
	case "full":
		e.ok(os.MkdirAll(path+"/inside", 0o755))
	}
}
