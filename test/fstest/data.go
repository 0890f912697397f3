package fstest

import (
	"bytes"
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// pattern returns n bytes that differ from place to place.
func pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7+i>>8*13+i>>16) ^ seed
	}
	return p
}

var dataTests = []test{
	{"write and read", func(e *env) {
		f := e.open(e.file(e.dir, "f", ""), volume.Read|volume.Write)
		for _, off := range []int64{0, 1, 4095, 4096, 4097, 128<<10 - 1, 1<<20 - 5, 5 << 20} {
			for _, n := range []int{1, 511, 4096, 70_000} {
				p := pattern(n, byte(off)+byte(n))
				e.write(f, string(p), off)
				if got := e.readAt(f, off, n); got != string(p) {
					e.Fatalf("%d bytes at %d: read back %d others", n, off, len(got))
				}
			}
		}
	}},
	{"the largest write and read", func(e *env) {
		f := e.open(e.file(e.dir, "f", ""), volume.Read|volume.Write)
		p := pattern(volume.IOMax, 3)
		e.write(f, string(p), 12345)
		if got := e.readAt(f, 12345, volume.IOMax); got != string(p) {
			e.Error("the data differ")
		}
	}},
	{"write and set attributes", writeSets},
	{"read at the end", func(e *env) {
		f := e.open(e.file(e.dir, "f", "0123456789"), volume.Read)
		for _, c := range []struct {
			off  int64
			n    int
			want string
		}{{0, 10, "0123456789"}, {0, 100, "0123456789"}, {7, 3, "789"}, {7, 100, "789"}, {9, 1, "9"}, {10, 1, ""}, {11, 5, ""}, {1 << 40, 5, ""}, {3, 0, ""}} {
			if got := e.readAt(f, c.off, c.n); got != c.want {
				e.Errorf("%d bytes at %d: %q, want %q", c.n, c.off, got, c.want)
			}
		}
	}},
	{"holes read as zeros", func(e *env) {
		f := e.open(e.file(e.dir, "f", ""), volume.Read|volume.Write)
		e.write(f, "begin", 0)
		e.write(f, "end", 1<<20)
		want := "begin" + strings.Repeat("\x00", 1<<20-5) + "end"
		if got := e.readAt(f, 0, 1<<20) + e.readAt(f, 1<<20, 100); got != want {
			e.Errorf("%d bytes that differ", len(got))
		}
	}},
	{"a sparse file of 1 TiB", func(e *env) {
		id := e.file(e.dir, "f", "")
		f := e.open(id, volume.Read|volume.Write)
		e.write(f, "far", 1<<40)
		a := e.attr(id)
		if a.Size != 1<<40+3 || a.Blocks*512 > 1<<20 {
			e.Errorf("size %d, blocks %d", a.Size, a.Blocks)
		}
		if got := e.readAt(f, 1<<40-2, 10); got != "\x00\x00far" {
			e.Errorf("read %q", got)
		}
		e.change(id, volume.Change{Mask: volume.SetSize})
	}},
	{"cut and grow shows zeros", func(e *env) {
		id := e.file(e.dir, "f", string(pattern(10000, 9)))
		e.change(id, volume.Change{Mask: volume.SetSize, Size: 5001})
		e.change(id, volume.Change{Mask: volume.SetSize, Size: 9000})
		want := append(pattern(10000, 9)[:5001], make([]byte, 3999)...)
		if got := e.content(id); got != string(want) {
			e.Error("what was cut off is there again")
		}
	}},
	{"writes at negative and impossible offsets", func(e *env) {
		id := e.file(e.dir, "f", "content")
		f := e.open(id, volume.Read|volume.Write)
		_, err := f.WriteAt(e.ctx, []byte("x"), -1, 0)
		e.fails(err, syscall.EINVAL)
		_, err = f.ReadAt(e.ctx, make([]byte, 1), -1)
		e.fails(err, syscall.EINVAL)
		_, err = f.WriteAt(e.ctx, []byte("xy"), 1<<63-2, 0)
		e.fails(err, syscall.EINVAL, syscall.EFBIG)
		if got := e.content(id); got != "content" {
			e.Errorf("content %q", got)
		}
	}},
	{"several handles see each other", func(e *env) {
		id := e.file(e.dir, "f", "")
		f, g, h := e.open(id, volume.Read|volume.Write), e.open(id, volume.Write), e.open(id, volume.Read)
		e.write(f, "hello", 0)
		e.write(g, "J", 0)
		if a, b := e.readAt(h, 0, 10), e.readAt(f, 0, 10); a != "Jello" || b != a {
			e.Errorf("read %q and %q", a, b)
		}
		if a, err := h.Getattr(e.ctx); err != nil || a.Size != 5 {
			e.Errorf("size %d, %v", a.Size, err)
		}
	}},
	{"a buffer is the caller's again", func(e *env) {
		id := e.file(e.dir, "f", "")
		f := e.open(id, volume.Read|volume.Write)
		p := pattern(100_000, 1)
		_, err := f.WriteAt(e.ctx, p, 0, 0)
		e.ok(err)
		clear(p)
		_, err = f.Append(e.ctx, bytes.Repeat([]byte("x"), 10), 0)
		e.ok(err)
		if got := e.content(id); got != string(pattern(100_000, 1))+strings.Repeat("x", 10) {
			e.Error("the content changed with the buffer")
		}
	}},
	{"append", func(e *env) {
		id := e.file(e.dir, "f", "0123")
		f := e.open(id, volume.Write|volume.Append)
		for i, want := range []int64{4, 7, 10} {
			off, err := f.Append(e.ctx, []byte("abc"), 0)
			e.ok(err)
			if off != want {
				e.Errorf("append %d at %d, want %d", i, off, want)
			}
		}
		e.change(id, volume.Change{Mask: volume.SetSize, Size: 2})
		if off, err := f.Append(e.ctx, []byte("z"), 0); err != nil || off != 2 {
			e.Errorf("after a cut: at %d, %v", off, err)
		}
		if got := e.content(id); got != "01z" {
			e.Errorf("content %q", got)
		}
	}},
	{"times", func(e *env) {
		id := e.file(e.dir, "f", "")
		f := e.open(id, volume.Write)
		for i, write := range []func(){
			func() { e.write(f, "x", 0) },
			func() { e.write(f, "x", 0) },
			func() {
				_, err := f.Append(e.ctx, []byte("y"), 0)
				e.ok(err)
			},
		} {
			before := e.attr(id)
			e.tick()
			write()
			if a := e.attr(id); !before.Mtime.Before(a.Mtime) || !before.Ctime.Before(a.Ctime) {
				e.Errorf("write %d: times stay %v, %v", i, a.Mtime, a.Ctime)
			}
		}
	}},
	{"nothing written changes nothing", func(e *env) {
		id := e.file(e.dir, "f", "content")
		f := e.open(id, volume.Write)
		before := e.attr(id)
		e.tick()
		n, err := f.WriteAt(e.ctx, nil, 100, 0)
		e.ok(err)
		if a := e.attr(id); n != 0 || !same(a, before) {
			e.Errorf("wrote %d: %+v to %+v", n, before, a)
		}
	}},
	{"suid and sgid", func(e *env) {
		id := e.file(e.dir, "f", "content")
		f := e.open(id, volume.Write)
		for _, appending := range []bool{false, true} {
			for _, c := range []struct {
				flags      volume.WriteFlags
				mode, want uint32
			}{{0, 0o6755, 0o6755}, {volume.WriteKillPriv, 0o6755, 0o755}, {volume.WriteKillPriv, 0o6745, 0o2745}} {
				e.change(id, volume.Change{Mask: volume.SetMode, Mode: c.mode})
				var err error
				if appending {
					_, err = f.Append(e.ctx, []byte("x"), c.flags)
				} else {
					_, err = f.WriteAt(e.ctx, []byte("x"), 0, c.flags)
				}
				e.ok(err)
				if a := e.attr(id); a.Mode&0o7777 != c.want {
					e.Errorf("append %v flags %d of %o: mode %o, want %o", appending, c.flags, c.mode, a.Mode&0o7777, c.want)
				}
			}
		}
	}},
	{"sync and flush", func(e *env) {
		id := e.file(e.dir, "f", "")
		for _, flags := range []volume.Flags{0, volume.DataSync, volume.FullSync, volume.Direct} {
			f := e.openOnly(id, volume.Write|volume.Read|flags)
			e.write(f, "content", 0)
			e.ok(f.Flush(e.ctx))
			e.ok(f.Sync(e.ctx, true))
			e.ok(f.Sync(e.ctx, false))
			e.ok(f.Flush(e.ctx))
			e.ok(f.Flush(e.ctx))
			if got := e.readAt(f, 0, 10); got != "content" {
				e.Errorf("flags %b: read %q", flags, got)
			}
			e.ok(f.Close())
		}
	}},
	{"follows its file through a rename", func(e *env) {
		id, d := e.file(e.dir, "f", ""), e.mkdir(e.dir, "d")
		f := e.open(id, volume.Read|volume.Write)
		e.ok(e.fs.Rename(e.ctx, e.dir, "f", d, "g", 0))
		e.write(f, "content", 0)
		e.ok(f.Sync(e.ctx, false))
		a, err := e.fs.Lookup(e.ctx, d, "g")
		e.ok(err)
		if got := e.content(a.ID); got != "content" {
			e.Errorf("content %q", got)
		}
	}},
}

