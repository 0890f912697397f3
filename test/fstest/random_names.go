package fstest

import (
	"fmt"
	"slices"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// alphabet are the names that random tests use: few, so that they meet.
var alphabet = []string{"a", "b", "c", "d", "e", "file", "dir", ".x.AbC123", "ä ö"}

// operation is one of the walker's, and how often it is done, against the others.
type operation struct {
	weight int
	do     func(w *walker) error
}

var operations = []operation{
	{8, (*walker).lookup}, {5, (*walker).getattr}, {8, (*walker).mkdir}, {5, (*walker).mknod},
	{14, (*walker).create}, {8, (*walker).bear}, {6, (*walker).link}, {9, (*walker).unlink}, {4, (*walker).rmdir},
	{14, (*walker).rename}, {4, (*walker).readDir}, {2, (*walker).readlink},
	{8, (*walker).setattr}, {5, (*walker).setxattr}, {3, (*walker).getxattr}, {2, (*walker).removexattr},
	{1, (*walker).setDefaultACL}, {2, (*walker).sync},
	{8, (*walker).openFile}, {6, (*walker).close}, {10, (*walker).write}, {5, (*walker).append}, {5, (*walker).writeSet}, {4, (*walker).copy}, {4, (*walker).changeLater},
	{10, (*walker).read}, {4, (*walker).cut}, {3, (*walker).allocate}, {2, (*walker).fileGetattr},
}

// step does one random operation on both sides and compares.
func (w *walker) step() error {
	total := 0
	for _, op := range operations {
		total += op.weight
	}
	n := w.rng.IntN(total)
	for _, op := range operations {
		if n < op.weight {
			return op.do(w)
		}
		n -= op.weight
	}
	return nil
}

// pick returns a random object; with kind ≠ 0 mostly one of that type.
func (w *walker) pick(kind uint32) *twin {
	t := w.seen[w.rng.IntN(len(w.seen))]
	for range 20 {
		if kind == 0 || w.rng.IntN(20) == 0 {
			break
		}
		if _, err := w.want.Getattr(w.ctx, t.want); t.kind == kind && err == nil {
			break
		}
		t = w.seen[w.rng.IntN(len(w.seen))]
	}
	return t
}

// dir returns mostly a directory that exists, often one near the top.
func (w *walker) dir() *twin {
	if w.rng.IntN(4) == 0 {
		return w.top
	}
	return w.pick(syscall.S_IFDIR)
}

// aName returns a name.
func (w *walker) aName() string { return alphabet[w.rng.IntN(len(alphabet))] }

// cred makes the operations from now on those of someone.
func (w *walker) cred() volume.Cred {
	c := volume.Cred{
		UID: uint32(w.rng.IntN(2)) * 1000, GID: uint32(w.rng.IntN(2)) * 1000,
		Umask: []uint32{0, 0o022, 0o077}[w.rng.IntN(3)],
	}
	w.ctx = volume.WithCred(w.base, c)
	return c
}

func (w *walker) lookup() error {
	d, name := w.dir(), w.aName()
	w.note("lookup %v %q", d, name)
	a, got := w.got.Lookup(w.ctx, d.got, name)
	b, want := w.want.Lookup(w.ctx, d.want, name)
	return w.same(a, got, b, want)
}

func (w *walker) getattr() error {
	t := w.pick(0)
	w.note("getattr %v", t)
	a, got := w.got.Getattr(w.ctx, t.got)
	b, want := w.want.Getattr(w.ctx, t.want)
	return w.same(a, got, b, want)
}

func (w *walker) mkdir() error { return w.make(volume.Node{Mode: syscall.S_IFDIR | w.mode()}) }

func (w *walker) mknod() error {
	n := nodes()[w.rng.IntN(len(nodes()))]
	n.Mode = n.Mode&syscall.S_IFMT | w.mode()
	return w.make(n)
}

// mode returns random permission bits.
func (w *walker) mode() uint32 {
	return []uint32{0o755, 0o777, 0o700, 0o2775, 0o6755, 0o1777, 0o640, 0}[w.rng.IntN(8)]
}

// make makes an object on both sides.
func (w *walker) make(n volume.Node) error {
	d, name, c := w.dir(), w.aName(), w.cred()
	w.note("make %v %q mode %o as %+v", d, name, n.Mode, c)
	a, got := w.got.Make(w.ctx, d.got, name, n)
	b, want := w.want.Make(w.ctx, d.want, name, n)
	if got == nil && want == nil {
		w.add(a.ID, b)
	}
	return w.same(a, got, b, want)
}

// bear makes a file at once with what is in it.
func (w *walker) bear() error {
	d, name, c := w.dir(), w.aName(), w.cred()
	n := volume.Node{Mode: syscall.S_IFREG | w.mode(), Data: w.some()}
	if w.rng.IntN(3) > 0 {
		n.Then = w.change(syscall.S_IFREG)
	}
	w.note("bear %v %q mode %o, %d bytes, then %+v as %+v", d, name, n.Mode, len(n.Data), n.Then, c)
	a, got := w.got.Make(w.ctx, d.got, name, n)
	b, want := w.want.Make(w.ctx, d.want, name, n)
	if got == nil && want == nil {
		t := w.add(a.ID, b)
		if err := w.compareContent(t); err != nil {
			return err
		}
	}
	return w.same(a, got, b, want)
}

func (w *walker) create() error {
	d, name, c := w.dir(), w.aName(), w.cred()
	n := volume.Node{Mode: syscall.S_IFREG | w.mode()}
	flags := []volume.Flags{volume.Write, volume.Read, volume.Read | volume.Write}[w.rng.IntN(3)]
	flags |= []volume.Flags{0, 0, volume.Excl, volume.Truncate, volume.Append}[w.rng.IntN(5)]
	w.note("create %v %q mode %o flags %b as %+v", d, name, n.Mode, flags, c)
	f, a, got := w.got.Create(w.ctx, d.got, name, n, flags)
	g, b, want := w.want.Create(w.ctx, d.want, name, n, flags)
	if got == nil && want == nil {
		if w.twins[b.ID] == nil {
			w.add(a.ID, b)
		}
		w.opened(w.twins[b.ID], f, g, flags)
	}
	return w.same(a, got, b, want)
}

func (w *walker) link() error {
	t, d, name := w.pick(syscall.S_IFREG), w.dir(), w.aName()
	w.note("link %v as %v %q", t, d, name)
	a, got := w.got.Link(w.ctx, t.got, d.got, name)
	b, want := w.want.Link(w.ctx, t.want, d.want, name)
	if got != nil && want != nil {
		return nil
	}
	return w.same(a, got, b, want)
}

func (w *walker) unlink() error {
	d, name := w.dir(), w.aName()
	w.note("unlink %v %q", d, name)
	return agree(w.got.Unlink(w.ctx, d.got, name), w.want.Unlink(w.ctx, d.want, name), false)
}

func (w *walker) rmdir() error {
	d, name := w.dir(), w.aName()
	w.note("rmdir %v %q", d, name)
	return agree(w.got.Rmdir(w.ctx, d.got, name), w.want.Rmdir(w.ctx, d.want, name), false)
}

func (w *walker) rename() error {
	d1, n1, d2, n2 := w.dir(), w.aName(), w.dir(), w.aName()
	f := []volume.RenameFlags{0, 0, 0, volume.RenameNoReplace, volume.RenameExchange}[w.rng.IntN(5)]
	w.note("rename %v %q to %v %q flags %d", d1, n1, d2, n2, f)
	return agree(w.got.Rename(w.ctx, d1.got, n1, d2.got, n2, f), w.want.Rename(w.ctx, d1.want, n1, d2.want, n2, f), true)
}

func (w *walker) readDir() error {
	d, page, attrs := w.dir(), 1+w.rng.IntN(10), w.rng.IntN(2) == 0
	w.note("readdir %v by %d", d, page)
	for after := volume.CookieStart; ; {
		xs, gotEnd, got := w.got.ReadDir(w.ctx, d.got, after, page, attrs)
		ys, wantEnd, want := w.want.ReadDir(w.ctx, d.want, after, page, attrs)
		if got != nil || want != nil {
			return agree(got, want, false)
		}
		if len(xs) != len(ys) {
			return fmt.Errorf("after %d: got %v, want %v", after, xs, ys)
		}
		for i, y := range ys {
			x := xs[i]
			if x.Name != y.Name || x.Cookie != y.Cookie || x.Mode&syscall.S_IFMT != y.Mode || x.Held != 0 || x.ID != w.twins[y.ID].got {
				return fmt.Errorf("got entry %+v, want %+v", x, y)
			}
			if x.HasAttr && y.HasAttr {
				if err := w.same(x.Attr, nil, y.Attr, nil); err != nil {
					return fmt.Errorf("entry %q: %w", x.Name, err)
				}
			}
			after = x.Cookie
		}
		if gotEnd && !wantEnd {
			return fmt.Errorf("the listing ends after %d of more names", len(xs))
		}
		if gotEnd || wantEnd {
			return nil // the end may be seen a page late
		}
	}
}

func (w *walker) readlink() error {
	t := w.pick(syscall.S_IFLNK)
	w.note("readlink %v", t)
	a, got := w.got.Readlink(w.ctx, t.got)
	b, want := w.want.Readlink(w.ctx, t.want)
	if err := agree(got, want, false); err != nil || a == b {
		return err
	}
	return fmt.Errorf("got target %q, want %q", a, b)
}

// compare compares a directory of both sides and all below it.
func (w *walker) compare(d *twin, path string) error {
	names, err := compareDir(w, d)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, name := range names {
		a, got := w.got.Lookup(w.ctx, d.got, name)
		b, want := w.want.Lookup(w.ctx, d.want, name)
		err := w.same(a, got, b, want)
		if err == nil {
			err = w.compareXattrs(w.twins[b.ID])
		}
		switch t := w.twins[b.ID]; {
		case err != nil:
		case b.IsDir():
			if err := w.compare(t, path+"/"+name); err != nil {
				return err
			}
		case b.IsRegular():
			err = w.compareContent(t)
		}
		if err != nil {
			return fmt.Errorf("%s/%s: %w", path, name, err)
		}
	}
	return nil
}

// compareDir compares the names in a directory and returns them.
func compareDir(w *walker, d *twin) ([]string, error) {
	xs, gotEnd, got := w.got.ReadDir(w.ctx, d.got, 0, volume.ReadDirMax, false)
	ys, _, want := w.want.ReadDir(w.ctx, d.want, 0, volume.ReadDirMax, false)
	if err := agree(got, want, false); err != nil {
		return nil, err
	}
	var gotNames, wantNames []string
	for _, x := range xs {
		gotNames = append(gotNames, x.Name)
	}
	for _, y := range ys {
		wantNames = append(wantNames, y.Name)
	}
	if !gotEnd || !slices.Equal(gotNames, wantNames) {
		return nil, fmt.Errorf("got names %q (end %v), want %q", gotNames, gotEnd, wantNames)
	}
	return wantNames, nil
}
