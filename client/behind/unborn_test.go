package behind

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/volume"
)

func TestConformanceUnborn(t *testing.T) {
	var w *ward
	cfg := fstest.Config{New: func(t *testing.T) volume.FS {
		w = newWard()
		w.quiet = true
		f := New(w)
		t.Cleanup(func() {
			f.Close()
			w.expectLate(t, 0)
		})
		return f
	}}
	t.Run("suite", func(t *testing.T) { fstest.Run(t, cfg) })
	t.Run("random", func(t *testing.T) {
		fstest.Random(t, cfg, 5000)
		w.expectNoWait(t)
	})
	t.Run("concurrent", func(t *testing.T) { fstest.RandomConcurrent(t, cfg, 2000) })
}

// untimed runs a test where no time passes.
func untimed(test func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

// TestUnborn: create, write and close are one change.
func TestUnborn(t *testing.T) { untimed(inUnborn)(t) }

// inUnborn is TestUnborn.
func inUnborn(t *testing.T) {
	big := strings.Repeat("b", runMax-1)
	for name, c := range map[string]struct {
		flags volume.Flags
		write func(n *nursery, f volume.File)
		want  string
	}{
		"empty":     {volume.Write, func(*nursery, volume.File) {}, ""},
		"exclusive": {volume.Write | volume.Excl, func(n *nursery, f volume.File) { n.write(f, "ab", 0) }, "ab"},
		"creat(2)":  {volume.Write | volume.Truncate, func(n *nursery, f volume.File) { n.write(f, "ab", 0); n.write(f, "cd", 2) }, "abcd"},
		"large":     {volume.Read | volume.Write, func(n *nursery, f volume.File) { n.write(f, big, 0); n.write(f, "c", runMax-1) }, big + "c"},
		"appended": {volume.Write | volume.Append, func(n *nursery, f volume.File) {
			var moved []int64
			for _, end := range []int64{0, 7} { // who appends may be wrong about the end
				err := f.(volume.LateAppender).AppendLater(n.ctx, []byte("ab"), end, 0, func(at int64) { moved = append(moved, at) })
				n.ok(err)
			}
			if !slices.Equal(moved, []int64{2}) {
				t.Errorf("moved to %v", moved)
			}
		}, "abab"},
		"by a user without CAP_FSETID": {volume.Write, func(n *nursery, f volume.File) {
			_, err := f.WriteAt(volume.WithCred(n.ctx, volume.Cred{UID: 7}), []byte("ab"), 0, volume.WriteKillPriv)
			n.ok(err)
		}, "ab"},
	} {
		for _, flush := range []bool{true, false} {
			n := newNursery(t)
			f, a := n.create("f", c.flags)
			if !a.Foreseen || a.ID != f.ID() || a.Mode != syscall.S_IFREG|0o644 {
				t.Errorf("%s: created %+v", name, a)
			}
			c.write(n, f)
			if _, err := n.w.FS.Lookup(n.ctx, volume.Root, "f"); err == nil {
				t.Errorf("%s: made at once", name)
			}
			if flush {
				n.ok(f.Flush(n.ctx))
			} else {
				n.ok(f.Close())
			}
			n.w.expect(t, name, "reserve f", fmt.Sprintf("bear f %d then 0", len(c.want)))
			if is, got := n.made("f"); got != c.want || is.ID != a.ID {
				t.Errorf("%s: made as %v with %d bytes", name, is.ID, len(got))
			}
			if flush {
				n.ok(f.Close())
			}
			n.w.expect(t, name+", close")
			n.over()
		}
	}
}

// TestUnbornTimes: what was told of the times of a file stays, unless something was done to it that changes them.
func TestUnbornTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			do    func(n *nursery, f volume.File)
			mtime bool // it changes
		}{
			"nothing": {func(*nursery, volume.File) {}, false},
			"a write": {func(n *nursery, f volume.File) { n.write(f, "ab", 0) }, true},
			"a mode": {func(n *nursery, f volume.File) {
				if a, late := n.fs.ChangeLater(n.ctx, f.ID(), mode); !late || a.Mode != syscall.S_IFREG|mode.Mode {
					t.Errorf("late %v: %+v", late, a)
				}
			}, false},
		} {
			n := newNursery(t)
			f, _ := n.create("f", volume.Write)
			told, err := n.fs.Getattr(n.ctx, f.ID())
			n.ok(err)
			<-time.After(Delay / 2)
			c.do(n, f)
			n.ok(f.Close())
			if a, _ := n.made("f"); a.Atime != told.Atime || (a.Mtime != told.Mtime) != c.mtime || a.Foreseen {
				t.Errorf("%s: told %+v, is %+v", name, told, a)
			}
		}
	})
}

