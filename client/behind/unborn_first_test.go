package behind

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// TestBearsFirst: whatever depends on a file that is unborn has it made first.
func TestBearsFirst(t *testing.T) { untimed(inBearsFirst)(t) }

// asks are what depends on a file f in the root; the root has a directory d and a file g.
var asks = map[string]func(n *nursery, f volume.File) error{
	"read":      func(n *nursery, f volume.File) error { _, err := f.ReadAt(n.ctx, make([]byte, 1), 0); return err },
	"fgetattr":  func(n *nursery, f volume.File) error { _, err := f.Getattr(n.ctx); return err },
	"fsetattr":  func(n *nursery, f volume.File) error { _, err := f.Setattr(n.ctx, times); return err },
	"append":    func(n *nursery, f volume.File) error { _, err := f.Append(n.ctx, []byte("x"), 0); return err },
	"allocate":  func(n *nursery, f volume.File) error { return f.Allocate(n.ctx, 0, 0, 10) },
	"seek":      func(n *nursery, f volume.File) error { _, err := f.Seek(n.ctx, 0, volume.SeekData); return err },
	"fsync":     func(n *nursery, f volume.File) error { return f.Sync(n.ctx, false) },
	"flush":     func(n *nursery, f volume.File) error { return f.Flush(n.ctx) },
	"write set": func(n *nursery, f volume.File) error { _, err := f.WriteSet(n.ctx, nil, 0, 0, times); return err },
	"elsewhere": func(n *nursery, f volume.File) error { _, err := f.WriteAt(n.ctx, []byte("x"), 9, 0); return err },
	"large": func(n *nursery, f volume.File) error {
		_, err := f.WriteAt(n.ctx, make([]byte, runMax+1), 2, 0)
		return err
	},
	"full": func(n *nursery, f volume.File) error {
		_, err := f.WriteAt(n.ctx, make([]byte, runMax-1), 2, 0)
		return err
	},
	"synced": func(n *nursery, f volume.File) error {
		_, err := f.WriteAt(n.ctx, []byte("x"), 2, volume.WriteDataSync)
		return err
	},
	"lock":      func(n *nursery, f volume.File) error { return f.Lock(n.ctx, lockAll, false) },
	"test lock": func(n *nursery, f volume.File) error { _, err := f.TestLock(n.ctx, lockAll); return err },
	"getattr":   func(n *nursery, f volume.File) error { _, err := n.fs.Getattr(n.ctx, f.ID()); return err },
	"setattr":   func(n *nursery, f volume.File) error { _, err := n.fs.Setattr(n.ctx, f.ID(), times); return err },
	"getxattr":  func(n *nursery, f volume.File) error { _, _ = n.fs.Getxattr(n.ctx, f.ID(), "user.a"); return nil },
	"setxattr":  func(n *nursery, f volume.File) error { return n.fs.Setxattr(n.ctx, f.ID(), "user.a", []byte("v"), 0) },
	"listxattr": func(n *nursery, f volume.File) error { _, err := n.fs.Listxattr(n.ctx, f.ID()); return err },
	"rmxattr":   func(n *nursery, f volume.File) error { _ = n.fs.Removexattr(n.ctx, f.ID(), "user.a"); return nil },
	"readlink": func(n *nursery, f volume.File) error {
		_, err := n.fs.Readlink(n.ctx, f.ID())
		return fails(err, syscall.EINVAL)
	},
	"as a directory": func(n *nursery, f volume.File) error {
		_, err := n.fs.Lookup(n.ctx, f.ID(), "x")
		return fails(err, syscall.ENOTDIR)
	},
	"a list of it": func(n *nursery, f volume.File) error {
		_, _, err := n.fs.ReadDir(n.ctx, f.ID(), 0, 1, false)
		return fails(err, syscall.ENOTDIR)
	},
	"a name in it": func(n *nursery, f volume.File) error {
		return fails(n.fs.Unlink(n.ctx, f.ID(), "x"), syscall.ENOTDIR)
	},
	"sync": func(n *nursery, f volume.File) error { return n.fs.Sync(n.ctx, f.ID()) },
	"link": func(n *nursery, f volume.File) error {
		_, err := n.fs.Link(n.ctx, f.ID(), volume.Root, "l")
		return err
	},
	"open":       func(n *nursery, f volume.File) error { return n.open(f.ID(), volume.Read) },
	"truncating": func(n *nursery, f volume.File) error { return n.open(f.ID(), volume.Write|volume.Truncate) },

	"lookup": func(n *nursery, _ volume.File) error { _, err := n.fs.Lookup(n.ctx, volume.Root, "f"); return err },
	"unlink": func(n *nursery, _ volume.File) error { return n.fs.Unlink(n.ctx, volume.Root, "f") },
	"mknod": func(n *nursery, _ volume.File) error {
		return exists(n.fs.Make(n.ctx, volume.Root, "f", volume.Node{Mode: syscall.S_IFIFO}))
	},
	"link over": func(n *nursery, _ volume.File) error { return exists(n.fs.Link(n.ctx, n.id("g"), volume.Root, "f")) },
	"create": func(n *nursery, _ volume.File) error {
		f, a, err := n.fs.Create(n.ctx, volume.Root, "f", volume.Node{}, volume.Write)
		if err == nil && a.Size != 2 {
			err = fmt.Errorf("size %d", a.Size)
		}
		return errors.Join(err, f.Close())
	},
	"create, exclusive": func(n *nursery, _ volume.File) error {
		_, a, err := n.fs.Create(n.ctx, volume.Root, "f", volume.Node{}, volume.Write|volume.Excl)
		return exists(a, err)
	},

	"readdir":        func(n *nursery, _ volume.File) error { return n.list(volume.Root, false) },
	"readdirplus":    func(n *nursery, _ volume.File) error { return n.list(volume.Root, true) },
	"dir: getattr":   func(n *nursery, _ volume.File) error { _, err := n.fs.Getattr(n.ctx, volume.Root); return err },
	"dir: setattr":   func(n *nursery, _ volume.File) error { _, err := n.fs.Setattr(n.ctx, volume.Root, times); return err },
	"dir: getxattr":  func(n *nursery, _ volume.File) error { _, _ = n.fs.Getxattr(n.ctx, volume.Root, "user.a"); return nil },
	"dir: setxattr":  func(n *nursery, _ volume.File) error { return n.fs.Setxattr(n.ctx, volume.Root, "user.a", nil, 0) },
	"dir: listxattr": func(n *nursery, _ volume.File) error { _, err := n.fs.Listxattr(n.ctx, volume.Root); return err },
	"dir: rmxattr":   func(n *nursery, _ volume.File) error { _ = n.fs.Removexattr(n.ctx, volume.Root, "user.a"); return nil },
	"dir: sync":      func(n *nursery, _ volume.File) error { return n.fs.Sync(n.ctx, volume.Root) },

	"rmdir": func(n *nursery, _ volume.File) error { return n.fs.Rmdir(n.ctx, volume.Root, "d") },
	"rename": func(n *nursery, _ volume.File) error {
		return n.fs.Rename(n.ctx, volume.Root, "g", volume.Root, "h", 0)
	},
	"statfs": func(n *nursery, _ volume.File) error { _, err := n.fs.Statfs(n.ctx); return err },
	"off":    func(n *nursery, _ volume.File) error { n.fs.SetEnabled(false); n.fs.turning.Wait(); return nil },
	"end":    func(n *nursery, _ volume.File) error { n.fs.Close(); return nil },
}

