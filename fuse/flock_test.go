package fuse

import (
	"context"
	"log/slog"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// flocking is a front without a kernel, and handles of one file.
type flocking struct {
	t      *testing.T
	f      *front
	n      *node
	unlock time.Duration // that unlocking takes
}

// slowUnlock is a file whose unlocking takes its time.
type slowUnlock struct {
	volume.File
	k *flocking
}

func (s slowUnlock) Lock(ctx context.Context, l volume.Lock, wait bool) error {
	if l.Type == volume.Unlocked {
		<-time.After(s.k.unlock)
	}
	return s.File.Lock(ctx, l, wait)
}

func newFlocking(t *testing.T) *flocking {
	fs := model.New()
	file, a, err := fs.Create(t.Context(), volume.Root, "f", volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Read)
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	k := &flocking{t: t, f: newFront(fs, volume.Root, Options{}, slog.New(slog.DiscardHandler))}
	k.n = k.f.nodes.look(a.ID)
	return k
}

// open returns a handle; mute: for reading, before there was a lock.
func (k *flocking) open(flags volume.Flags) (fh uint64, mute bool) {
	k.t.Helper()
	file, err := k.f.fs.Open(k.t.Context(), k.n.id, flags)
	if err != nil {
		k.t.Fatal(err)
	}
	var out gofuse.OpenOut
	if s := k.f.handle(&out, k.n, slowUnlock{file, k}, flags, false); s != gofuse.OK {
		k.t.Fatal(s)
	}
	return out.Fh, out.OpenFlags&gofuse.FOPEN_NOFLUSH != 0
}

// flock asks for a lock without waiting, and returns how long the answer took.
func (k *flocking) flock(fh uint64, typ uint32) (gofuse.Status, time.Duration) {
	begin := time.Now()
	in := gofuse.LkIn{Fh: fh, Owner: 1000 + fh, LkFlags: gofuse.LK_FLOCK, Lk: gofuse.FileLock{Typ: typ}}
	return k.f.SetLk(make(chan struct{}), &in), time.Since(begin)
}

// gets expects a status after a time.
func (k *flocking) gets(fh uint64, typ uint32, want syscall.Errno, after time.Duration) {
	k.t.Helper()
	if s, took := k.flock(fh, typ); s != gofuse.Status(want) || took != after {
		k.t.Fatalf("flock: %v after %v, want %v after %v", s, took, want, after)
	}
}

func (k *flocking) flush(fh uint64) {
	k.f.Flush(make(chan struct{}), &gofuse.FlushIn{Fh: fh, LockOwner: 1})
}

// release sends a RELEASE after a time; done is closed when it was carried out.
func (k *flocking) release(fh uint64, after time.Duration) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		<-time.After(after)
		k.f.Release(make(chan struct{}), &gofuse.ReleaseIn{Fh: fh})
	}()
	return done
}