// TestUnbornNotes: what can't be unborn is created as ever.
func TestUnbornNot(t *testing.T) { untimed(inUnbornNot)(t) }

// inUnbornNot is TestUnbornNot.
func inUnbornNot(t *testing.T) {
	n := newNursery(t)
	for i, flags := range []volume.Flags{volume.Read, volume.Write | volume.Direct, volume.Write | volume.DataSync, volume.Write | volume.FullSync} {
		name := fmt.Sprint("f", i)
		f, a := n.create(name, flags)
		n.w.expect(t, name, "create "+name)
		if a.Foreseen {
			t.Errorf("%s is only foreseen", name)
		}
		n.ok(f.Close())
	}
	f, _, err := n.fs.Create(volume.WithCred(n.ctx, volume.Cred{UID: 7}), volume.Root, "suid", volume.Node{Mode: 0o4755}, volume.Write)
	n.ok(err)
	n.ok(f.Close())
	n.w.expect(t, "privileges", "create suid")
	f, _ = n.create("suid", volume.Write)
	n.ok(f.Close())
	n.w.expect(t, "it exists", "reserve suid", "create suid")
	f, _, err = n.fs.Create(n.ctx, volume.Root, "root", volume.Node{Mode: 0o4755}, volume.Write)
	n.ok(err)
	_, err = f.WriteAt(n.ctx, []byte("x"), 0, volume.WriteKillPriv) // root's, without CAP_FSETID
	n.ok(err)
	n.ok(f.Close())
	if a, _ := n.made("root"); a.Mode != syscall.S_IFREG|0o755 {
		t.Errorf("mode %o after a write that clears privileges", a.Mode)
	}
	n.w.forget()

	var many []volume.File
	for i := range unbornMax {
		f, _ := n.create(fmt.Sprint("m", i), volume.Write)
		many = append(many, f)
	}
	n.w.forget()
	f, _ = n.create("one more", volume.Write)
	n.w.expect(t, "too many", "create one more")
	n.ok(f.Close())
	for _, f := range many {
		n.ok(f.Close())
	}
	n.w.forget()
	n.fs.SetEnabled(false)
	f, _ = n.create("off", volume.Write)
	n.w.expect(t, "off", "create off")
	n.ok(f.Close())
	n.over()
}

// TestUnbornRefused: a directory whose names can't be reserved is not asked again and again.
func TestUnbornRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNursery(t)
		create := func(name string) {
			f, _ := n.create(name, volume.Write)
			n.ok(f.Close())
		}
		n.w.refuse(syscall.EIO)
		create("a")
		create("b")
		n.w.expect(t, "EIO says nothing of the next one", "reserve a", "create a", "reserve b", "create b")
		n.w.refuse(syscall.EOPNOTSUPP)
		create("c")
		create("d")
		n.w.expect(t, "EOPNOTSUPP does", "reserve c", "create c", "create d")
		n.w.refuse(nil)
		<-time.After(refusedFor + 1)
		create("e")
		n.w.expect(t, "after a while", "reserve e", "bear e 0 then 0")
		for range refusingMax + 5 {
			n.fs.noteRefused(volume.NewID(1), time.Now())
		}
		if k := len(n.fs.mu.refused); k > refusingMax {
			t.Errorf("%d directories are remembered", k)
		}
	})
}

// TestUnbornLivesOn: a file that is made while it is open is like any other after that, and survives its names.
func TestUnbornLivesOn(t *testing.T) { untimed(inUnbornLivesOn)(t) }

