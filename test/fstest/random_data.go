package fstest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// fileMax is about how large the random tests' files get, in bytes.
const fileMax = 300_000

// opensMax is how many files are open at once.
const opensMax = 6

// opened remembers an open file, and closes another if there are many.
func (w *walker) opened(t *twin, got, want volume.File, flags volume.Flags) {
	w.opens++
	w.open = append(w.open, &twinFile{twin: t, got: got, want: want, flags: flags, number: w.opens})
	w.note("  is handle %d", w.opens)
}

func (w *walker) openFile() error {
	if len(w.open) >= opensMax {
		return w.close()
	}
	t := w.pick(syscall.S_IFREG)
	flags := []volume.Flags{volume.Read, volume.Read | volume.Write, volume.Write | volume.Append, volume.Write | volume.Truncate}[w.rng.IntN(4)]
	w.note("open %v flags %b", t, flags)
	f, got := w.got.Open(w.ctx, t.got, flags)
	g, want := w.want.Open(w.ctx, t.want, flags)
	if got == nil && want == nil {
		w.opened(t, f, g, flags)
	}
	return agree(got, want, false)
}

func (w *walker) close() error {
	if len(w.open) == 0 {
		return nil
	}
	i := w.rng.IntN(len(w.open))
	f := w.open[i]
	w.open = slices.Delete(w.open, i, i+1)
	w.note("close %d", f.number)
	if err := agree(f.got.Flush(w.ctx), f.want.Flush(w.ctx), false); err != nil {
		return err
	}
	return agree(f.got.Close(), f.want.Close(), false)
}

