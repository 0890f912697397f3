package fuse

import (
	"context"
	"errors"
	"sync"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mortarfs/mortar/volume"
)

// How many entries are asked of the FS at once: without and with attributes.
const (
	pageNames = 2048
	pageAttrs = 1024
)

// Offsets in a listing. An entry's is its cookie, by which the listing goes on
// after it, in this handle or another; "." and ".." have two of the reserved ones.
const (
	offsetStart  volume.Cookie = 0
	offsetDot    volume.Cookie = 1
	offsetDotDot volume.Cookie = 2
)

// dirHandle is one open directory. It holds one page of the listing, of which
// the kernel's requests (4 to 128 KiB of entries each) take one part after the
// other, and from the second page on fetches the next one while that goes on.
//
// So entries may have waited for a while before the kernel sees them. For names
// POSIX allows that. Attributes and node IDs are another matter: the kernel
// takes those that READDIRPLUS brings for news, and would cut a file that was
// written meanwhile to its old size or resurrect a name. Hence they are withheld
// (node ID 0: "no news") if
//   - the page is older than the attribute timeout, or
//   - since it was asked for, this mount has changed the directory (for all
//     entries) or the object (for its own).
type dirHandle struct {
	node   *node
	ctx    context.Context // for pages fetched ahead; ends with the handle
	cancel context.CancelFunc
	mu     struct {
		sync.Mutex
		page *dirPage  // nil: none
		used int       // entries of page that the kernel has
		next *dirFetch // nil: none on its way
		off  volume.Cookie
		at   volume.Cookie // where page[used:] continues: the kernel's next offset if it reads on
		many bool          // a second page was wanted
	}
}

// dirPage is what one ReadDir returned.
type dirPage struct {
	entries []volume.Entry
	end     bool
	attrs   bool   // asked with attributes
	change  uint64 // front.changes when it was asked for
	when    int64  // front.now then
}

// dirFetch is a page on its way.
type dirFetch struct {
	done chan struct{} // closed when the rest is valid
	page *dirPage
	err  error
}

// OpenDir opens a directory; the FS is not asked before it is read.
func (f *front) OpenDir(cancel <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	n := f.nodes.get(in.NodeId)
	if n == nil {
		return statusESTALE
	}
	d := &dirHandle{node: n}
	d.ctx, d.cancel = context.WithCancel(volume.WithCred(context.Background(),
		volume.Cred{UID: in.Uid, GID: in.Gid, PID: in.Pid}))
	fh, ok := f.dirs.put(d)
	if !ok {
		d.close()
		return gofuse.Status(syscall.ENFILE)
	}
	out.Fh = fh
	return gofuse.OK
}

// close gives up what is on its way.
func (d *dirHandle) close() { d.cancel() }

// ReleaseDir closes a directory.
func (f *front) ReleaseDir(in *gofuse.ReleaseIn) {
	if d := f.dirs.free(in.Fh); d != nil {
		d.close()
	}
}

