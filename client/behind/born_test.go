package behind

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

var (
	times = volume.Change{Mask: volume.SetAtime | volume.SetMtime, Atime: volume.Time{Sec: 1}, Mtime: volume.Time{Sec: 2, Nsec: 3}}
	acl   = volume.Change{Mask: volume.SetMinimalACL, Mode: 0o640}
	chown = volume.Change{Mask: volume.SetUID | volume.SetGID, UID: 5, GID: 6}
	mode  = volume.Change{Mask: volume.SetMode, Mode: 0o4711}
)

// change has a change delayed, and returns what the attributes will be.
func (w *world) change(c volume.Change) volume.Attr {
	w.t.Helper()
	a, late := w.fs.ChangeLater(w.ctx, w.id, c)
	if !late {
		w.t.Errorf("%d is not delayed", c.Mask)
	}
	return a
}

// TestCopy does what cp -a does.
func TestCopy(t *testing.T) {
	w := newWorld(t, volume.Excl)
	w.write("content", 0)
	a := w.change(times)
	b := w.change(acl)
	w.b.expect(t, "before close")
	if a.Size != 7 || a.Mtime != times.Mtime || a.ID != w.id || b.Mode != syscall.S_IFREG|0o640 || b.Mtime != times.Mtime {
		t.Errorf("foreseen: %+v, %+v", a, b)
	}
	if err := w.file.Flush(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.b.expect(t, "close", fmt.Sprintf("write 7 at 0 flags 0, set %d", times.Mask|acl.Mask))
	is, err := w.fs.Getattr(w.ctx, w.id)
	if err != nil || is.Mtime != times.Mtime || is.Atime != times.Atime || is.Mode != b.Mode || is.Size != 7 {
		t.Errorf("%+v, %v", is, err)
	}

	w = newWorld(t, volume.Excl)
	big := make([]byte, smallMax+1)
	if _, err := w.file.WriteAt(w.ctx, big, 0, 0); err != nil {
		t.Fatal(err)
	}
	if a := w.change(times); a.Size != int64(len(big)) {
		t.Errorf("foreseen after a large write: size %d", a.Size)
	}
	if _, err := w.file.WriteAt(w.ctx, nil, 1<<30, 0); err != nil {
		t.Fatal(err)
	}
	if a := w.change(times); a.Size != int64(len(big)) {
		t.Errorf("foreseen after a write of nothing: size %d", a.Size)
	}
	w.b.expect(t, "large writes", fmt.Sprintf("write %d at 0 flags 0", len(big)), fmt.Sprintf("set %d", times.Mask), "write 0 at 1073741824 flags 0")
	if err := w.file.Sync(w.ctx, false); err != nil {
		t.Fatal(err)
	}
	w.b.expect(t, "sync of attributes alone", fmt.Sprintf("set %d", times.Mask), "sync")
	w.write("x", 0)
	w.change(times)
	if err := w.file.Sync(w.ctx, false); err != nil {
		t.Fatal(err)
	}
	w.b.expect(t, "sync of both", fmt.Sprintf("write 1 at 0 flags %d, set %d", volume.WriteFullSync, times.Mask))
	w.change(times)
	w.write("y", 1)
	w.b.expect(t, "a write after a change", fmt.Sprintf("set %d", times.Mask))
}

// TestMerge: changes that do not go together are made one after the other.
func TestMerge(t *testing.T) {
	kill := volume.Change{Mask: volume.SetMode, Mode: 0o755}
	for name, c := range map[string]struct {
		a, b volume.Change
		ok   bool
	}{
		"times twice": {times, times, true}, "owner, then mode": {chown, mode, true}, "owner, then ACL": {chown, acl, true},
		"mode, then owner": {mode, chown, false}, "plain mode, then owner": {kill, chown, true}, "ACL, then owner": {acl, chown, false},
		"mode, then ACL": {mode, acl, false}, "ACL, then mode": {acl, mode, false}, "mode twice": {mode, kill, true},
	} {
		w := newWorld(t, volume.Excl)
		w.change(c.a)
		a, late := w.fs.ChangeLater(w.ctx, w.id, c.b)
		if late != c.ok {
			t.Errorf("%s: delayed %v", name, late)
		}
		if !late {
			var err error
			if a, err = w.fs.Setattr(w.ctx, w.id, c.b); err != nil {
				t.Fatal(err)
			}
		}
		one := newWorld(t, volume.Excl)
		for _, x := range []volume.Change{c.a, c.b} {
			if _, err := one.fs.Setattr(one.ctx, one.id, x); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.file.Close(); err != nil {
			t.Fatal(err)
		}
		got, _ := w.b.FS.Getattr(w.ctx, w.id)
		want, _ := one.b.FS.Getattr(w.ctx, one.id)
		for what, x := range map[string]volume.Attr{"is": got, "foreseen": a} {
			if x.Mode != want.Mode || x.UID != want.UID || x.GID != want.GID || c.a.Mask&volume.SetMtime != 0 && x.Mtime != want.Mtime {
				t.Errorf("%s: %s %+v, want %+v", name, what, x, want)
			}
		}
	}
}

// TestNotBorn: attributes of a file that somebody else may know are changed at once.
func TestNotBorn(t *testing.T) {
	ask := map[string]func(w *world) error{
		"not made": nil,
		"getattr":  func(w *world) error { _, err := w.fs.Getattr(w.ctx, w.id); return err },
		"lookup":   func(w *world) error { _, err := w.fs.Lookup(w.ctx, volume.Root, "f"); return err },
		"readdir": func(w *world) error {
			_, _, err := w.fs.ReadDir(w.ctx, volume.Root, 0, 10, true)
			return err
		},
		"open": func(w *world) error {
			f, err := w.fs.Open(w.ctx, w.id, volume.Read)
			return errors.Join(err, f.Close())
		},
		"setattr":  func(w *world) error { _, err := w.fs.Setattr(w.ctx, w.id, times); return err },
		"fsetattr": func(w *world) error { _, err := w.file.Setattr(w.ctx, times); return err },
		"append":   func(w *world) error { _, err := w.file.Append(w.ctx, []byte("x"), 0); return err },
		"a write that clears privileges": func(w *world) error {
			_, err := w.file.WriteAt(w.ctx, []byte("x"), 0, volume.WriteKillPriv)
			return err
		},
		"allocate":  func(w *world) error { return w.file.Allocate(w.ctx, 0, 0, 10) },
		"write set": func(w *world) error { _, err := w.file.WriteSet(w.ctx, []byte("x"), 0, 0, times); return err },
		"failure": func(w *world) error {
			w.b.failWith(syscall.ENOSPC)
			_, err := w.file.WriteAt(w.ctx, make([]byte, smallMax+1), 0, 0)
			w.b.failWith(nil)
			if err == nil {
				return errors.New("it did not fail")
			}
			return nil
		},
		"disabled": func(w *world) error { w.fs.SetEnabled(false); return nil },
	}
	for name, f := range ask {
		flags := volume.Excl
		if f == nil {
			flags = 0
		}
		w := newWorld(t, flags)
		if f != nil {
			if err := f(w); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if _, late := w.fs.ChangeLater(w.ctx, w.id, times); late {
			t.Errorf("%s: a change is delayed", name)
		}
		if err := w.file.Close(); err != nil {
			t.Fatal(err)
		}
		if n := w.fs.born.Load(); n != 0 {
			t.Errorf("%s: %d objects are taken for newborn when all are closed", name, n)
		}
	}
	w := newWorld(t, volume.Excl)
	for _, m := range []volume.Mask{volume.SetSize, volume.SetMtimeNow, volume.ClearPriv, 0} {
		if _, late := w.fs.ChangeLater(w.ctx, w.id, volume.Change{Mask: m}); late {
			t.Errorf("a change of %d is delayed", m)
		}
	}
	w.write("x", 0)
	other := volume.WithCred(w.ctx, volume.Cred{UID: 7})
	if _, late := w.fs.ChangeLater(other, w.id, times); late {
		t.Error("a change by another user than the writer is delayed")
	}
}

// TestLateFails: a change that was delayed and fails is told.
func TestLateFails(t *testing.T) {
	w := newWorld(t, volume.Excl)
	w.change(times)
	w.b.failWith(syscall.EIO)
	if err := w.file.Flush(w.ctx); !errors.Is(err, syscall.EIO) {
		t.Errorf("flush: %v", err)
	}
	w.b.failWith(nil)
	if err := w.file.Flush(w.ctx); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// TestNobodyNoticesLate: whoever asks for what a delayed change concerns sees it.
func TestNobodyNoticesLate(t *testing.T) {
	for name, look := range map[string]func(w *world) (volume.Attr, error){
		"getattr":  func(w *world) (volume.Attr, error) { return w.fs.Getattr(w.ctx, w.id) },
		"fgetattr": func(w *world) (volume.Attr, error) { return w.file.Getattr(w.ctx) },
		"lookup":   func(w *world) (volume.Attr, error) { return w.fs.Lookup(w.ctx, volume.Root, "f") },
		"close": func(w *world) (volume.Attr, error) {
			if err := w.file.Close(); err != nil {
				return volume.Attr{}, err
			}
			return w.b.FS.Getattr(w.ctx, w.id)
		},
		"setattr": func(w *world) (volume.Attr, error) {
			return w.fs.Setattr(w.ctx, w.id, volume.Change{Mask: volume.SetUID, UID: 1})
		},
	} {
		w := newWorld(t, volume.Excl)
		w.change(times)
		if a, err := look(w); err != nil || a.Mtime != times.Mtime {
			t.Errorf("%s: mtime %v, %v", name, a.Mtime, err)
		}
	}
}

// TestAttributesFollowLocks: so do attributes that are delayed, and what is foreseen of them is not believed any more
// once somebody locks the file: others may change it then.
func TestAttributesFollowLocks(t *testing.T) {
	w := newWorld(t, volume.Excl)
	w.write("ab", 0)
	if _, late := w.fs.ChangeLater(w.ctx, w.id, volume.Change{Mask: volume.SetMode, Mode: 0o600}); !late {
		t.Fatal("it was not delayed")
	}
	mine := volume.Lock{Owner: volume.LockOwner{Number: 1}, Type: volume.ExclusiveLock, End: volume.LockEnd}
	if err := w.file.Lock(w.ctx, mine, false); err != nil {
		t.Fatal(err)
	}
	if a, err := w.b.FS.Getattr(w.ctx, w.id); err != nil || a.Size != 2 || a.Mode&0o7777 != 0o600 {
		t.Errorf("another client sees %+v, %v", a, err)
	}
	if a, late := w.fs.ChangeLater(w.ctx, w.id, volume.Change{Mask: volume.SetMode, Mode: 0o640}); late {
		t.Errorf("under a lock %+v was foreseen", a)
	}
}
