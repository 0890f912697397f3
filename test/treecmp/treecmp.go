// Package treecmp compares brick directories on disk, behind Mortar's back: the
// members of a replicated set must hold the same, whatever Mortar believes. Compare tells in
// what two bricks differ, Check in what one contradicts itself. Both only read, and
// expect that nobody changes the bricks meanwhile.
//
// What is compared is what a person sees who lists both, and every extended attribute:
// names, types, IDs, owners, modes, sizes, contents, targets, device numbers, how many
// names an object has, and, if asked for, mtimes; of pointers only where they lead. Not compared are
// atime, ctime, birth times, blocks and holes. Of .mortar only the index is looked at, by Check.
package treecmp

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// The attributes with a meaning, as package brick has them.
const (
	attrID      = "trusted.mortar.id"
	attrPointer = "trusted.mortar.pointer"
	attrTarget  = "trusted.mortar.target"
	xfsACL      = "trusted.SGI_ACL_" // where XFS keeps ACLs a second time
)

// Options of Compare.
type Options struct {
	Mtime  bool     // compare mtimes
	Ignore []string // extended attributes that may differ
}

// Compare returns the differences between two bricks, a line each that begins
// with the path below the brick; none: they hold the same. An error: something can't be read.
func Compare(a, b string, opt Options) ([]string, error) {
	c := comparer{roots: [2]string{a, b}, opt: opt, names: map[string][2]int{}}
	if err := c.object("."); err != nil {
		return c.lines, err
	}
	if err := c.directory("."); err != nil {
		return c.lines, err
	}
	var ids []string
	for id, n := range c.names {
		if n[0] != n[1] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		c.differ(id, "names", c.names[id][0], c.names[id][1])
	}
	return c.lines, nil
}

type comparer struct {
	roots [2]string
	opt   Options
	lines []string
	names map[string][2]int // by ID, of what is no directory: how many names it has on each side
}

func (c *comparer) differ(path, what string, a, b any) {
	c.lines = append(c.lines, fmt.Sprintf("%s: %s: %v and %v", path, what, a, b))
}

func (c *comparer) join(i int, path string) string { return filepath.Join(c.roots[i], path) }

// directory compares the names in a directory that both have, and what they lead to.
func (c *comparer) directory(path string) error {
	var names [2][]string
	for i := range names {
		ents, err := os.ReadDir(c.join(i, path)) // in order
		if err != nil {
			return err
		}
		for _, e := range ents {
			if path != "." || e.Name() != volume.Reserved {
				names[i] = append(names[i], e.Name())
			}
		}
	}
	all := append(slices.Clone(names[0]), names[1]...)
	slices.Sort(all)
	for _, name := range slices.Compact(all) {
		child := filepath.Join(path, name)
		_, one := slices.BinarySearch(names[0], name)
		_, two := slices.BinarySearch(names[1], name)
		if !one || !two {
			side := c.roots[0]
			if two {
				side = c.roots[1]
			}
			c.lines = append(c.lines, fmt.Sprintf("%s: only in %s", child, side))
			continue
		}
		if err := c.entry(child); err != nil {
			return err
		}
	}
	return nil
}

// entry compares what a name leads to, and what is below it if both are directories.
func (c *comparer) entry(path string) error {
	var st [2]unix.Stat_t
	for i := range st {
		if err := unix.Lstat(c.join(i, path), &st[i]); err != nil {
			return fmt.Errorf("%s: %w", c.join(i, path), err)
		}
	}
	if a, b := st[0].Mode&unix.S_IFMT, st[1].Mode&unix.S_IFMT; a != b {
		c.differ(path, "type", fmt.Sprintf("%#o", a), fmt.Sprintf("%#o", b))
		return nil
	}
	if err := c.object(path); err != nil {
		return err
	}
	switch st[0].Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return c.directory(path)
	case unix.S_IFREG:
		if st[0].Size == st[1].Size {
			return c.contents(path)
		}
	}
	return nil
}

// side is what is compared of an object as it lies on one side.
type side struct {
	st     unix.Stat_t
	xattrs map[string]string
	target string
}

func look(path string) (s side, err error) {
	if err := unix.Lstat(path, &s.st); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	if s.xattrs, err = xattrs(path); err != nil {
		return s, err
	}
	if s.st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if s.target, err = os.Readlink(path); err != nil {
			return s, err
		}
		if long, ok := s.xattrs[attrTarget]; ok {
			s.target = long
			delete(s.xattrs, attrTarget)
		}
		s.st.Size = int64(len(s.target))
	}
	return s, nil
}

