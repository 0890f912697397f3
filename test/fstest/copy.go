package fstest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var copyTests = []test{
	{"from one file to another", func(e *env) {
		want := string(pattern(3_000_000, 4))
		in := e.file(e.dir, "in", "")
		f := e.open(in, volume.Read|volume.Write)
		for off := 0; off < len(want); off += 500_000 {
			e.write(f, want[off:off+500_000], int64(off))
		}
		out := e.file(e.dir, "out", strings.Repeat("-", 100))
		g := e.open(out, volume.Write)
		before := e.attr(out)
		e.tick()
		if n := e.copy(g, f, 1000, 50, 10<<20); n != int64(len(want))-1000 {
			e.Errorf("%d bytes were copied", n)
		}
		if got := e.content(out); got != strings.Repeat("-", 50)+want[1000:] {
			e.Errorf("%d bytes that differ", len(got))
		}
		if a := e.attr(out); !before.Mtime.Before(a.Mtime) {
			e.Errorf("mtime stays %v", a.Mtime)
		}
		if got := e.content(in); got != want {
			e.Error("the source has changed")
		}
	}},
	{"within one file", func(e *env) { // which lies in one place, whatever the volume is made of
		id := e.file(e.dir, "f", string(pattern(100_000, 5)))
		f := e.open(id, volume.Read|volume.Write)
		for off := int64(0); off < 90_000; {
			n, err := volume.CopyFrom(e.ctx, f, f, 10_000+off, 200_000+off, 90_000-off, 0)
			e.ok(err)
			if off += n; n <= 0 {
				e.Fatalf("%d bytes were copied", n)
			}
		}
		want := string(pattern(100_000, 5))
		if got := e.content(id); got != want+string(make([]byte, 100_000))+want[10_000:] {
			e.Errorf("%d bytes that differ", len(got))
		}
	}},
	{"at the end of the source", func(e *env) {
		in, out := e.file(e.dir, "in", "0123456789"), e.file(e.dir, "out", "")
		f, g := e.open(in, volume.Read), e.open(out, volume.Write)
		if n := e.copy(g, f, 7, 0, 100); n != 3 {
			e.Errorf("%d bytes", n)
		}
		before := e.attr(out)
		for _, from := range []int64{10, 11, 1 << 40} {
			if n := e.copy(g, f, from, 5, 100); n != 0 {
				e.Errorf("%d bytes from %d", n, from)
			}
		}
		if a := e.attr(out); a.Size != 3 || e.content(out) != "789" {
			e.Errorf("size %d (%d before), content %q", a.Size, before.Size, e.content(out))
		}
	}},
	{"a hole reads as zeros", func(e *env) {
		in, out := e.file(e.dir, "in", ""), e.file(e.dir, "out", strings.Repeat("x", 400_000))
		f, g := e.open(in, volume.Read|volume.Write), e.open(out, volume.Write)
		e.write(f, "end", 300_000)
		if n := e.copy(g, f, 0, 0, 1<<20); n != 300_003 {
			e.Errorf("%d bytes", n)
		}
		if got := e.content(out); got != string(make([]byte, 300_000))+"end"+strings.Repeat("x", 99_997) {
			e.Errorf("%d bytes that differ", len(got))
		}
	}},
	{"after small writes to both", func(e *env) { // which a layer may be keeping back
		in, out := e.file(e.dir, "in", ""), e.file(e.dir, "out", "")
		f, g := e.open(in, volume.Read|volume.Write), e.open(out, volume.Write)
		e.write(f, "new", 0)
		e.write(g, "old and more", 0)
		if n := e.copy(g, f, 0, 0, 100); n != 3 {
			e.Errorf("%d bytes", n)
		}
		if got := e.content(out); got != "new and more" {
			e.Errorf("content %q", got)
		}
	}},
	{"what can't be", func(e *env) {
		id := e.file(e.dir, "f", "0123456789")
		f, r, w := e.open(id, volume.Read|volume.Write), e.open(id, volume.Read), e.open(id, volume.Write)
		for _, c := range [][3]int64{{0, 5, 6}, {5, 0, 6}, {3, 3, 1}, {-1, 20, 5}, {0, -1, 1}, {0, 20, 0}, {0, 20, -1}, {0, 1 << 30, volume.CopyMax + 1}} {
			_, err := volume.CopyFrom(e.ctx, f, f, c[0], c[1], c[2], 0)
			e.fails(err, syscall.EINVAL)
		}
		_, err := volume.CopyFrom(e.ctx, f, f, 0, 1<<63-2, 5, 0)
		e.fails(err, syscall.EFBIG, syscall.EINVAL)
		_, err = volume.CopyFrom(e.ctx, f, w, 0, 20, 5, 0)
		e.fails(err, syscall.EBADF)
		_, err = volume.CopyFrom(e.ctx, r, f, 0, 20, 5, 0)
		e.fails(err, syscall.EBADF)
		if got := e.content(id); got != "0123456789" {
			e.Errorf("content %q", got)
		}
	}},
	{"clears privileges if asked", func(e *env) {
		id := e.file(e.dir, "f", "0123456789")
		f := e.open(id, volume.Read|volume.Write)
		for _, c := range []struct {
			from  int64
			flags volume.WriteFlags
			want  uint32
		}{{0, 0, 0o6755}, {0, volume.WriteDataSync, 0o6755}, {0, volume.WriteKillPriv, 0o755}, {0, volume.WriteKillPriv | volume.WriteFullSync, 0o755},
			{1000, volume.WriteKillPriv, 0o6755}} { // nothing is written
			e.change(id, volume.Change{Mask: volume.SetMode, Mode: 0o6755})
			_, err := volume.CopyFrom(e.ctx, f, f, c.from, 20, 5, c.flags)
			e.ok(err)
			if a := e.attr(id); a.Mode&0o7777 != c.want {
				e.Errorf("flags %d: mode %o, want %o", c.flags, a.Mode&0o7777, c.want)
			}
		}
	}},
	{"without a name", func(e *env) {
		id := e.file(e.dir, "f", "0123456789")
		f := e.open(id, volume.Read|volume.Write)
		e.ok(e.fs.Unlink(e.ctx, e.dir, "f"))
		n, err := volume.CopyFrom(e.ctx, f, f, 2, 10, 5, 0)
		e.ok(err)
		if got := e.readAt(f, 0, 100); n != 5 || got != "012345678923456" {
			e.Errorf("%d bytes, content %q", n, got)
		}
	}},
}