var lockAll = volume.Lock{Owner: volume.LockOwner{Number: 1}, Type: volume.ExclusiveLock, End: volume.LockEnd}

// exists expects EEXIST.
func exists(_ volume.Attr, err error) error { return fails(err, syscall.EEXIST) }

func fails(err error, want syscall.Errno) error {
	if volume.ErrnoOf(err) != want {
		return fmt.Errorf("%v, want %v", err, want)
	}
	return nil
}

func (n *nursery) id(name string) volume.ID {
	a, err := n.w.FS.Lookup(n.ctx, volume.Root, name)
	n.ok(err)
	return a.ID
}

func (n *nursery) open(id volume.ID, flags volume.Flags) error {
	f, err := n.fs.Open(n.ctx, id, flags)
	if err != nil {
		return err
	}
	return f.Close()
}

// list expects the file f in a directory.
func (n *nursery) list(dir volume.ID, attrs bool) error {
	entries, _, err := n.fs.ReadDir(n.ctx, dir, 0, 100, attrs)
	if err == nil && !slices.ContainsFunc(entries, func(e volume.Entry) bool { return e.Name == "f" && (!e.HasAttr || e.Attr.Size == 2) }) {
		err = fmt.Errorf("listed %v", entries)
	}
	return err
}

// inBearsFirst is TestBearsFirst.
func inBearsFirst(t *testing.T) {
	for name, ask := range asks {
		n := newNursery(t)
		_, err := n.w.FS.Make(n.ctx, volume.Root, "d", volume.Node{Mode: syscall.S_IFDIR | 0o755})
		n.ok(err)
		_, err = n.w.FS.Make(n.ctx, volume.Root, "g", volume.Node{Mode: syscall.S_IFREG | 0o644})
		n.ok(err)
		f, _ := n.create("f", volume.Read|volume.Write)
		n.write(f, "ab", 0)
		n.w.expect(t, name, "reserve f")
		n.w.forget()
		if err := ask(n, f); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if calls := n.w.calls(); len(calls) == 0 || calls[0] != "bear f 2 then 0" {
			t.Errorf("%s: the layer below saw %q", name, calls)
		}
		n.w.forget()
		n.ok(f.Flush(n.ctx))
		n.ok(f.Close())
		if calls := n.w.calls(); slices.ContainsFunc(calls, func(s string) bool { return strings.HasPrefix(s, "bear") }) {
			t.Errorf("%s: made again: %q", name, calls)
		}
		n.over()
		n.w.expectLate(t, 0)
	}
}

