package fstest

import (
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// block is a multiple of every common block size, in bytes.
const block = 64 << 10

var spaceTests = []test{
	{"seek", seekHoles},
	{"seek without holes", func(e *env) {
		f := e.open(e.file(e.dir, "f", "0123456789"), volume.Read)
		e.seeks(f, volume.SeekData, 3, 3)
		e.seeks(f, volume.SeekHole, 3, 10)
		for _, off := range []int64{10, 11, 1 << 40} {
			for _, whence := range []int{volume.SeekData, volume.SeekHole} {
				_, err := f.Seek(e.ctx, off, whence)
				e.fails(err, syscall.ENXIO)
			}
		}
		_, err := f.Seek(e.ctx, 0, 99)
		e.fails(err, syscall.EINVAL)
	}},
	{"seek in an empty file", func(e *env) {
		f := e.open(e.file(e.dir, "f", ""), volume.Read)
		for _, whence := range []int{volume.SeekData, volume.SeekHole} {
			_, err := f.Seek(e.ctx, 0, whence)
			e.fails(err, syscall.ENXIO)
		}
	}},
	{"allocate", func(e *env) {
		id, f := e.allocated()
		e.allocate(f, 0, 4, block)
		a := e.attr(id)
		if a.Size != 4+block || a.Blocks*512 < block {
			e.Errorf("size %d, blocks %d", a.Size, a.Blocks)
		}
		if got := e.content(id); got != "content"+strings.Repeat("\x00", block-3) {
			e.Error("the content changed")
		}
		e.allocate(f, 0, 0, 10)
		if got := e.attr(id).Size; got != 4+block {
			e.Errorf("size %d", got)
		}
	}},
	{"allocate, size kept", func(e *env) {
		id, f := e.allocated()
		e.allocate(f, volume.AllocKeepSize, 0, block)
		if a := e.attr(id); a.Size != 7 || a.Blocks*512 < block {
			e.Errorf("size %d, blocks %d", a.Size, a.Blocks)
		}
		if got := e.content(id); got != "content" {
			e.Errorf("content %q", got)
		}
	}},
	{"punch a hole", func(e *env) {
		id, f := e.allocated()
		e.write(f, string(pattern(3*block, 1)), 0)
		e.allocate(f, volume.AllocPunchHole|volume.AllocKeepSize, 100, 2*block)
		want := pattern(3*block, 1)
		clear(want[100 : 100+2*block])
		if got := e.content(id); got != string(want) {
			e.Error("the content is not what is left")
		}
		e.allocate(f, volume.AllocPunchHole|volume.AllocKeepSize, 2*block, 100*block)
		if got := e.attr(id).Size; got != 3*block {
			e.Errorf("size %d", got)
		}
	}},
	{"zero a range", func(e *env) {
		id, f := e.allocated()
		e.write(f, string(pattern(block, 1)), 0)
		e.allocate(f, volume.AllocZeroRange, 10, 5000)
		want := pattern(block, 1)
		clear(want[10:5010])
		if got := e.content(id); got != string(want) {
			e.Error("the content is not what is left")
		}
		e.allocate(f, volume.AllocZeroRange|volume.AllocKeepSize, 0, 2*block)
		if got := e.content(id); got != strings.Repeat("\x00", block) {
			e.Errorf("%d bytes", len(got))
		}
		e.allocate(f, volume.AllocZeroRange, 0, 2*block)
		if got := e.attr(id).Size; got != 2*block {
			e.Errorf("size %d", got)
		}
	}},
	{"collapse and insert", func(e *env) {
		if e.feat.NoShift {
			return
		}
		id, f := e.allocated()
		p := string(pattern(4*block, 1))
		e.write(f, p, 0)
		e.allocate(f, volume.AllocCollapseRange, block, 2*block)
		if got := e.content(id); got != p[:block]+p[3*block:] {
			e.Errorf("collapsed: %d bytes", len(got))
		}
		e.allocate(f, volume.AllocInsertRange, block, block)
		if got := e.content(id); got != p[:block]+strings.Repeat("\x00", block)+p[3*block:] {
			e.Errorf("inserted: %d bytes", len(got))
		}
		e.fails(f.Allocate(e.ctx, volume.AllocCollapseRange, 0, 100*block), syscall.EINVAL)
		e.fails(f.Allocate(e.ctx, volume.AllocInsertRange, 100*block, block), syscall.EINVAL)
		e.fails(f.Allocate(e.ctx, volume.AllocCollapseRange, 1, block), syscall.EINVAL)
	}},
	{"impossible ranges", func(e *env) {
		id, f := e.allocated()
		e.fails(f.Allocate(e.ctx, 0, -1, 10), syscall.EINVAL)
		e.fails(f.Allocate(e.ctx, 0, 0, 0), syscall.EINVAL)
		e.fails(f.Allocate(e.ctx, 0, 0, -1), syscall.EINVAL)
		e.fails(f.Allocate(e.ctx, 0, 1<<63-10, 100), syscall.EFBIG, syscall.EINVAL)
		e.fails(f.Allocate(e.ctx, volume.AllocPunchHole, 0, 10), syscall.EOPNOTSUPP, syscall.EINVAL)
		e.fails(f.Allocate(e.ctx, 1<<20, 0, 10), syscall.EOPNOTSUPP, syscall.EINVAL)
		if got := e.content(id); got != "content" {
			e.Errorf("content %q", got)
		}
	}},
	{"times", func(e *env) {
		id, f := e.allocated()
		before := e.attr(id)
		e.tick()
		e.allocate(f, 0, 0, block)
		if a := e.attr(id); !before.Ctime.Before(a.Ctime) {
			e.Errorf("ctime stays %v", a.Ctime)
		}
	}},
}

// allocated returns a file to allocate in. Where the disk below can't, the
// calls are checked to say so and the test is over.
func (e *env) allocated() (volume.ID, volume.File) {
	id := e.file(e.dir, "f", "content")
	f := e.open(id, volume.Read|volume.Write)
	if e.feat.NoAllocate {
		e.fails(f.Allocate(e.ctx, 0, 0, 10), syscall.EOPNOTSUPP)
		e.SkipNow()
	}
	return id, f
}

// allocate calls Allocate.
func (e *env) allocate(f volume.File, mode uint32, off, length int64) {
	e.Helper()
	e.ok(f.Allocate(e.ctx, mode, off, length))
}

// seeks checks one Seek.
func (e *env) seeks(f volume.File, whence int, off, want int64) {
	e.Helper()
	got, err := f.Seek(e.ctx, off, whence)
	e.ok(err)
	if got != want {
		e.Errorf("seek %d from %d: %d, want %d", whence, off, got, want)
	}
}

// seekHoles checks Seek in a file with data in the middle.
func seekHoles(e *env) {
	id := e.file(e.dir, "f", "")
	f := e.open(id, volume.Read|volume.Write)
	e.write(f, string(pattern(block, 1)), 2*block)
	e.change(id, volume.Change{Mask: volume.SetSize, Size: 5 * block})
	e.ok(f.Sync(e.ctx, false))
	if e.feat.NoSeek {
		e.seeks(f, volume.SeekData, 0, 0)
		e.seeks(f, volume.SeekHole, 0, 5*block)
		return
	}
	e.seeks(f, volume.SeekData, 0, 2*block)
	e.seeks(f, volume.SeekHole, 0, 0)
	e.seeks(f, volume.SeekData, 2*block+5, 2*block+5)
	e.seeks(f, volume.SeekHole, 2*block+5, 3*block)
	e.seeks(f, volume.SeekHole, 4*block, 4*block)
	_, err := f.Seek(e.ctx, 3*block, volume.SeekData)
	e.fails(err, syscall.ENXIO)
}
