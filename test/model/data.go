package model

import (
	"maps"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// pageSize is the granularity of holes, in bytes.
const pageSize = 4096

// page is a part of a file that is no hole.
type page = [pageSize]byte

// data is a file's content: its size and the pages that are no holes. Bytes
// beyond size in the last page are always zero; pages may lie beyond size
// (fallocate with keep-size).
type data struct {
	size  int64
	pages map[int64]*page // by offset / pageSize
}

// read copies what lies at off into p and returns how much of it is in the file.
func (d *data) read(p []byte, off int64) int {
	if off >= d.size {
		return 0
	}
	p = p[:min(int64(len(p)), d.size-off)]
	for n := 0; n < len(p); {
		at := off + int64(n)
		chunk := p[n:min(len(p), n+int(pageSize-at%pageSize))]
		if pg := d.pages[at/pageSize]; pg != nil {
			copy(chunk, pg[at%pageSize:])
		} else {
			clear(chunk)
		}
		n += len(chunk)
	}
	return len(p)
}

// missing returns how many pages of a range are holes.
func (d *data) missing(off, length int64) int64 {
	if length == 0 {
		return 0
	}
	first, last := off/pageSize, (off+length-1)/pageSize
	n := last - first + 1
	if n > int64(len(d.pages)) { // cheaper to look at the pages than at the range
		for i := range d.pages {
			if first <= i && i <= last {
				n--
			}
		}
		return n
	}
	for i := first; i <= last; i++ {
		if d.pages[i] != nil {
			n--
		}
	}
	return n
}

// fill makes a range free of holes and returns how many pages that took.
func (d *data) fill(off, length int64) int64 {
	if d.pages == nil {
		d.pages = map[int64]*page{}
	}
	before := len(d.pages)
	for i := off / pageSize; length > 0 && i <= (off+length-1)/pageSize; i++ {
		if d.pages[i] == nil {
			d.pages[i] = new(page)
		}
	}
	return int64(len(d.pages) - before)
}

// write stores p at off, where there are no holes.
func (d *data) write(p []byte, off int64) {
	for n := 0; n < len(p); {
		at := off + int64(n)
		n += copy(d.pages[at/pageSize][at%pageSize:], p[n:])
	}
	d.size = max(d.size, off+int64(len(p)))
}

// zero clears a range; pages wholly in it become holes.
func (d *data) zero(off, length int64) {
	end := off + length
	for i, pg := range d.pages {
		from, to := max(off, i*pageSize), min(end, (i+1)*pageSize)
		switch {
		case from >= to:
		case to-from == pageSize:
			delete(d.pages, i)
		default:
			clear(pg[from-i*pageSize : to-i*pageSize])
		}
	}
}

// truncate sets the size.
func (d *data) truncate(size int64) {
	d.zero(size, 1<<62-size)
	d.size = size
}

// shift moves the pages from page number from on by n pages, and the end too.
func (d *data) shift(from, n int64) {
	moved := make(map[int64]*page, len(d.pages))
	for i, pg := range d.pages {
		if i >= from {
			i += n
		}
		moved[i] = pg
	}
	d.pages = moved
	d.size += n * pageSize
}

// seek returns where the next data or hole from off is; false past the end.
func (d *data) seek(off int64, whence int) (int64, bool) {
	if off < 0 || off >= d.size {
		return 0, false
	}
	for at := off; at < d.size; at = (at/pageSize + 1) * pageSize {
		if (d.pages[at/pageSize] != nil) == (whence == volume.SeekData) {
			return at, true
		}
		if whence == volume.SeekData && len(d.pages) == 0 {
			break
		}
		if whence == volume.SeekData {
			next := d.next(at / pageSize)
			if next < 0 || next*pageSize >= d.size {
				break
			}
			return next * pageSize, true
		}
	}
	return d.size, whence == volume.SeekHole
}

// next returns the number of the first page from i on, -1 if there is none.
func (d *data) next(i int64) int64 {
	found := int64(-1)
	for n := range d.pages {
		if n >= i && (found < 0 || n < found) {
			found = n
		}
	}
	return found
}

// clone returns a copy that shares nothing.
func (d *data) clone() data {
	c := data{size: d.size, pages: maps.Clone(d.pages)}
	for i, pg := range c.pages {
		p := *pg
		c.pages[i] = &p
	}
	return c
}

// reserve makes a range of o free of holes, if it fits.
func (s *FS) reserve(op string, o *object, off, length int64) error {
	if off > maxSize-length {
		return fail(op, o.id.String(), syscall.EFBIG)
	}
	if (s.mu.pages+o.data.missing(off, length))*pageSize > s.capacity {
		return fail(op, o.id.String(), syscall.ENOSPC)
	}
	s.mu.pages += o.data.fill(off, length)
	return nil
}

// resize runs a change of o's data that gives pages back.
func (s *FS) resize(o *object, change func(d *data)) {
	before := len(o.data.pages)
	change(&o.data)
	s.mu.pages += int64(len(o.data.pages) - before)
}
