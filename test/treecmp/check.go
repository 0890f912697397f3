package treecmp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Check returns what is wrong with a brick's index, a line each: every object
// under a name has its ID link, which leads to the same inode; every ID link leads to
// an object that has a name or is in .mortar/open or .mortar/discard; and an
// inode has no link but these. A file that is no object is one Mortar did not make.
func Check(brick string) ([]string, error) {
	c := checker{
		mortar: filepath.Join(brick, volume.Reserved), brick: brick,
		found: map[uint64]*inode{}, dirs: map[volume.ID]string{},
	}
	if err := c.walk(brick, volume.Root); err != nil {
		return c.lines, err
	}
	for _, own := range []string{"open", "discard"} {
		if err := c.own(filepath.Join(c.mortar, own), own == "open"); err != nil {
			return c.lines, err
		}
	}
	err := c.index()
	var left []string
	for _, x := range c.found {
		if x.indexed {
			x.links++
		}
		if x.links != x.nlink {
			left = append(left, fmt.Sprintf("%s: %d links, of which %d are known", x.path, x.nlink, x.links))
		}
	}
	slices.Sort(left)
	return append(c.lines, left...), err
}

type checker struct {
	brick, mortar string
	lines         []string
	found         map[uint64]*inode    // what is no directory, by inode
	dirs          map[volume.ID]string // where directories were found
}

// inode is an object or pointer that was found by a name.
type inode struct {
	id           volume.ID // zero: a pointer
	path         string    // one of its names
	links, nlink uint64
	indexed      bool
}

func (c *checker) bad(format string, a ...any) { c.lines = append(c.lines, fmt.Sprintf(format, a...)) }

// idOf returns the ID of what is called path; ok is false for what is neither object nor pointer.
func idOf(path string) (id volume.ID, ok bool, err error) {
	n, err := unix.Lgetxattr(path, attrID, id[:])
	if err == nil && n == len(id) {
		return id, true, nil
	}
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ERANGE) {
		return id, false, fmt.Errorf("%s: %w", path, err)
	}
	_, err = unix.Lgetxattr(path, attrPointer, nil)
	return volume.ID{}, err == nil, nil
}

// walk looks at all names in a directory, which has this ID.
func (c *checker) walk(dir string, id volume.ID) error {
	if at, twice := c.dirs[id]; twice {
		c.bad("%s: has the ID of %s", dir, at)
	}
	c.dirs[id] = dir
	ents, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range ents {
		if path := filepath.Join(dir, e.Name()); path != c.mortar {
			if err := c.name(path, placeOf(id, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// placeOf is what the index says of a directory that lies in another.
func placeOf(parent volume.ID, name string) string {
	if parent == volume.Root {
		return "../../../" + name
	}
	return fmt.Sprintf("../%.2s/%[1]s/%s", parent, name)
}

// name looks at one name; place is what the index says if it leads to a directory.
func (c *checker) name(path, place string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	id, ok, err := idOf(path)
	if err != nil {
		return err
	}
	if !ok {
		c.bad("%s: no object of Mortar's", path)
		return nil
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if place != "" {
			if got, err := os.Readlink(c.indexed(id)); err != nil || got != place {
				c.bad("%s: the index says %q of its ID %s", path, got, id)
			}
			return c.walk(path, id)
		}
		return nil
	}
	x := c.found[st.Ino]
	if x == nil {
		x = &inode{id: id, path: path, nlink: st.Nlink}
		c.found[st.Ino] = x
		if !id.IsZero() {
			var is unix.Stat_t
			if err := unix.Lstat(c.indexed(id), &is); err != nil {
				c.bad("%s: its ID %s is not in the index: %v", path, id, err)
			} else if is.Ino != st.Ino {
				c.bad("%s: its ID %s leads to another inode", path, id)
			}
		}
	}
	x.links++
	return nil
}

func (c *checker) indexed(id volume.ID) string {
	return filepath.Join(c.mortar, "id", id.String()[:2], id.String())
}

// own looks at .mortar/open, where names are IDs, or .mortar/discard, where
// directories are not in the index.
func (c *checker) own(dir string, open bool) error {
	ents, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range ents {
		path := filepath.Join(dir, e.Name())
		if strings.HasSuffix(e.Name(), ".at") {
			continue
		}
		place := ""
		if open {
			place = "../../open/" + e.Name()
			if id, _, err := idOf(path); err == nil && id.String() != e.Name() {
				c.bad("%s: its ID is %s", path, id)
			}
		}
		if err := c.name(path, place); err != nil {
			return err
		}
	}
	return nil
}

// index looks at every ID link.
func (c *checker) index() error {
	fans, err := os.ReadDir(filepath.Join(c.mortar, "id"))
	if err != nil {
		return err
	}
	for _, fan := range fans {
		ents, err := os.ReadDir(filepath.Join(c.mortar, "id", fan.Name()))
		if err != nil {
			return err
		}
		for _, e := range ents {
			if err := c.link(filepath.Join(c.mortar, "id", fan.Name(), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// link looks at one ID link.
func (c *checker) link(path string) error {
	id, err := volume.ParseID(filepath.Base(path))
	if err != nil || c.indexed(id) != path {
		c.bad("%s: no ID", path)
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	x := c.found[st.Ino]
	switch own, ok, err := idOf(path); {
	case err != nil:
		return err
	case !ok && st.Mode&unix.S_IFMT == unix.S_IFLNK: // a directory's
		if _, there := c.dirs[id]; !there {
			c.bad("%s: leads to no directory", path)
		}
	case x == nil:
		c.bad("%s: has no name", path)
	case own != id || x.id != id:
		c.bad("%s: its ID is %s", path, own)
	default:
		x.indexed = true
	}
	return nil
}
