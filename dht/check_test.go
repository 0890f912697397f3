package dht

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// rawEntry is an entry of one store.
type rawEntry struct {
	set volume.SetID
	key nameKey
	ptr volume.Pointer
}

// raw lists all entries of all stores.
func (c *cluster) raw() []rawEntry {
	c.t.Helper()
	var all []rawEntry
	for _, set := range c.ids {
		store := c.nodes[set].store
		for dirs := []volume.ID{volume.Root}; len(dirs) > 0; dirs = dirs[1:] {
			for after := volume.CookieStart; ; {
				list, end, err := store.List(context.Background(), dirs[0], after, 1000, false, func(string) bool { return true })
				if err != nil {
					c.t.Fatal(err)
				}
				for _, e := range list {
					after = e.Cookie
					all = append(all, rawEntry{set, nameKey{dirs[0], e.Name}, volume.Pointer{ID: e.ID, Mode: e.Mode & syscall.S_IFMT, Held: e.Held}})
					if e.Mode&syscall.S_IFMT == syscall.S_IFDIR {
						dirs = append(dirs, e.ID)
					}
				}
				if end {
					break
				}
			}
		}
	}
	return all
}

// check compares the stores of a volume at rest with the invariants: a name has
// an entry at its owner, or none anywhere; a pointer leads to a held object that
// has the name too, and only so does a set hold a name for another; a directory
// lies in the same place on every set that has it, its home among them; an
// object has as many links as names; nothing is kept that has no name.
func (c *cluster) check() (wrong []string) {
	c.t.Helper()
	v := c.fs.view.Load()
	bad := func(format string, a ...any) { wrong = append(wrong, fmt.Sprintf(format, a...)) }
	all := c.raw()
	at := map[volume.SetID]map[nameKey]volume.Pointer{}
	places := map[volume.ID]map[volume.SetID]nameKey{} // of directories
	names := map[volume.ID]int{}
	for _, set := range c.ids {
		at[set] = map[nameKey]volume.Pointer{}
	}
	for _, e := range all {
		at[e.set][e.key] = e.ptr
		if e.ptr.Mode == syscall.S_IFDIR {
			if places[e.ptr.ID] == nil {
				places[e.ptr.ID] = map[volume.SetID]nameKey{}
			}
			places[e.ptr.ID][e.set] = e.key
		} else if v.owner(e.key.dir, e.key.name) == e.set {
			names[e.ptr.ID]++
		}
	}
	for _, e := range all {
		owner := v.owner(e.key.dir, e.key.name)
		o, there := at[owner][e.key]
		switch {
		case e.ptr.Mode == syscall.S_IFDIR:
			home := v.home(e.ptr.ID)
			if k, ok := places[e.ptr.ID][home]; !ok || k != e.key {
				bad("set %d has directory %v as %v, its home %d as %v %v", e.set, e.ptr.ID, e.key, home, k, ok)
			}
			if !there || o.ID != e.ptr.ID {
				bad("set %d has directory %v as %v, the owner %d has %v", e.set, e.ptr.ID, e.key, owner, o)
			}
		case owner == e.set && e.ptr.Held != 0:
			if d, ok := at[e.ptr.Held][e.key]; !ok || d.ID != e.ptr.ID || d.Held != 0 {
				bad("pointer %v at %d leads to set %d, which has %v", e.key, e.set, e.ptr.Held, d)
			}
		case owner != e.set:
			if e.ptr.Held != 0 || !there || o.ID != e.ptr.ID || o.Held != e.set {
				bad("set %d holds %v = %v for owner %d, which has %v %v", e.set, e.key, e.ptr, owner, o, there)
			}
		}
		if e.ptr.Mode != syscall.S_IFDIR && e.ptr.Held == 0 {
			a, err := c.nodes[e.set].store.Getattr(context.Background(), e.ptr.ID)
			if err != nil || int(a.Nlink) != names[e.ptr.ID] {
				bad("object %v has %d links and %d names: %v", e.ptr.ID, a.Nlink, names[e.ptr.ID], err)
			}
		}
	}
	return wrong
}

// snapshot returns the volume's tree as a client sees it: path to ID.
func (c *cluster) snapshot() string {
	c.t.Helper()
	ctx := context.Background()
	fsys := c.client()
	paths := map[string]string{}
	var walk func(dir volume.ID, path string)
	walk = func(dir volume.ID, path string) {
		for after := volume.CookieStart; ; {
			list, end, err := fsys.ReadDir(ctx, dir, after, 3, true)
			if err != nil {
				c.t.Fatalf("listing %s: %v", path, err)
			}
			for _, e := range list {
				after = e.Cookie
				a, err := fsys.Lookup(ctx, dir, e.Name)
				if err != nil || a.ID != e.ID {
					c.t.Fatalf("%s/%s is listed as %v, looked up as %v: %v", path, e.Name, e.ID, a.ID, err)
				}
				if b, err := fsys.Getattr(ctx, e.ID); err != nil || b.ID != e.ID {
					c.t.Fatalf("%s/%s can't be asked: %v", path, e.Name, err)
				}
				paths[path+"/"+e.Name] = e.ID.String()[:8]
				if a.IsDir() {
					walk(a.ID, path+"/"+e.Name)
				}
			}
			if end {
				return
			}
		}
	}
	walk(volume.Root, "")
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		fmt.Fprintf(&b, "%s=%s ", p, paths[p])
	}
	return b.String()
}