// copy copies as the kernel's callers do: on from where it stopped, and by reading and writing where it is refused.
func (e *env) copy(dst, src volume.File, from, off, n int64) int64 {
	e.Helper()
	done, err := copyAll(e.ctx, dst, src, from, off, n, 0)
	e.ok(err)
	return done
}

func copyAll(ctx context.Context, dst, src volume.File, from, off, n int64, flags volume.WriteFlags) (done int64, err error) {
	for done < n {
		m, err := volume.CopyFrom(ctx, dst, src, from+done, off+done, min(n-done, volume.CopyMax), flags)
		if errors.Is(err, syscall.EXDEV) {
			m, err = copyPiece(ctx, dst, src, from+done, off+done, min(n-done, volume.IOMax), flags)
		}
		if err != nil || m == 0 {
			return done, err
		}
		done += m
	}
	return done, nil
}

func copyPiece(ctx context.Context, dst, src volume.File, from, off, n int64, flags volume.WriteFlags) (int64, error) {
	p := make([]byte, n)
	m, err := src.ReadAt(ctx, p, from)
	if err == nil {
		m, err = dst.WriteAt(ctx, p[:m], off, flags)
	}
	return int64(m), err
}

// copy copies between two open files, or within one.
func (w *walker) copy() error {
	src, dst := w.handle(volume.Read), w.handle(volume.Write)
	if src == nil || dst == nil {
		return w.openFile()
	}
	from, off, n, flags := int64(w.rng.IntN(fileMax)), int64(w.rng.IntN(fileMax)), int64(1+w.rng.IntN(fileMax)), w.privileges()
	if w.rng.IntN(2) == 0 {
		from, off, n = from&^4095, off&^4095, (n+4095)&^4095 // blocks that a disk may share
	}
	w.note("copy %d of %v at %d to %d of %v at %d: %d bytes flags %d", src.number, src.twin, from, dst.number, dst.twin, off, n, flags)
	a, got := copyAll(w.ctx, dst.got, src.got, from, off, n, flags)
	b, want := copyAll(w.ctx, dst.want, src.want, from, off, n, flags)
	if err := agree(got, want, false); err != nil || a == b {
		return err
	}
	return fmt.Errorf("copied %d bytes, want %d", a, b)
}