// inUnbornLivesOn is TestUnbornLivesOn.
func inUnbornLivesOn(t *testing.T) {
	for name, gone := range map[string]func(n *nursery, f volume.File){
		"stays":    func(*nursery, volume.File) {},
		"unlinked": func(n *nursery, _ volume.File) { n.ok(n.fs.Unlink(n.ctx, volume.Root, "f")) },
		"flushed and unlinked": func(n *nursery, f volume.File) {
			n.ok(f.Flush(n.ctx))
			n.ok(n.fs.Unlink(n.ctx, volume.Root, "f"))
		},
		"replaced": func(n *nursery, f volume.File) {
			n.ok(f.Flush(n.ctx))
			n.ok(n.fs.Rename(n.ctx, volume.Root, "g", volume.Root, "f", 0))
		},
		"renamed and unlinked": func(n *nursery, f volume.File) {
			n.ok(n.fs.Rename(n.ctx, volume.Root, "f", volume.Root, "h", 0))
			n.ok(n.fs.Unlink(n.ctx, volume.Root, "h"))
		},
		"linked and unlinked": func(n *nursery, f volume.File) {
			_, err := n.fs.Link(n.ctx, f.ID(), volume.Root, "h")
			n.ok(err)
			n.ok(n.fs.Unlink(n.ctx, volume.Root, "f"))
			n.ok(n.fs.Unlink(n.ctx, volume.Root, "h"))
		},
	} {
		n := newNursery(t)
		_, err := n.w.FS.Make(n.ctx, volume.Root, "g", volume.Node{Mode: syscall.S_IFREG | 0o644})
		n.ok(err)
		f, _ := n.create("f", volume.Read|volume.Write|volume.Excl|volume.Truncate)
		n.write(f, "ab", 0)
		gone(n, f)
		n.write(f, "cd", 2)
		p := make([]byte, 10)
		if k, err := f.ReadAt(n.ctx, p, 0); err != nil || string(p[:k]) != "abcd" {
			t.Errorf("%s: read %q, %v", name, p[:k], err)
		}
		if k := n.fs.named.Load(); k != 0 {
			t.Errorf("%s: %d are looked for by their names though they are open below", name, k)
		}
		if a, err := f.Getattr(n.ctx); err != nil || a.Size != 4 {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
		n.ok(f.Sync(n.ctx, false))
		n.ok(f.Close())
		opened := 0
		for _, c := range n.w.calls() {
			if strings.HasPrefix(c, "open") {
				if opened++; c != fmt.Sprintf("open %d", volume.Read|volume.Write) {
					t.Errorf("%s: %s", name, c)
				}
			}
		}
		if opened != 1 {
			t.Errorf("%s: opened %d times: %q", name, opened, n.w.calls())
		}
		n.over()
	}
}

// TestUnbornDelay: a file is made after Delay, and open below from then on, so that another client may remove it.
func TestUnbornDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNursery(t)
		f, _ := n.create("f", volume.Write)
		<-time.After(Delay / 2)
		n.write(f, "ab", 0)
		<-time.After(Delay/2 - 1)
		synctest.Wait()
		n.w.expect(t, "before", "reserve f")
		<-time.After(time.Nanosecond)
		synctest.Wait()
		n.w.expect(t, "after Delay", "bear f 2 then 0", fmt.Sprintf("open %d", volume.Write))
		n.ok(n.w.FS.Unlink(n.ctx, volume.Root, "f"))
		n.write(f, "cd", 2)
		n.ok(f.Flush(n.ctx))
		n.ok(f.Close())
		n.over()

		f, _ = n.create("g", volume.Write) // a child closes it, its parent goes on
		n.ok(f.Flush(n.ctx))
		n.w.forget()
		<-time.After(Delay + 1)
		synctest.Wait()
		n.w.expect(t, "flushed, not closed", fmt.Sprintf("open %d", volume.Write))
		n.ok(f.Close())
		<-time.After(2 * Delay)
		synctest.Wait()
		n.w.expect(t, "closed")
		n.over()
	})
}

// TestUnbornSynced: fsync makes contents, attributes and name durable.
func TestUnbornSynced(t *testing.T) { untimed(inUnbornSynced)(t) }

// inUnbornSynced is TestUnbornSynced.
func inUnbornSynced(t *testing.T) {
	n := newNursery(t)
	f, _ := n.create("f", volume.Write)
	n.write(f, "ab", 0)
	n.ok(f.Sync(n.ctx, false))
	n.w.expect(t, "fsync", "reserve f", "bear f 2 then 0", fmt.Sprintf("open %d", volume.Write), "sync")
	n.write(f, "cd", 2)
	n.ok(f.Sync(n.ctx, false))
	n.w.expect(t, "the next", fmt.Sprintf("write 2 at 2 flags %d", volume.WriteFullSync))
	n.ok(f.Close())
	n.over()
}

// TestUnbornKnown: what is known of a file when it was made is what the layer below has said.
func TestUnbornKnown(t *testing.T) { untimed(inUnbornKnown)(t) }

// inUnbornKnown is TestUnbornKnown.
func inUnbornKnown(t *testing.T) {
	n := newNursery(t)
	f, _ := n.create("f", volume.Write)
	n.write(f, string(bytes.Repeat([]byte{'x'}, smallMax)), 0)
	n.write(f, "y", 7) // has it made
	n.w.forget()
	a, late := n.fs.ChangeLater(n.ctx, f.ID(), times)
	if !late || a.Size != smallMax || !a.Foreseen || a.Btime == (volume.Time{}) { // which nobody foresees
		t.Errorf("late %v: %+v", late, a)
	}
	n.ok(f.Flush(n.ctx))
	n.w.expect(t, "flush", fmt.Sprintf("open %d", volume.Write), fmt.Sprintf("write 1 at 7 flags 0, set %d", times.Mask))
	if a, err := n.fs.Getattr(n.ctx, f.ID()); err != nil || a.Foreseen || a.Mtime != times.Mtime {
		t.Errorf("%+v, %v", a, err)
	}
	n.ok(f.Close())
	n.over()
}
