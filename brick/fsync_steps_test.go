package brick

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// smallSegment is the size of a segment that is soon full.
const smallSegment = 96 << 10

// imagined is a file as the calls that were made should have left it.
type imagined struct {
	id     volume.ID
	name   string
	states [][]byte      // its contents: when it was last synced, and after each change since; the last are those it has
	mtimes []volume.Time // likewise, since it was last synced with its attributes
	doubt  bool          // the last call on it failed: what it did is the last state, or not
	gone   bool          // it is being removed, or is
	h      volume.File
}

func (f *imagined) now() []byte { return f.states[len(f.states)-1] }

// life is a brick from its opening to its end, and what is imagined of it.
type life struct {
	t     *testing.T
	r     *rand.Rand
	path  string
	boot  int
	disk  *sys.Lossy
	fault *sys.Faulty
	s     *Store
	files []*imagined
	made  int
	byte  byte
	trace []string
	last  error // what stopped the life
}

func (l *life) say(format string, a ...any) { l.trace = append(l.trace, fmt.Sprintf(format, a...)) }

func (l *life) open() {
	l.fault = &sys.Faulty{Sys: l.disk}
	s, err := Open(l.path, Options{sys: l.fault, Boot: fmt.Sprint("boot ", l.boot), segment: smallSegment, fsyncIdle: time.Hour})
	check(l.t, err)
	l.s, l.last = s, nil
	check(l.t, s.Orphans(ctx))
}

// fresh returns n bytes that are unlike those written before.
func (l *life) fresh(n int) []byte {
	l.byte = l.byte%250 + 1
	return bytes.Repeat([]byte{l.byte}, n)
}

// handle opens a file unless it is.
func (l *life) handle(f *imagined) (volume.File, error) {
	if f.h == nil {
		h, err := l.s.Open(ctx, f.id, volume.Read|volume.Write)
		if err != nil {
			return nil, err
		}
		f.h = h
	}
	return f.h, nil
}

// changes makes a change of a file that gives it these contents.
func (l *life) changes(f *imagined, what string, after []byte, call func(h volume.File) error) error {
	h, err := l.handle(f)
	if err != nil {
		return err
	}
	l.say("%s %s", what, f.name)
	f.states, f.doubt = append(f.states, after), true
	if err := call(h); err != nil {
		return err
	}
	a, err := h.Getattr(ctx)
	if err != nil {
		return err
	}
	f.mtimes = append(f.mtimes, a.Mtime)
	f.doubt = false
	return nil
}

// written returns contents after a write.
func written(b, p []byte, off int) []byte {
	b = append(bytes.Clone(b), make([]byte, max(0, off+len(p)-len(b)))...)
	copy(b[off:], p)
	return b
}

func (f *imagined) synced(dataOnly bool) {
	f.states = f.states[len(f.states)-1:]
	if !dataOnly && len(f.mtimes) > 0 {
		f.mtimes = f.mtimes[len(f.mtimes)-1:]
	}
}

// step does something to a file.
func (l *life) step() error {
	f := l.files[l.r.IntN(len(l.files))]
	if f.gone {
		return l.create(f)
	}
	b := f.now()
	switch n := l.r.IntN(100); {
	case n < 22:
		p, off := l.fresh(1+l.r.IntN(5000)), l.r.IntN(len(b)+2000)
		return l.changes(f, fmt.Sprintf("write %d at %d as %d", len(p), off, p[0]), written(b, p, off), func(h volume.File) error {
			_, err := h.WriteAt(ctx, p, int64(off), 0)
			return err
		})
	case n < 40:
		p := l.fresh(1 + l.r.IntN(3000))
		return l.changes(f, fmt.Sprintf("append %d as %d", len(p), p[0]), written(b, p, len(b)), func(h volume.File) error {
			_, err := h.Append(ctx, p, 0)
			return err
		})
	case n < 70:
		return l.sync(f, l.r.IntN(3) == 0)
	case n < 78:
		p := l.fresh(1 + l.r.IntN(2000))
		err := l.changes(f, fmt.Sprintf("append %d synced as %d", len(p), p[0]), written(b, p, len(b)), func(h volume.File) error {
			_, err := h.Append(ctx, p, volume.WriteFullSync)
			return err
		})
		if err == nil {
			f.synced(false)
		}
		return err
	}
	return l.seldom(f)
}