// writeSets ends the making of a file as those do who copy one.
func writeSets(e *env) {
	id := e.file(e.dir, "f", "")
	f := e.open(id, volume.Read|volume.Write)
	at, mt := volume.Time{Sec: 1000, Nsec: 7}, volume.Time{Sec: 2000, Nsec: 8}
	set := func(p string, off int64, flags volume.WriteFlags, c volume.Change) volume.Attr {
		e.Helper()
		n, err := f.WriteSet(e.ctx, []byte(p), off, flags, c)
		if e.ok(err); n != len(p) {
			e.Errorf("wrote %d bytes of %d", n, len(p))
		}
		return e.attr(id)
	}
	a := set("content", 0, 0, volume.Change{Mask: volume.SetAtime | volume.SetMtime | volume.SetUID | volume.SetMode, Atime: at, Mtime: mt, UID: 5, Mode: 0o4640})
	if a.Size != 7 || a.Mtime != mt || a.Atime != at || a.UID != 5 || a.Mode&0o7777 != 0o4640 || e.content(id) != "content" {
		e.Errorf("%+v, content %q", a, e.content(id))
	}
	a = set("more", 7, volume.WriteKillPriv|volume.WriteFullSync, volume.Change{Mask: volume.SetMtime, Mtime: at})
	if a.Size != 11 || a.Mtime != at || a.Mode&0o7777 != 0o640 {
		e.Errorf("after one that clears privileges: %+v", a)
	}
	before := e.attr(id)
	a = set("x", 0, 0, volume.Change{})
	if !before.Mtime.Before(a.Mtime) || e.content(id) != "xontentmore" {
		e.Errorf("with an empty change: mtime %v, content %q", a.Mtime, e.content(id))
	}
	if a = set("", 0, 0, volume.Change{Mask: volume.SetMtime, Mtime: mt}); a.Mtime != mt || a.Size != 11 {
		e.Errorf("without data: %+v", a)
	}
	_, err := f.WriteSet(e.ctx, []byte("y"), 0, 0, volume.Change{Mask: volume.SetSize})
	e.fails(err, syscall.EINVAL)
	r := e.open(id, volume.Read)
	_, err = r.WriteSet(e.ctx, []byte("y"), 0, 0, volume.Change{Mask: volume.SetMtime})
	e.fails(err, syscall.EBADF)
	_, err = f.WriteSet(e.ctx, []byte("y"), -1, 0, volume.Change{Mask: volume.SetMtime})
	e.fails(err, syscall.EINVAL)
	if b := e.attr(id); b.Mtime != mt || e.content(id) != "xontentmore" {
		e.Errorf("what failed has changed something: %+v, %q", b, e.content(id))
	}
	e.ok(e.fs.Unlink(e.ctx, e.dir, "f"))
	if n, err := f.WriteSet(e.ctx, []byte("gone"), 0, 0, volume.Change{Mask: volume.SetMtime, Mtime: at}); n != 4 || err != nil {
		e.Errorf("without a name: %d, %v", n, err)
	}
	if b, err := f.Getattr(e.ctx); err != nil || b.Mtime != at {
		e.Errorf("without a name: %+v, %v", b, err)
	}
}