// object compares all but contents and names of what both call path.
func (c *comparer) object(path string) error {
	a, err := look(c.join(0, path))
	if err != nil {
		return err
	}
	b, err := look(c.join(1, path))
	if err != nil {
		return err
	}
	dir := a.st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !dir {
		for i, id := range []string{a.xattrs[attrID], b.xattrs[attrID]} {
			if id != "" {
				n := c.names[fmt.Sprintf("%x", id)]
				n[i]++
				c.names[fmt.Sprintf("%x", id)] = n
			}
		}
	}
	if p, is := a.xattrs[attrPointer]; is && b.xattrs[attrPointer] == p {
		return nil // what its file inherits from the directory is not seen
	}
	if a.st.Mode != b.st.Mode {
		c.differ(path, "mode", fmt.Sprintf("%#o", a.st.Mode), fmt.Sprintf("%#o", b.st.Mode))
	}
	if a.st.Uid != b.st.Uid || a.st.Gid != b.st.Gid {
		c.differ(path, "owner", fmt.Sprintf("%d:%d", a.st.Uid, a.st.Gid), fmt.Sprintf("%d:%d", b.st.Uid, b.st.Gid))
	}
	if !dir && a.st.Size != b.st.Size {
		c.differ(path, "size", a.st.Size, b.st.Size)
	}
	if a.st.Rdev != b.st.Rdev {
		c.differ(path, "device", fmt.Sprintf("%#x", a.st.Rdev), fmt.Sprintf("%#x", b.st.Rdev))
	}
	if a.target != b.target {
		c.differ(path, "target", fmt.Sprintf("%q", a.target), fmt.Sprintf("%q", b.target))
	}
	if c.opt.Mtime && a.st.Mtim != b.st.Mtim {
		c.differ(path, "mtime", stamp(a.st.Mtim), stamp(b.st.Mtim))
	}
	c.xattrs(path, a.xattrs, b.xattrs)
	return nil
}

func stamp(t unix.Timespec) string { return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec) }

// xattrs compares extended attributes.
func (c *comparer) xattrs(path string, a, b map[string]string) {
	var all []string
	for _, m := range []map[string]string{a, b} {
		for name := range m {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	for _, name := range slices.Compact(all) {
		if slices.Contains(c.opt.Ignore, name) {
			continue
		}
		x, one := a[name]
		y, two := b[name]
		switch {
		case !one || !two:
			c.differ(path, name+" is there", one, two)
		case x != y:
			c.differ(path, name, fmt.Sprintf("%x", x), fmt.Sprintf("%x", y))
		}
	}
}

// xattrs returns the extended attributes of what is called path, XFS's second copies of ACLs aside.
func xattrs(path string) (map[string]string, error) {
	buf := make([]byte, volume.XattrListMax)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return nil, fmt.Errorf("%s: listing attributes: %w", path, err)
	}
	all := map[string]string{}
	value := make([]byte, volume.XattrValueMax)
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if name == "" || strings.HasPrefix(name, xfsACL) {
			continue
		}
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("%s: attribute %s: %w", path, name, err)
		}
		all[name] = string(value[:n])
	}
	return all, nil
}

// contents compares two files of the same size.
func (c *comparer) contents(path string) error {
	var files [2]*os.File
	for i := range files {
		f, err := os.Open(c.join(i, path))
		if err != nil {
			return err
		}
		defer f.Close()
		files[i] = f
	}
	const block = 1 << 18
	bufs := [2][]byte{make([]byte, block), make([]byte, block)}
	for off := int64(0); ; off += block {
		var n [2]int
		for i, f := range files {
			var err error
			if n[i], err = io.ReadFull(f, bufs[i]); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return err
			}
		}
		x, y := bufs[0][:n[0]], bufs[1][:n[1]]
		if !bytes.Equal(x, y) {
			at := 0
			for at < min(len(x), len(y)) && x[at] == y[at] {
				at++
			}
			c.lines = append(c.lines, fmt.Sprintf("%s: contents differ from byte %d on", path, off+int64(at)))
			return nil
		}
		if n[0] < block {
			return nil
		}
	}
}