// TestUnbornInDirectory: who is told of a directory what it was before something was created in it looks again; also if
// that was made while he looked.
func TestUnbornInDirectory(t *testing.T) { untimed(inUnbornInDirectory)(t) }

// inUnbornInDirectory is TestUnbornInDirectory.
func inUnbornInDirectory(t *testing.T) {
	old := volume.Change{Mask: volume.SetMtime, Mtime: volume.Time{Sec: 1}}
	for name, look := range map[string]func(n *nursery) volume.Time{
		"lookup": func(n *nursery) volume.Time {
			a, err := n.fs.Lookup(n.ctx, volume.Root, "d")
			n.ok(err)
			return a.Mtime
		},
		"readdir": func(n *nursery) volume.Time {
			entries, _, err := n.fs.ReadDir(n.ctx, volume.Root, 0, 10, true)
			n.ok(err)
			if len(entries) != 1 {
				t.Fatal(entries)
			}
			return entries[0].Attr.Mtime // zero: whoever needs it will ask
		},
	} {
		for _, meanwhile := range []bool{false, true} {
			n := newNursery(t)
			d, err := n.w.FS.Make(n.ctx, volume.Root, "d", volume.Node{Mode: syscall.S_IFDIR | 0o755})
			n.ok(err)
			_, err = n.w.FS.Setattr(n.ctx, d.ID, old)
			n.ok(err)
			f, _, err := n.fs.Create(n.ctx, d.ID, "f", volume.Node{}, volume.Write)
			n.ok(err)
			if meanwhile {
				n.w.looked = func() {
					n.w.looked = nil
					n.ok(f.Flush(n.ctx))
				}
			}
			if look(n) == old.Mtime {
				t.Errorf("%s, meanwhile %v: the directory's mtime is that before the creation", name, meanwhile)
			}
			n.ok(f.Close())
			n.over()
		}
	}
}
