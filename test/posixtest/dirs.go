package posixtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// dirent is an entry as getdents64(2) gives it.
type dirent struct {
	ino  uint64
	off  int64 // where to seek to for what comes after it
	typ  byte
	name string
}

// getdents reads a directory from where the descriptor is, with a buffer of
// size bytes, to the end or until there are limit entries.
func (e *env) getdents(fd, size, limit int) []dirent {
	e.Helper()
	var all []dirent
	buf := make([]byte, size)
	for len(all) < limit {
		n, err := unix.Getdents(fd, buf)
		e.ok(err)
		if n == 0 {
			break
		}
		for b := buf[:n]; len(b) > 0; {
			size := binary.NativeEndian.Uint16(b[16:])
			name, _, _ := bytes.Cut(b[19:size], []byte{0})
			all = append(all, dirent{binary.NativeEndian.Uint64(b), int64(binary.NativeEndian.Uint64(b[8:])), b[18], string(name)})
			b = b[size:]
		}
	}
	return all
}

var dirTests = []test{
	{"dot, dot-dot and types", func(e *env) {
		k := e.kinds("")
		want := map[string]string{".": e.dir, "..": e.dir + "/.."}
		for kind, p := range k {
			want[kind] = p
		}
		for _, x := range e.getdents(e.open(e.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0), 4096, 1000) {
			p, ok := want[x.name]
			if !ok {
				e.Errorf("unexpected or repeated %q", x.name)
				continue
			}
			delete(want, x.name)
			st := e.stat(p)
			if x.ino != st.Ino && x.name != ".." { // ".." of a mount point has its own rules
				e.Errorf("%q has inode %d, stat says %d", x.name, x.ino, st.Ino)
			}
			if x.typ != unix.DT_UNKNOWN && uint32(x.typ)<<12 != st.Mode&unix.S_IFMT {
				e.Errorf("%q has type %d, stat says %o", x.name, x.typ, st.Mode)
			}
		}
		if len(want) > 0 {
			e.Errorf("missing: %v", want)
		}
	}},
	{"telldir and seekdir", func(e *env) {
		for i := range 500 {
			e.file("f"+itoa(i), "")
		}
		fd := e.open(e.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		all := e.getdents(fd, 1024, 1<<20)
		if len(all) != 502 {
			e.Fatalf("%d entries, want 502", len(all))
		}
		for _, i := range []int{0, 1, 2, 100, 499, 250, 3, 500} {
			_, err := unix.Seek(fd, all[i].off, unix.SEEK_SET)
			e.ok(err)
			if got := e.getdents(fd, 1024, 1); got[0].name != all[i+1].name {
				e.Errorf("after %q comes %q, was %q", all[i].name, got[0].name, all[i+1].name)
			}
		}
		_, err := unix.Seek(fd, 0, unix.SEEK_SET)
		e.ok(err)
		if got := e.getdents(fd, 4096, 1<<20); len(got) != 502 {
			e.Errorf("after a rewind: %d entries", len(got))
		}
		// A place stays where it is, though names around it go and come.
		place := all[300].off
		e.ok(unix.Unlink(e.path(skipDots(all, 300).name)))
		e.file("new", "")
		fd2 := e.open(e.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		_, err = unix.Seek(fd2, place, unix.SEEK_SET)
		e.ok(err)
		seen := map[string]bool{}
		for _, x := range e.getdents(fd2, 1024, 1<<20) {
			seen[x.name] = true
		}
		for _, x := range all[301:] {
			if !seen[x.name] && x.name != "." && x.name != ".." && x.name != skipDots(all, 300).name {
				e.Errorf("%q is missing after the place", x.name)
			}
		}
	}},
	{"rewind shows what is new", func(e *env) {
		fd := e.open(e.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		e.getdents(fd, 4096, 1000)
		for i := range 20 {
			e.file("f"+itoa(i), "")
			_, err := unix.Seek(fd, 0, unix.SEEK_SET)
			e.ok(err)
			if got := e.getdents(fd, 4096, 1000); len(got) != i+3 {
				e.Fatalf("%d entries, want %d", len(got), i+3)
			}
		}
	}},
	{"remove while listing", func(e *env) {
		for i := range 2000 {
			e.ok(unix.Mknod(e.path("f"+itoa(i)), unix.S_IFREG|0o644, 0))
		}
		fd := e.open(e.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		removed := 0
		for {
			es := e.getdents(fd, 1024, 1)
			if len(es) == 0 {
				break
			}
			for _, x := range es {
				if x.name != "." && x.name != ".." {
					e.ok(unix.Unlink(e.path(x.name)))
					removed++
				}
			}
		}
		if removed != 2000 {
			e.Errorf("one pass removed %d of 2000", removed)
		}
		e.lists(e.dir)
	}},
	{"a large directory while others create and remove", largeDirectory},
	{"listing of a removed directory", func(e *env) {
		d := e.mkdir("d")
		fd := e.open(d, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		e.ok(unix.Rmdir(d))
		if n, err := unix.Getdents(fd, make([]byte, 4096)); err != nil && !is(err, unix.ENOENT) || n > 64 {
			e.Errorf("getdents: %d bytes, %v", n, err)
		}
	}},
	{"seek and read of no directory", func(e *env) {
		_, err := unix.Getdents(e.open(e.file("f", ""), unix.O_RDONLY, 0), make([]byte, 4096))
		e.fails(err, unix.ENOTDIR)
	}},
	{"files come and go under signals", underSignals},
}

// skipDots returns the first entry from i on that is a name.
func skipDots(all []dirent, i int) dirent {
	for all[i].name == "." || all[i].name == ".." {
		i++
	}
	return all[i]
}

// largeDirectory lists a directory of many entries while others change it: what
// stays is seen once each time.
func largeDirectory(e *env) {
	n := e.opts.Entries
	if n == 0 {
		n = 5_000
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < n; i += 4 {
				if err := unix.Mknod(e.path(fmt.Sprintf("stay-%06d", i)), unix.S_IFREG|0o644, 0); err != nil {
					e.Errorf("mknod: %v", err)
				}
			}
		})
	}
	wg.Wait()
	var stop atomic.Bool
	defer wg.Wait()
	defer stop.Store(true)
	for w := range 2 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				p := e.path(fmt.Sprintf("go-%d-%d", w, i%100))
				err := firstError(tryOpen(p, unix.O_CREAT|unix.O_WRONLY, 0o644), unix.Rename(p, p+"-2"))
				if err == nil && i%4 > 0 {
					err = unix.Unlink(p + "-2")
				}
				if err != nil {
					e.Errorf("worker: %v", err)
					return
				}
			}
		})
	}
	for round := range 4 {
		seen := make(map[string]int, n)
		fd := e.open(e.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		for _, x := range e.getdents(fd, []int{2048, 32768}[round%2], 1<<30) {
			seen[x.name]++
		}
		for i := range n {
			if name := fmt.Sprintf("stay-%06d", i); seen[name] != 1 {
				e.Fatalf("round %d: %q was listed %d times", round, name, seen[name])
			}
		}
	}
}