// Whoever's lock may be going by a RELEASE under way is waited for; nobody else is.
func TestFlockOfWhoGoes(t *testing.T) {
	const exclusive, shared, un = syscall.F_WRLCK, syscall.F_RDLCK, syscall.F_UNLCK
	for _, tt := range []struct {
		name string
		run  func(k *flocking)
	}{
		{"held, and no descriptor was closed", func(k *flocking) {
			a, _ := k.open(volume.Read | volume.Write)
			b, mute := k.open(volume.Read | volume.Write)
			if mute {
				k.t.Error("a file open for writing hears of no close")
			}
			k.flush(a) // before it had a lock
			k.gets(a, exclusive, 0, 0)
			k.gets(b, shared, syscall.EAGAIN, 0)
		}},
		{"a copy was closed", func(k *flocking) {
			a, _ := k.open(volume.Read | volume.Write)
			b, _ := k.open(volume.Read | volume.Write)
			k.gets(a, exclusive, 0, 0)
			k.flush(a)
			k.gets(b, shared, syscall.EAGAIN, blindPatience)
			k.gets(a, exclusive, 0, 0) // it is there
			k.gets(b, shared, syscall.EAGAIN, 0)
		}},
		{"its process has ended", func(k *flocking) {
			a, _ := k.open(volume.Read | volume.Write)
			b, _ := k.open(volume.Read | volume.Write)
			k.gets(a, exclusive, 0, 0)
			k.flush(a)
			done := k.release(a, blindPatience/2)
			k.gets(b, shared, 0, blindPatience/2)
			<-done
		}},
		{"unlocking takes longer than the patience", func(k *flocking) {
			a, _ := k.open(volume.Read | volume.Write)
			b, _ := k.open(volume.Read | volume.Write)
			k.gets(a, exclusive, 0, 0)
			k.flush(a)
			k.unlock = 3 * time.Second
			done := k.release(a, blindPatience/2)
			k.gets(b, exclusive, 0, blindPatience/2+3*time.Second)
			<-done
		}},
		{"several go", func(k *flocking) {
			a, _ := k.open(volume.Read | volume.Write)
			b, _ := k.open(volume.Read | volume.Write)
			c, _ := k.open(volume.Read | volume.Write)
			k.gets(a, shared, 0, 0)
			k.gets(b, shared, 0, 0)
			k.flush(a)
			k.flush(b)
			first, second := k.release(a, blindPatience/4), k.release(b, blindPatience/2)
			k.gets(c, exclusive, 0, blindPatience/2)
			<-first
			<-second
		}},
		{"one of several goes", func(k *flocking) {
			a, _ := k.open(volume.Read | volume.Write)
			b, _ := k.open(volume.Read | volume.Write)
			c, _ := k.open(volume.Read | volume.Write)
			k.gets(a, shared, 0, 0)
			k.gets(b, shared, 0, 0)
			k.flush(a)
			done := k.release(a, blindPatience/4)
			k.gets(c, exclusive, syscall.EAGAIN, blindPatience/4)
			<-done
		}},
		{"no close of it is told", func(k *flocking) {
			a, mute := k.open(volume.Read)
			if !mute {
				k.t.Error("a close is told that has nothing to say")
			}
			k.gets(a, exclusive, 0, 0)
			b, mute := k.open(volume.Read)
			if mute {
				k.t.Error("of a file that has a lock no close is told")
			}
			k.gets(b, exclusive, syscall.EAGAIN, blindPatience)
			done := k.release(a, blindPatience/2)
			k.gets(b, exclusive, 0, blindPatience/2)
			<-done
			c, _ := k.open(volume.Read)
			k.gets(c, exclusive, syscall.EAGAIN, 0)
		}},
		{"it is unlocking", func(k *flocking) {
			a, _ := k.open(volume.Read | volume.Write)
			b, _ := k.open(volume.Read | volume.Write)
			k.gets(a, exclusive, 0, 0)
			k.unlock = time.Second
			k.gets(a, un, 0, time.Second)
			k.gets(b, exclusive, 0, 0)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFlocking(t)
				defer k.f.OnUnmount()
				tt.run(k)
				k.unlock = 0
			})
		})
	}
}

// lock asks for a lock of an owner without waiting, and returns how long the answer took.
func (k *flocking) lock(fh, owner uint64, typ uint32, want syscall.Errno, after time.Duration) {
	k.t.Helper()
	begin := time.Now()
	in := gofuse.LkIn{Fh: fh, Owner: owner, Lk: gofuse.FileLock{Typ: typ, End: uint64(volume.LockEnd)}}
	if s := k.f.SetLk(make(chan struct{}), &in); s != gofuse.Status(want) || time.Since(begin) != after {
		k.t.Fatalf("lock of %d: %v after %v, want %v after %v", owner, s, time.Since(begin), want, after)
	}
}

