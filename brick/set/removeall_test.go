package set

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// TestRemoveAll: names that are removed together end as each would by itself, at all members, by one message to each backup.
func TestRemoveAll(t *testing.T) {
	t.Parallel()
	for _, absent := range []bool{false, true} {
		t.Run(fmt.Sprintf("absent=%v", absent), func(t *testing.T) {
			t.Parallel()
			c := begunCluster(t, 3, inMemory)
			p, st := c.primary(10 * time.Second)
			if absent {
				away := c.nodes[(p.i+1)%3]
				away.stop()
				_, err := st.Make(t.Context(), volume.Root, "noticed", volume.Node{Mode: syscall.S_IFREG | 0o600, ID: volume.NewID(1)})
				must(t, err)
				defer func() {
					away.start()
					c.allInSync(20 * time.Second)
					c.equal()
				}()
			}
			removeAll(t, c, st)
			if !absent {
				c.equal()
			}
		})
	}
}

func removeAll(t *testing.T, c *cluster, st volume.Store) {
	ctx := t.Context()
	var apart, together, arounds atomic.Int64
	makes := func(dir volume.ID, name string, mode uint32) volume.ID {
		a, err := st.Make(ctx, dir, name, volume.Node{Mode: mode, ID: volume.NewID(1)})
		must(t, err)
		return a.ID
	}
	file := func(name string) volume.ID { return makes(volume.Root, name, syscall.S_IFREG|0o600) }
	var all []volume.Removal
	want := map[string]syscall.Errno{}
	remove := func(name string, errno syscall.Errno) {
		all, want[name] = append(all, volume.Removal{Of: ctx, Dir: volume.Root, Name: name}), errno
	}
	for i := range 10 {
		name := fmt.Sprint("f", i)
		file(name)
		remove(name, 0)
	}
	remove("none", enoent)
	_, err := st.Make(ctx, volume.Root, "dir", volume.Node{Mode: syscall.S_IFDIR | 0o700, ID: volume.NewID(1)})
	must(t, err)
	remove("dir", syscall.EISDIR)
	linked := file("link")
	_, err = st.Link(ctx, linked, volume.Root, "link2")
	must(t, err)
	remove("link", 0) // the same object's
	remove("link2", 0)
	open, err := st.Open(ctx, file("open"), volume.Read)
	must(t, err)
	defer open.Close()
	remove("open", 0)
	// A tree, in order; and one in which a name is left.
	for _, name := range []string{"tree", "full"} {
		d := makes(volume.Root, name, syscall.S_IFDIR|0o700)
		s := makes(d, "sub", syscall.S_IFDIR|0o700)
		for _, dir := range []volume.ID{d, s} {
			for i := range 3 {
				f := fmt.Sprintf("%s %d", name, i)
				id := makes(dir, f, syscall.S_IFREG|0o600)
				if name == "tree" && dir == s && i == 2 { // another name of it, that is left to go by itself, and so are both directories
					_, err := st.Link(ctx, id, s, "again")
					must(t, err)
					all = append(all, volume.Removal{Of: ctx, Dir: s, Name: "again"})
				}
				if name == "tree" || i > 0 || dir == d {
					all = append(all, volume.Removal{Of: ctx, Dir: dir, Name: f})
				}
			}
		}
		around := func(remove func()) { arounds.Add(1); remove() }
		all = append(all, volume.Removal{Of: ctx, Dir: d, Name: "sub", Object: s, Around: around},
			volume.Removal{Of: ctx, Dir: volume.Root, Name: name, Object: d, Around: around})
	}
	want["full"], want["sub"] = syscall.ENOTEMPTY, 0
	dated, _ := volume.PresentOf(st)
	all[3].Of = volume.WithDate(ctx, dated)

	c.setWeather(&weather{hold: func(_, _ *node, msg []byte) <-chan struct{} {
		switch message(msg[frontSize]) {
		case msgApply:
			apart.Add(1)
		case msgApplyAll:
			together.Add(1)
		}
		return nil
	}})
	st.(volume.Remover).RemoveAll(ctx, all)
	c.clear()
	full, err := st.Lookup(ctx, volume.Root, "full")
	must(t, err)
	for _, v := range all {
		want := want[v.Name]
		if v.Dir == full.ID && v.Name == "sub" {
			want = syscall.ENOTEMPTY
		}
		if volume.ErrnoOf(v.Err) != want {
			t.Errorf("%s: %v, want %v", v.Name, v.Err, want)
		}
		there := want == syscall.EISDIR || want == syscall.ENOTEMPTY
		if _, err := st.Lookup(ctx, v.Dir, v.Name); there != (err == nil) {
			t.Errorf("%s is looked up: %v", v.Name, err)
		}
	}
	if arounds.Load() != 4 {
		t.Errorf("%d directories knew when they went", arounds.Load())
	}
	backups := int64(len(c.auth.state.InSync) - 1)
	if together.Load() != backups || apart.Load() > 5*backups { // of two names of one object only the first goes with the others
		t.Errorf("%d messages of several, %d of one, to %d backups", together.Load(), apart.Load(), backups)
	}
	if a, err := open.Getattr(ctx); err != nil || a.Nlink != 0 {
		t.Errorf("the file that is open: %+v, %v", a, err)
	}
}

// TestDatedRemoval: a directory has the time for which a removal was answered, also when it is made later, unless something later has been made before.
func TestDatedRemoval(t *testing.T) {
	t.Parallel()
	for name, members := range map[string]func(testing.TB, int) (volume.Member, string){"model": inMemory, "brick": onBricks} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			datedRemoval(t, begunCluster(t, 3, members))
		})
	}
}

func datedRemoval(t *testing.T, c *cluster) {
	_, st := c.primary(10 * time.Second)
	ctx := t.Context()
	for _, name := range []string{"a", "b"} {
		_, err := st.Make(ctx, volume.Root, name, volume.Node{Mode: syscall.S_IFREG | 0o600, ID: volume.NewID(1)})
		must(t, err)
	}
	is := func(want volume.Time) {
		t.Helper()
		if a, err := st.Getattr(ctx, volume.Root); err != nil || a.Mtime != want {
			t.Errorf("mtime %v, want %v: %v", a.Mtime, want, err)
		}
		c.equal()
	}
	early, _ := volume.PresentOf(st)
	all := []volume.Removal{{Of: volume.WithDate(ctx, early), Dir: volume.Root, Name: "a"}}
	st.(volume.Remover).RemoveAll(ctx, all)
	must(t, all[0].Err)
	is(early)
	early, _ = volume.PresentOf(st)
	made, err := st.Make(ctx, volume.Root, "c", volume.Node{Mode: syscall.S_IFREG | 0o600, ID: volume.NewID(1)})
	must(t, err)
	must(t, st.Unlink(volume.WithDate(ctx, early), volume.Root, "b"))
	is(made.Mtime)
}