// handle returns an open file with a flag, nil if there is none.
func (w *walker) handle(flag volume.Flags) *twinFile {
	var fit []*twinFile
	for _, f := range w.open {
		if f.flags&flag == flag {
			fit = append(fit, f)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return fit[w.rng.IntN(len(fit))]
}

// some returns random bytes: mostly few, seldom many.
func (w *walker) some() []byte {
	n := w.rng.IntN([]int{10, 5000, 5000, 150_000}[w.rng.IntN(4)])
	return bytes.Repeat([]byte{byte('A' + w.rng.IntN(26)), byte(w.rng.IntN(256))}, n/2+1)[:n]
}

// privileges returns random write flags.
func (w *walker) privileges() volume.WriteFlags {
	flags := volume.WriteFlags(w.rng.IntN(2))
	if w.rng.IntN(16) == 0 {
		flags |= []volume.WriteFlags{volume.WriteDataSync, volume.WriteFullSync}[w.rng.IntN(2)]
	}
	return flags
}

func (w *walker) write() error {
	f := w.handle(volume.Write)
	if f == nil {
		return w.openFile()
	}
	p, off, flags := w.some(), int64(w.rng.IntN(fileMax)), w.privileges()
	if w.rng.IntN(2) == 0 {
		off = int64(w.rng.IntN(10_000))
	}
	if a, err := f.want.Getattr(w.ctx); err == nil && a.Size < fileMax && w.rng.IntN(3) == 0 { // as most writes are
		off = a.Size
	}
	w.note("write %d of %v: %d bytes at %d flags %d", f.number, f.twin, len(p), off, flags)
	n, got := f.got.WriteAt(w.ctx, p, off, flags)
	m, want := f.want.WriteAt(w.ctx, p, off, flags)
	if err := agree(got, want, false); err != nil || n == m {
		return err
	}
	return fmt.Errorf("wrote %d bytes, want %d", n, m)
}

func (w *walker) writeSet() error {
	f := w.handle(volume.Write)
	if f == nil {
		return w.openFile()
	}
	p, off, flags, c := w.some(), int64(w.rng.IntN(10_000)), w.privileges(), w.change(syscall.S_IFREG)
	w.note("write %d of %v: %d bytes at %d flags %d, setattr %+v", f.number, f.twin, len(p), off, flags, c)
	n, got := f.got.WriteSet(w.ctx, p, off, flags, c)
	m, want := f.want.WriteSet(w.ctx, p, off, flags, c)
	if err := agree(got, want, false); err != nil || n == m {
		return err
	}
	return fmt.Errorf("wrote %d bytes, want %d", n, m)
}

// changeLater changes attributes of a file that has just been made; so does whoever copies a tree.
func (w *walker) changeLater() error {
	l, ok := w.got.(volume.LateChanger)
	f := w.handle(volume.Excl)
	if f == nil || w.rng.IntN(2) == 0 {
		f = w.handle(volume.Write) // of which it may not have to know whether it has just been made
	}
	if !ok || f == nil {
		return nil
	}
	c := w.change(syscall.S_IFREG)
	w.note("change %d of %v later: %+v", f.number, f.twin, c)
	a, late := l.ChangeLater(w.ctx, f.twin.got, c)
	var got error
	if !late {
		w.note("  at once")
		a, got = w.got.Setattr(w.ctx, f.twin.got, c)
		if volume.ErrnoOf(got) == syscall.ESTALE { // it has no name any more
			a, got = f.got.Setattr(w.ctx, c)
		}
	}
	b, want := f.want.Setattr(w.ctx, c)
	if late && want == nil {
		b.Nlink = a.Nlink // what happens to its names meanwhile is not told
	}
	return w.same(a, got, b, want)
}

func (w *walker) append() error {
	f := w.handle(volume.Write)
	if f == nil {
		return w.openFile()
	}
	p, flags := w.some(), w.privileges()
	w.note("append %d of %v: %d bytes flags %d", f.number, f.twin, len(p), flags)
	a, got := f.got.Append(w.ctx, p, flags)
	b, want := f.want.Append(w.ctx, p, flags)
	if err := agree(got, want, false); err != nil || a == b || len(p) == 0 {
		return err
	}
	return fmt.Errorf("appended at %d, want %d", a, b)
}

func (w *walker) read() error {
	f := w.handle(volume.Read)
	if f == nil {
		return w.openFile()
	}
	off, n := int64(w.rng.IntN(fileMax)), w.rng.IntN(100_000)
	if w.rng.IntN(2) == 0 {
		off = 0
	}
	w.note("read %d of %v: %d bytes at %d", f.number, f.twin, n, off)
	p, q := make([]byte, n), make([]byte, n)
	a, got := f.got.ReadAt(w.ctx, p, off)
	b, want := f.want.ReadAt(w.ctx, q, off)
	if err := agree(got, want, false); err != nil {
		return err
	}
	return sameBytes(p[:a], q[:b])
}

// sameBytes says where two contents differ.
func sameBytes(got, want []byte) error {
	if len(got) != len(want) {
		return fmt.Errorf("got %d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d of %d is %#x, want %#x", i, len(got), got[i], want[i])
		}
	}
	return nil
}

// cut changes a file's size, by its ID or a handle.
func (w *walker) cut() error {
	c := volume.Change{Mask: volume.SetSize, Size: int64(w.rng.IntN(fileMax))}
	if w.rng.IntN(3) == 0 {
		c.Size = 0
	}
	if f := w.handle(volume.Write); f != nil && w.rng.IntN(2) == 0 {
		w.note("truncate %d of %v to %d", f.number, f.twin, c.Size)
		a, got := f.got.Setattr(w.ctx, c)
		b, want := f.want.Setattr(w.ctx, c)
		return w.same(a, got, b, want)
	}
	t := w.pick(syscall.S_IFREG)
	w.note("truncate %v to %d", t, c.Size)
	a, got := w.got.Setattr(w.ctx, t.got, c)
	b, want := w.want.Setattr(w.ctx, t.want, c)
	return w.same(a, got, b, want)
}

func (w *walker) allocate() error {
	f := w.handle(volume.Write)
	if f == nil || w.feat.NoAllocate {
		return w.openFile()
	}
	modes := []uint32{0, volume.AllocKeepSize, volume.AllocPunchHole | volume.AllocKeepSize, volume.AllocZeroRange}
	mode, off, n := modes[w.rng.IntN(len(modes))], int64(w.rng.IntN(fileMax)), int64(1+w.rng.IntN(fileMax/3))
	w.note("allocate %d of %v mode %d: %d bytes at %d", f.number, f.twin, mode, n, off)
	return agree(f.got.Allocate(w.ctx, mode, off, n), f.want.Allocate(w.ctx, mode, off, n), false)
}

func (w *walker) fileGetattr() error {
	f := w.handle(0)
	if f == nil {
		return w.openFile()
	}
	w.note("getattr of handle %d of %v", f.number, f.twin)
	a, got := f.got.Getattr(w.ctx)
	b, want := f.want.Getattr(w.ctx)
	return w.same(a, got, b, want)
}

// sync syncs a handle or an object.
func (w *walker) sync() error {
	if f := w.handle(0); f != nil && w.rng.IntN(2) == 0 {
		only := w.rng.IntN(2) == 0
		w.note("fsync handle %d", f.number)
		return agree(f.got.Sync(w.ctx, only), f.want.Sync(w.ctx, only), false)
	}
	t := w.pick(0)
	w.note("sync %v", t)
	return agree(w.got.Sync(w.ctx, t.got), w.want.Sync(w.ctx, t.want), false)
}

// compareContent compares a file's bytes.
func (w *walker) compareContent(t *twin) error {
	f, got := w.got.Open(w.ctx, t.got, volume.Read)
	g, want := w.want.Open(w.ctx, t.want, volume.Read)
	if got != nil || want != nil {
		return agree(got, want, false)
	}
	p, q := make([]byte, volume.IOMax), make([]byte, volume.IOMax)
	a, got := f.ReadAt(w.ctx, p, 0)
	b, want := g.ReadAt(w.ctx, q, 0)
	err := agree(got, want, false)
	if err == nil {
		err = sameBytes(p[:a], q[:b])
	}
	if err == nil {
		err = agree(f.Close(), g.Close(), false)
	}
	return err
}

// change returns a random change of attributes for an object of a type.
func (w *walker) change(kind uint32) volume.Change {
	c := volume.Change{
		Mode: w.mode(), UID: uint32(w.rng.IntN(3)), GID: uint32(w.rng.IntN(3)),
		Mtime: volume.Time{Sec: int64(w.rng.IntN(setBefore)), Nsec: uint32(w.rng.IntN(1e9))},
		Atime: volume.Time{Sec: int64(w.rng.IntN(setBefore)), Nsec: uint32(w.rng.IntN(1e9))},
	}
	masks := []volume.Mask{volume.SetMode, volume.SetUID, volume.SetGID, volume.SetMtime, volume.SetAtime, volume.SetMtimeNow, volume.ClearPriv}
	for range 1 + w.rng.IntN(2) {
		c.Mask |= masks[w.rng.IntN(len(masks))]
	}
	if kind == syscall.S_IFLNK {
		c.Mask &^= volume.SetMode
	}
	if kind == syscall.S_IFREG && c.Mask&volume.SetMode == 0 && w.rng.IntN(4) == 0 {
		c.Mask |= volume.SetMinimalACL
	}
	if c.Mask&volume.SetMtimeNow != 0 {
		c.Mask &^= volume.SetMtime
	}
	return c
}

func (w *walker) setattr() error {
	t := w.pick(0)
	c := w.change(t.kind)
	w.note("setattr %v %+v", t, c)
	a, got := w.got.Setattr(w.ctx, t.got, c)
	b, want := w.want.Setattr(w.ctx, t.want, c)
	if got == nil && want == nil && c.Mask&volume.SetAtime != 0 && a.Atime != b.Atime {
		return fmt.Errorf("got atime %v, want %v", a.Atime, b.Atime)
	}
	return w.same(a, got, b, want)
}

// xattrName returns a name of an attribute.
func (w *walker) xattrName() string {
	if w.rng.IntN(4) == 0 && !w.feat.NoTrusted {
		return "trusted.t"
	}
	return "user." + string(rune('a'+w.rng.IntN(4)))
}

func (w *walker) setxattr() error {
	t, name, f := w.pick(0), w.xattrName(), volume.XattrFlags(w.rng.IntN(3))
	v := w.some()
	v = v[:min(len(v), 100)]
	w.note("setxattr %v %s %d bytes flags %d", t, name, len(v), f)
	return agree(w.got.Setxattr(w.ctx, t.got, name, v, f), w.want.Setxattr(w.ctx, t.want, name, v, f), false)
}

func (w *walker) getxattr() error {
	t, name := w.pick(0), w.xattrName()
	w.note("getxattr %v %s", t, name)
	a, got := w.got.Getxattr(w.ctx, t.got, name)
	b, want := w.want.Getxattr(w.ctx, t.want, name)
	if err := agree(got, want, false); err != nil {
		return err
	}
	return sameBytes(a, b)
}

func (w *walker) removexattr() error {
	t, name := w.pick(syscall.S_IFREG), w.xattrName()
	if t.kind != syscall.S_IFREG && t.kind != syscall.S_IFDIR {
		return nil // EPERM or ENODATA: both are wrong with it
	}
	w.note("removexattr %v %s", t, name)
	return agree(w.got.Removexattr(w.ctx, t.got, name), w.want.Removexattr(w.ctx, t.want, name), false)
}

// setDefaultACL gives a directory a default ACL, which what is made in it inherits.
func (w *walker) setDefaultACL() error {
	if w.feat.NoACL {
		return nil
	}
	d := w.pick(syscall.S_IFDIR)
	if d.kind != syscall.S_IFDIR {
		return nil
	}
	v := named(7, uint16(w.rng.IntN(8)), uint16(w.rng.IntN(8)), uint16(w.rng.IntN(8)), uint16(w.rng.IntN(8)))
	w.note("set default ACL %v % x", d, v)
	return agree(w.got.Setxattr(w.ctx, d.got, aclDefault, v, 0), w.want.Setxattr(w.ctx, d.want, aclDefault, v, 0), false)
}

// compareXattrs compares all attributes of an object.
func (w *walker) compareXattrs(t *twin) error {
	a, got := w.got.Listxattr(w.ctx, t.got)
	b, want := w.want.Listxattr(w.ctx, t.want)
	if err := agree(got, want, false); err != nil {
		return err
	}
	a = slices.DeleteFunc(a, func(n string) bool { return strings.HasPrefix(n, "security.") })
	slices.Sort(a)
	if !slices.Equal(a, b) {
		return fmt.Errorf("got attributes %q, want %q", a, b)
	}
	for _, name := range b {
		x, got := w.got.Getxattr(w.ctx, t.got, name)
		y, want := w.want.Getxattr(w.ctx, t.want, name)
		err := agree(got, want, false)
		if err == nil {
			err = sameBytes(x, y)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
