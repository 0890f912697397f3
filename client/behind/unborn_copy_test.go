package behind

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// TestUnbornCopied does what cp -a and tar do.
func TestUnbornCopied(t *testing.T) { untimed(inUnbornCopied)(t) }

// inUnbornCopied is TestUnbornCopied.
func inUnbornCopied(t *testing.T) {
	n := newNursery(t)
	n.ctx = volume.WithCred(n.ctx, volume.Cred{Umask: 0o077, PID: 1})
	f, a := n.create("f", volume.Write|volume.Excl)
	n.ctx = volume.WithCred(n.ctx, volume.Cred{PID: 2}) // a umask comes with what is created only
	b, err := n.fs.Getattr(n.ctx, a.ID)
	n.ok(err)
	c, err := f.Getattr(n.ctx)
	n.ok(err)
	if a != b || b != c || a.Mode != syscall.S_IFREG|0o600 || !b.Foreseen || b.Btime != (volume.Time{}) {
		t.Errorf("foreseen: %+v, %+v, %+v", a, b, c)
	}
	n.write(f, "con", 0)
	n.write(f, "tent", 3)
	for _, x := range []volume.Change{chown, times, acl} {
		a, late := n.fs.ChangeLater(n.ctx, f.ID(), x)
		if !late || !a.Foreseen || a.Size != 7 || a.UID != chown.UID {
			t.Errorf("%+v is delayed: %v, %+v", x, late, a)
		}
	}
	n.ok(f.Flush(n.ctx))
	n.ok(f.Close())
	n.w.expect(t, "cp -a", "reserve f", fmt.Sprintf("bear f 7 then %d", chown.Mask|times.Mask|acl.Mask))
	if is, got := n.made("f"); got != "content" || is.UID != chown.UID || is.Mtime != times.Mtime || is.Atime != times.Atime || is.Mode != syscall.S_IFREG|0o640 {
		t.Errorf("%+v, %q", is, got)
	}
	n.over()

	f, _ = n.create("g", volume.Write|volume.Excl)
	other := volume.WithCred(n.ctx, volume.Cred{UID: 7})
	if _, late := n.fs.ChangeLater(other, f.ID(), times); late {
		t.Error("a change by another user than the maker is delayed")
	}
	if _, late := n.fs.ChangeLater(n.ctx, f.ID(), mode); !late {
		t.Error("a change is not delayed")
	}
	if a, err := n.fs.Getattr(n.ctx, f.ID()); err != nil || a.Foreseen || a.Mode != syscall.S_IFREG|mode.Mode {
		t.Errorf("after a change: %+v, %v", a, err)
	}
	n.ok(f.Close())
}

// TestUnbornExtracted does what tar does, and rsync, which sets the mode before it writes.
func TestUnbornExtracted(t *testing.T) { untimed(inUnbornExtracted)(t) }

// inUnbornExtracted is TestUnbornExtracted.
func inUnbornExtracted(t *testing.T) {
	n := newNursery(t)
	change := func(f volume.File, c volume.Change) {
		t.Helper()
		if _, late := n.fs.ChangeLater(n.ctx, f.ID(), c); !late {
			t.Errorf("%+v is not delayed", c)
		}
	}
	f, _ := n.create("tar", volume.Write|volume.Excl)
	n.write(f, "ab", 0)
	killing := chown
	killing.Mask |= volume.ClearPriv // as the kernel has it
	for _, c := range []volume.Change{times, killing, mode} {
		change(f, c)
	}
	n.ok(f.Close())
	n.w.expect(t, "tar", "reserve tar", fmt.Sprintf("bear tar 2 then %d", times.Mask|chown.Mask|mode.Mask))
	f, _ = n.create("rsync", volume.Write|volume.Excl)
	change(f, acl)
	n.write(f, "ab", 0)
	n.ok(f.Close())
	n.w.expect(t, "rsync", "reserve rsync", fmt.Sprintf("bear rsync 2 then %d", acl.Mask))
	if a, got := n.made("rsync"); got != "ab" || a.Mode != syscall.S_IFREG|acl.Mode {
		t.Errorf("%q, mode %o", got, a.Mode)
	}
	f, _ = n.create("suid", volume.Write|volume.Excl)
	change(f, mode)
	_, err := f.WriteAt(n.ctx, []byte("ab"), 0, volume.WriteKillPriv)
	n.ok(err)
	n.ok(f.Close())
	if a, _ := n.made("suid"); a.Mode != syscall.S_IFREG|mode.Mode&0o1777 {
		t.Errorf("mode %o after a write that clears privileges", a.Mode)
	}
	n.over()
}

// TestUnbornChanged: what is written after a change of attributes is written after it.
func TestUnbornChanged(t *testing.T) { untimed(inUnbornChanged)(t) }

// inUnbornChanged is TestUnbornChanged.
func inUnbornChanged(t *testing.T) {
	n := newNursery(t)
	f, _ := n.create("f", volume.Write)
	n.write(f, "ab", 0)
	for _, c := range []volume.Change{times, mode} {
		if _, late := n.fs.ChangeLater(n.ctx, f.ID(), c); !late {
			t.Errorf("%+v is not delayed", c)
		}
	}
	_, err := f.WriteAt(n.ctx, []byte("cd"), 2, volume.WriteKillPriv)
	n.ok(err)
	n.ok(f.Close())
	a, got := n.made("f")
	if got != "abcd" || a.Mtime == times.Mtime || a.Atime != times.Atime || a.Mode != syscall.S_IFREG|mode.Mode&0o1777 {
		t.Errorf("%q, %+v", got, a)
	}
	f, _ = n.create("g", volume.Write)
	n.write(f, "ab", 0)
	if _, late := n.fs.ChangeLater(n.ctx, f.ID(), times); !late {
		t.Error("times are not delayed")
	}
	n.write(f, "cd", 2)
	n.ok(f.Close())
	if a, got := n.made("g"); got != "abcd" || a.Mtime == times.Mtime {
		t.Errorf("written after its times were set: %q, %+v", got, a)
	}
	n.over()
}