// FsyncDir makes a directory's names durable. One that is gone has none.
func (f *front) FsyncDir(cancel <-chan struct{}, in *gofuse.FsyncIn) gofuse.Status {
	n := f.nodes.get(in.NodeId)
	if n == nil {
		return statusESTALE
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	err := f.fs.Sync(c, n.id)
	if _, dir := n.removed(); dir && errors.Is(err, syscall.ESTALE) {
		return gofuse.OK
	}
	return f.fail("fsyncdir", err)
}

// ReadDir lists names.
func (f *front) ReadDir(cancel <-chan struct{}, in *gofuse.ReadIn, list *gofuse.DirEntryList) gofuse.Status {
	return f.readDir(cancel, in, list, false)
}

// ReadDirPlus lists names with attributes, and counts a lookup of each that has them.
func (f *front) ReadDirPlus(cancel <-chan struct{}, in *gofuse.ReadIn, list *gofuse.DirEntryList) gofuse.Status {
	return f.readDir(cancel, in, list, true)
}

func (f *front) readDir(cancel <-chan struct{}, in *gofuse.ReadIn, list *gofuse.DirEntryList, plus bool) gofuse.Status {
	d := f.dirs.get(in.Fh)
	if d == nil {
		return gofuse.EBADF
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	w := dirWriter{front: f, dir: d.node, list: list, room: int(in.Size), plus: plus}
	d.mu.Lock()
	defer d.mu.Unlock()
	off := volume.Cookie(in.Offset)
	if off == offsetStart || off != d.mu.at {
		d.seek(off)
	}
	if off < offsetDot && !w.dot(".", d.node.id.Inode(), offsetDot) ||
		off < offsetDotDot && !w.dot("..", d.node.dotdot(), offsetDotDot) {
		d.mu.at = volume.Cookie(list.Offset)
		return gofuse.OK
	}
	for d.mu.page == nil || d.mu.used == len(d.mu.page.entries) {
		if d.mu.page != nil && d.mu.page.end {
			d.mu.at = volume.Cookie(list.Offset)
			return gofuse.OK
		}
		if err := f.turn(c, d, plus); err != nil {
			if !w.any {
				return f.fail("readdir", err)
			}
			d.mu.at = volume.Cookie(list.Offset)
			return gofuse.OK // "." and "..": the failure comes next
		}
	}
	d.mu.used += w.entries(d.mu.page, d.mu.used)
	if !w.any {
		return gofuse.EINVAL // not even one entry fits
	}
	if d.mu.used > 0 {
		d.mu.off = d.mu.page.entries[d.mu.used-1].Cookie
	}
	d.mu.at = volume.Cookie(list.Offset)
	return gofuse.OK
}

// seek forgets the pages: the kernel reads from the start, or somewhere else. d.mu is held.
func (d *dirHandle) seek(off volume.Cookie) {
	d.mu.page, d.mu.used, d.mu.next, d.mu.many = nil, 0, nil, false
	d.mu.off = off
	if off < volume.CookieFirst {
		d.mu.off = volume.CookieStart
	}
}

// turn makes the next page the current one. d.mu is held.
func (f *front) turn(c *call, d *dirHandle, attrs bool) error {
	next := d.mu.next
	d.mu.next = nil
	if next != nil {
		select {
		case <-next.done:
		case <-c.Done():
			d.mu.next = next
			return c.Err()
		}
		if next.err != nil {
			next = nil // ask again, for this request
		}
	}
	if next == nil {
		p, err := f.fetch(c, d.node, d.mu.off, attrs)
		if err != nil {
			return err
		}
		next = &dirFetch{page: p}
	}
	d.mu.many = d.mu.many || d.mu.page != nil
	d.mu.page, d.mu.used = next.page, 0
	if p := d.mu.page; d.mu.many && !p.end && len(p.entries) > 0 {
		ahead := &dirFetch{done: make(chan struct{})}
		after := p.entries[len(p.entries)-1].Cookie
		d.mu.next = ahead
		f.ahead.Go(func() {
			defer close(ahead.done)
			ahead.page, ahead.err = f.fetch(d.ctx, d.node, after, attrs)
		})
	}
	return nil
}

// fetch asks the FS for a page. A directory that is gone is empty.
func (f *front) fetch(ctx context.Context, n *node, after volume.Cookie, attrs bool) (*dirPage, error) {
	p := &dirPage{attrs: attrs, change: f.changes.Load(), when: f.now()}
	size := pageNames
	if attrs {
		size = pageAttrs
	}
	var err error
	p.entries, p.end, err = f.fs.ReadDir(ctx, n.id, after, size, attrs)
	if errors.Is(err, syscall.ESTALE) || errors.Is(err, syscall.ENOENT) {
		p.entries, p.end, err = nil, true, nil
	}
	if err == nil && len(p.entries) == 0 {
		p.end = true
	}
	return p, err
}

// dirWriter puts entries into one reply.
type dirWriter struct {
	front *front
	dir   *node
	list  *gofuse.DirEntryList
	room  int // bytes left
	plus  bool
	any   bool // something is in
}

// Sizes of what goes before a name, in bytes: struct fuse_dirent and struct
// fuse_entry_out of linux/fuse.h.
const (
	direntBytes = 24
	entryBytes  = 128
)

// size is what an entry takes.
func (w *dirWriter) size(name string) int {
	n := (direntBytes + len(name) + 7) &^ 7
	if w.plus {
		n += entryBytes
	}
	return n
}

// dot adds "." or "..", and reports whether it fitted.
func (w *dirWriter) dot(name string, inode uint64, off volume.Cookie) bool {
	if w.room < w.size(name) {
		return false
	}
	w.put(name, inode, syscall.S_IFDIR, off)
	return true
}

func (w *dirWriter) put(name string, inode uint64, mode uint32, off volume.Cookie) *gofuse.EntryOut {
	w.room -= w.size(name)
	w.any = true
	e := gofuse.DirEntry{Name: name, Ino: inode, Mode: mode, Off: uint64(off)}
	if w.plus {
		return w.list.AddDirLookupEntry(e)
	}
	w.list.AddDirEntry(e)
	return nil
}

// entries adds those of the page from used on, as many as fit, and returns how
// many. Those with one cookie stay together: a listing that went on by the
// cookie would lose the others.
func (w *dirWriter) entries(p *dirPage, used int) int {
	news := w.plus && p.attrs && w.front.now()-p.when <= int64(w.front.opts.AttributeTimeout) &&
		w.dir.changed.Load() <= p.change
	n := 0
	for i := used; i < len(p.entries); {
		end, need := i+1, w.size(p.entries[i].Name)
		for end < len(p.entries) && p.entries[end].Cookie == p.entries[i].Cookie {
			need += w.size(p.entries[end].Name)
			end++
		}
		if need > w.room {
			break
		}
		for ; i < end; i++ {
			w.entry(&p.entries[i], p, news)
			n++
		}
	}
	return n
}

func (w *dirWriter) entry(e *volume.Entry, p *dirPage, news bool) {
	out := w.put(e.Name, e.ID.Inode(), e.Mode, e.Cookie)
	if out == nil || !news || !e.HasAttr {
		return
	}
	if n := w.front.nodes.known(e.ID); n != nil && n.changed.Load() > p.change {
		return
	}
	w.front.entry(out, w.dir, &e.Attr)
}
