package brick

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// fsck proves the format's invariants of a brick that nobody changes: every
// file in the tree is an object or pointer, the index leads to each of them and
// to nothing else, and links are what the package comment says.
func fsck(t *testing.T, path string) {
	t.Helper()
	c := checker{path: path, links: map[uint64]uint32{}, indexed: map[uint64]volume.ID{}, dirs: map[string]volume.ID{}}
	c.readIndex()
	c.walk("", volume.Root)
	c.discards()
	c.kept()
	c.finish()
	for _, p := range c.problems {
		t.Error(p)
	}
}

type checker struct {
	path     string
	links    map[uint64]uint32    // links of each inode that were seen
	stats    []unix.Stat_t        // of everything that is no directory
	indexed  map[uint64]volume.ID // inode → ID, of index links
	dirs     map[string]volume.ID // place in the tree → ID, by the index
	problems []string
}

func (c *checker) bad(format string, a ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, a...))
}

// id returns the object's ID, zero for a pointer.
func (c *checker) id(path string) volume.ID {
	var buf [64]byte
	n, err := unix.Lgetxattr(path, attrID, buf[:])
	if err == nil {
		id, err := decodeID(buf[:n])
		if err != nil {
			c.bad("%s: %v", path, err)
		}
		return id
	}
	if n, err = unix.Lgetxattr(path, attrPointer, buf[:]); err != nil {
		c.bad("%s has neither an ID nor is it a pointer: %v", path, err)
	} else if _, err := decodePointer(buf[:n]); err != nil {
		c.bad("%s: %v", path, err)
	}
	return volume.ID{}
}

func (c *checker) readIndex() {
	files, _ := filepath.Glob(filepath.Join(c.path, volume.Reserved, indexDir, "*/*"))
	for _, f := range files {
		id, err := volume.ParseID(filepath.Base(f))
		if err != nil || filepath.Base(filepath.Dir(f)) != id.String()[:2] {
			c.bad("foreign file in the index: %s", f)
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(f, &st); err != nil {
			c.bad("%v", err)
			continue
		}
		if _, err := unix.Lgetxattr(f, attrID, make([]byte, idLen)); err == unix.ENODATA && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			real, err := filepath.EvalSymlinks(f)
			if err != nil {
				c.bad("the index entry of directory %s leads nowhere: %v", id, err)
				continue
			}
			c.dirs[real] = id
			continue
		}
		c.indexed[st.Ino] = id
		c.see(f, &st)
	}
}

// see counts a link.
func (c *checker) see(path string, st *unix.Stat_t) {
	if c.links[st.Ino]++; c.links[st.Ino] == 1 {
		c.stats = append(c.stats, *st)
	}
}

// entry checks one link of an object or pointer.
func (c *checker) entry(path string) (id volume.ID, dir bool) {
	id = c.id(path)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		c.bad("%v", err)
		return id, false
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return id, true
	}
	c.see(path, &st)
	if !id.IsZero() && c.indexed[st.Ino] != id {
		c.bad("%s (%s) is not in the index", path, id)
	}
	return id, false
}

func (c *checker) walk(below string, id volume.ID) {
	at := filepath.Join(c.path, below)
	ents, err := os.ReadDir(at)
	if err != nil {
		c.bad("%v", err)
	}
	for _, e := range ents {
		if below == "" && e.Name() == volume.Reserved {
			continue
		}
		child, isDir := c.entry(filepath.Join(at, e.Name()))
		if !isDir {
			continue
		}
		place := filepath.Join(at, e.Name())
		if c.dirs[place] != child {
			c.bad("the index does not lead to the directory %s (%s)", place, child)
		}
		delete(c.dirs, place)
		c.walk(filepath.Join(below, e.Name()), child)
	}
}

func (c *checker) discards() {
	at := filepath.Join(c.path, volume.Reserved, discardDir)
	ents, _ := os.ReadDir(at)
	for _, e := range ents {
		if key, ok := strings.CutSuffix(e.Name(), atSuffix); ok {
			if _, err := os.Lstat(filepath.Join(at, key)); err != nil {
				c.bad("a discard's record without it: %v", err)
			}
			continue
		}
		text, err := os.Readlink(filepath.Join(at, e.Name()+atSuffix))
		r, ok := parseDiscarded(text)
		if err != nil || !ok {
			c.bad("the discard %s has the record %q, %v", e.Name(), text, err)
		}
		id, _ := c.entry(filepath.Join(at, e.Name()))
		if r.what.Held == 0 && id != r.what.ID {
			c.bad("the discard %s is %s and should be %s", e.Name(), id, r.what.ID)
		}
	}
}

func (c *checker) kept() {
	at := filepath.Join(c.path, volume.Reserved, openDir)
	ents, _ := os.ReadDir(at)
	for _, e := range ents {
		place := filepath.Join(at, e.Name())
		id, isDir := c.entry(place)
		if id.String() != e.Name() {
			c.bad("%s/%s is %s", openDir, e.Name(), id)
		}
		if isDir {
			if c.dirs[place] != id {
				c.bad("the index does not lead to the nameless directory %s", id)
			}
			delete(c.dirs, place)
			c.walk(filepath.Join(volume.Reserved, openDir, e.Name()), id)
		}
	}
}

func (c *checker) finish() {
	for place, id := range c.dirs {
		c.bad("the index leads to %s for %s, which is not in the tree", place, id)
	}
	for _, st := range c.stats {
		if c.links[st.Ino] != uint32(st.Nlink) {
			c.bad("inode %d has %d links and %d were found", st.Ino, st.Nlink, c.links[st.Ino])
		}
		if id, ok := c.indexed[st.Ino]; ok && st.Nlink == 1 {
			c.bad("%s is in the index only", id)
		}
	}
	ents, _ := os.ReadDir(filepath.Join(c.path, volume.Reserved, tmpDir))
	for _, e := range ents {
		c.bad("left in %s: %s", tmpDir, e.Name())
	}
}

// lookAtAll looks up everything in the tree, as clients would in time: that mends.
func lookAtAll(t *testing.T, s *Store, dir volume.ID) {
	t.Helper()
	for after, end := volume.CookieStart, false; !end; {
		var ents []volume.Entry
		var err error
		if ents, end, err = s.ReadDir(ctx, dir, after, 100, true); err != nil {
			t.Errorf("listing %s: %v", dir, err)
			return
		}
		for _, e := range ents {
			after = e.Cookie
			if e.Held == 0 && e.Mode&unix.S_IFMT == unix.S_IFDIR {
				lookAtAll(t, s, e.ID)
			}
			if e.Held == 0 {
				if _, err := s.Getattr(ctx, e.ID); err != nil {
					t.Errorf("getattr of %s: %v", e.Name, err)
				}
			}
		}
	}
}