func (l *life) sync(f *imagined, dataOnly bool) error {
	h, err := l.handle(f)
	if err == nil {
		l.say("sync %s, data only: %v", f.name, dataOnly)
		err = h.Sync(ctx, dataOnly)
	}
	if err == nil {
		f.synced(dataOnly)
	}
	return err
}

// seldom does what a logged file has to leave its mode for, or what the log has nothing of.
func (l *life) seldom(f *imagined) error {
	b := f.now()
	switch l.r.IntN(11) {
	case 0, 1:
		size := l.r.IntN(len(b) + 3000)
		after := written(b, nil, max(size, len(b)))
		after = append(after, make([]byte, max(0, size-len(b)))...)[:size]
		return l.changes(f, fmt.Sprintf("truncate to %d", size), after, func(h volume.File) error {
			_, err := h.Setattr(ctx, volume.Change{Mask: volume.SetSize, Size: int64(size)})
			return err
		})
	case 2:
		return l.changes(f, "utimes", b, func(h volume.File) error {
			_, err := h.Setattr(ctx, volume.Change{Mask: volume.SetMtime, Mtime: volume.Time{Sec: int64(l.r.IntN(1e9))}})
			return err
		})
	case 3:
		return l.changes(f, "chmod", b, func(h volume.File) error {
			_, err := h.Setattr(ctx, volume.Change{Mask: volume.SetMode, Mode: uint32(l.r.IntN(0o777))})
			return err
		})
	case 4:
		p, off := l.fresh(66<<10), l.r.IntN(len(b)+1)
		return l.changes(f, fmt.Sprintf("write much at %d as %d", off, p[0]), written(b, p, off), func(h volume.File) error {
			_, err := h.WriteAt(ctx, p, int64(off), 0)
			return err
		})
	case 5:
		off := l.r.IntN(len(b) + 1)
		n := l.r.IntN(len(b)-off+1) + 1
		after := bytes.Clone(b)
		clear(after[off:min(off+n, len(b))])
		return l.changes(f, fmt.Sprintf("punch %d at %d", n, off), after, func(h volume.File) error {
			return h.Allocate(ctx, volume.AllocPunchHole|volume.AllocKeepSize, int64(off), int64(n))
		})
	case 6:
		name := fmt.Sprint("moved", l.r.Int())
		l.say("rename %s to %s", f.name, name)
		err := l.s.Rename(ctx, volume.Root, f.name, volume.Root, name, 0)
		f.name = name
		return err
	case 7:
		return l.remove(f)
	case 8:
		l.say("all leave")
		l.s.leaveIdle(time.Now().Add(time.Hour))
	case 9:
		if f.h != nil {
			f.h.Close()
			f.h = nil
		}
	case 10:
		return l.cutDown(f)
	}
	return nil
}

// cutDown opens a file and truncates it.
func (l *life) cutDown(f *imagined) error {
	return l.changes(f, "open truncating", nil, func(volume.File) error {
		h, err := l.s.Open(ctx, f.id, volume.Write|volume.Truncate)
		if err == nil {
			err = h.Close()
		}
		return err
	})
}

// remove removes a file, sometimes while it is open.
func (l *life) remove(f *imagined) error {
	if f.h != nil && l.r.IntN(3) > 0 {
		f.h.Close()
		f.h = nil
	}
	l.say("unlink %s", f.name)
	f.gone = true
	err := l.s.Unlink(ctx, volume.Root, f.name)
	if f.h != nil {
		f.h.Close()
		f.h = nil
	}
	return err
}

func (l *life) create(f *imagined) error {
	l.made++
	*f = imagined{id: volume.NewID(2), name: fmt.Sprint("f", l.made), states: [][]byte{nil}, gone: true}
	l.say("create %s", f.name)
	h, a, err := l.s.Create(ctx, volume.Root, f.name, volume.Node{ID: f.id, Mode: unix.S_IFREG | 0o644}, volume.Read|volume.Write|volume.Excl)
	if err != nil {
		return err
	}
	f.h, f.gone, f.mtimes = h, false, []volume.Time{a.Mtime}
	return l.sync(f, false)
}
