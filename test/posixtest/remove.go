package posixtest

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

var removeTests = []test{
	{"unlink", func(e *env) {
		for kind, p := range e.kinds("") {
			if kind == "dir" {
				e.fails(unix.Unlink(p), unix.EISDIR, unix.EPERM)
				continue
			}
			e.ok(unix.Unlink(p))
			e.fails(unix.Unlink(p), unix.ENOENT)
			var st unix.Stat_t
			e.fails(unix.Lstat(p, &st), unix.ENOENT)
		}
		e.lists(e.dir, "dir")
	}},
	{"rmdir", func(e *env) {
		for kind, p := range e.kinds("") {
			if kind != "dir" {
				e.fails(unix.Rmdir(p), unix.ENOTDIR)
				continue
			}
			e.ok(unix.Rmdir(p))
			e.fails(unix.Rmdir(p), unix.ENOENT)
		}
	}},
	{"rmdir of a full directory", func(e *env) {
		for kind, p := range e.kinds("") {
			d := e.mkdir("holder-" + kind)
			e.ok(unix.Rename(p, d+"/x"))
			e.fails(unix.Rmdir(d), unix.ENOTEMPTY, unix.EEXIST)
			e.ok(os.Remove(d + "/x"))
			e.ok(unix.Rmdir(d))
		}
	}},
	{"unlinkat", func(e *env) {
		f := e.file("f", "")
		e.mkdir("d")
		fd := e.open(e.dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		e.fails(unix.Unlinkat(fd, "f", unix.AT_REMOVEDIR), unix.ENOTDIR)
		e.fails(unix.Unlinkat(fd, "d", 0), unix.EISDIR, unix.EPERM)
		e.fails(unix.Unlinkat(e.open(f, unix.O_RDONLY, 0), "x", 0), unix.ENOTDIR)
		e.ok(unix.Unlinkat(fd, "f", 0))
		e.ok(unix.Unlinkat(fd, "d", unix.AT_REMOVEDIR))
		e.lists(e.dir)
	}},
	{"an open directory", func(e *env) {
		d := e.mkdir("d")
		fd := e.open(d, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		e.ok(unix.Rmdir(d))
		var st unix.Stat_t
		e.ok(unix.Fstat(fd, &st))
		names, err := os.ReadDir("/proc/self/fd/" + itoa(fd))
		if len(names) != 0 || err != nil && !is(err, unix.ENOENT) {
			e.Errorf("it holds %v, %v", names, err)
		}
		e.mkdir("d")
		if a := e.stat(d); a.Ino == st.Ino {
			e.Error("the new directory has the old one's inode number, while that is open")
		}
	}},
	{"one of many wins", func(e *env) {
		for i := range 50 {
			p := e.file("f"+itoa(i), "")
			if n := race(8, func() error { return unix.Unlink(p) }); n != 1 {
				e.Fatalf("%d unlinks succeeded", n)
			}
			if n := race(8, func() error { return unix.Mkdir(p, 0o755) }); n != 1 {
				e.Fatalf("%d mkdirs succeeded", n)
			}
			if n := race(8, func() error { return unix.Rmdir(p) }); n != 1 {
				e.Fatalf("%d rmdirs succeeded", n)
			}
			if n := race(8, func() error { return tryOpen(p, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644) }); n != 1 {
				e.Fatalf("%d exclusive creates succeeded", n)
			}
		}
	}},
	{"creates against rmdir", func(e *env) {
		for i := range 50 {
			d := e.mkdir("d" + itoa(i))
			var wg sync.WaitGroup
			var made, removed error
			wg.Go(func() { made = tryOpen(d+"/f", unix.O_CREAT|unix.O_WRONLY, 0o644) })
			wg.Go(func() { removed = unix.Rmdir(d) })
			wg.Wait()
			if (made == nil) == (removed == nil) {
				e.Fatalf("create: %v; rmdir: %v", made, removed)
			}
			if made == nil {
				e.lists(d, "f")
			}
		}
	}},
}

// race makes the same call from n goroutines and returns how many succeeded.
func race(n int, f func() error) int {
	results := make(chan error, n)
	for range n {
		go func() { results <- f() }()
	}
	won := 0
	for range n {
		if <-results == nil {
			won++
		}
	}
	return won
}