// A lock stays its owner's though the number was another's before, whose unlocking is still on its way.
func TestLockOfReusedNumber(t *testing.T) {
	const exclusive = syscall.F_WRLCK
	const process, other, third = 1, 500, 501 // flush closes by the process's table
	for _, tt := range []struct {
		name string
		run  func(k *flocking)
	}{
		{"of an open file", func(k *flocking) {
			a, _ := k.open(volume.Read | volume.Write)
			b, _ := k.open(volume.Read | volume.Write)
			k.lock(a, other, exclusive, 0, 0)
			k.flush(a)
			done := k.release(a, blindPatience/2)
			k.lock(b, other, exclusive, 0, blindPatience/2)
			<-done
			c, _ := k.open(volume.Read | volume.Write)
			k.lock(c, third, exclusive, syscall.EAGAIN, 0)
		}},
		{"of an open file, by a release that is late", func(k *flocking) {
			a, _ := k.open(volume.Read | volume.Write)
			b, _ := k.open(volume.Read | volume.Write)
			k.lock(a, other, exclusive, 0, 0)
			k.flush(a)
			k.lock(b, other, exclusive, 0, blindPatience)
			<-k.release(a, 0)
			c, _ := k.open(volume.Read | volume.Write)
			k.lock(c, third, exclusive, syscall.EAGAIN, 0)
			k.flush(b)
			<-k.release(b, 0)
			k.lock(c, third, exclusive, 0, 0)
		}},
		{"of an open file for reading", func(k *flocking) {
			a, mute := k.open(volume.Read)
			b, _ := k.open(volume.Read | volume.Write)
			if !mute {
				k.t.Error("its closes are told")
			}
			k.lock(a, other, exclusive, 0, 0)
			done := k.release(a, blindPatience/2)
			k.lock(b, other, exclusive, 0, blindPatience/2)
			<-done
			c, _ := k.open(volume.Read | volume.Write)
			k.lock(c, third, exclusive, syscall.EAGAIN, 0)
		}},
		{"of a flock", func(k *flocking) {
			a, _ := k.open(volume.Read | volume.Write)
			b, _ := k.open(volume.Read | volume.Write)
			flock := func(fh uint64) gofuse.Status {
				in := gofuse.LkIn{Fh: fh, Owner: other, LkFlags: gofuse.LK_FLOCK, Lk: gofuse.FileLock{Typ: exclusive}}
				return k.f.SetLkw(make(chan struct{}), &in)
			}
			if s := flock(a); s != gofuse.OK {
				k.t.Fatal(s)
			}
			k.flush(a)
			done := k.release(a, blindPatience/2)
			if s := flock(b); s != gofuse.OK {
				k.t.Fatal(s)
			}
			<-done
			c, _ := k.open(volume.Read | volume.Write)
			k.gets(c, exclusive, syscall.EAGAIN, 0)
		}},
		{"a process with two handles", func(k *flocking) {
			a, _ := k.open(volume.Read | volume.Write)
			b, _ := k.open(volume.Read | volume.Write)
			k.lock(a, process, exclusive, 0, 0)
			k.lock(b, process, exclusive, 0, 0)
			k.flush(a) // the process's: all that it has is over
			k.lock(b, other, exclusive, 0, 0)
			<-k.release(a, 0)
			c, _ := k.open(volume.Read | volume.Write)
			k.lock(c, third, exclusive, syscall.EAGAIN, 0)
		}},
		{"a process that has locked again, when its child closes what it has closed", func(k *flocking) {
			a, _ := k.open(volume.Read | volume.Write)
			b, _ := k.open(volume.Read | volume.Write)
			k.lock(a, process, exclusive, 0, 0)
			k.flush(a)
			k.lock(b, process, exclusive, 0, 0)
			<-k.release(a, 0)
			c, _ := k.open(volume.Read | volume.Write)
			k.lock(c, third, exclusive, syscall.EAGAIN, 0)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFlocking(t)
				defer k.f.OnUnmount()
				tt.run(k)
			})
		})
	}
}

// The kernel's count and the front's agree when there is nothing in between, be it idle or not.
func TestCensus(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	fs := &hookFS{FS: model.New(), lookup: func(_ context.Context, name string) error {
		if name == "slow" {
			close(entered)
			<-release
		}
		return nil
	}}
	dir, s := mount(t, fs, "")
	census := &s.front.census
	agree := func(want bool) {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		for {
			quiet, known := census.quiet()
			if !known {
				t.Fatal("the kernel does not tell")
			}
			if quiet == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("quiet: %v", quiet)
			}
			<-time.After(time.Millisecond)
		}
	}
	agree(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var st unix.Stat_t
		_ = unix.Stat(dir+"/slow", &st)
	}()
	<-entered
	agree(true)
	census.running.Add(^uint64(0)) // as if it had been read, and not come to its method
	agree(false)
	census.running.Add(1)
	agree(true)
	close(release)
	<-done
	agree(true)
}