// underSignals works with files while every thread of the process gets signals:
// calls may be interrupted, never lost or done in part.
func underSignals(e *env) {
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			threads, err := os.ReadDir("/proc/self/task")
			if err != nil {
				e.Errorf("threads: %v", err)
				return
			}
			for _, t := range threads {
				var tid int
				if _, err := fmt.Sscan(t.Name(), &tid); err == nil {
					_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG) // the runtime's own signal; the thread may have gone
				}
			}
		}
	})
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			for i := range 50 {
				p, want := e.path(fmt.Sprintf("w%d-%d", w, i%7)), fmt.Sprint("content ", w, i)
				err := os.WriteFile(p, []byte(want), 0o644)
				if err == nil {
					err = again(func() error { return unix.Rename(p, p+"-2") }, unix.ENOENT)
				}
				var b []byte
				if err == nil {
					b, err = os.ReadFile(p + "-2")
				}
				if err == nil && i%2 == 0 {
					err = again(func() error { return unix.Unlink(p + "-2") }, unix.ENOENT)
				}
				if err != nil || string(b) != want {
					e.Errorf("under signals: %q, want %q, %v", b, want, err)
					return
				}
			}
		})
	}
	work.Wait()
	stop.Store(true)
	wg.Wait()
}

// again repeats a call that a signal interrupted; done is what it fails with if
// the interrupted one took effect.
func again(f func() error, done error) error {
	for first := true; ; first = false {
		switch err := f(); {
		case err == unix.EINTR:
		case !first && err == done:
			return nil
		default:
			return err
		}
	}
}
