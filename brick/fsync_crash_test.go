package brick

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
)

// warm waits until the brick has a log.
func (l *life) warm() {
	f := l.files[0]
	if f.gone {
		check(l.t, l.create(f))
	}
	for deadline := time.Now().Add(20 * time.Second); !l.s.fsyncs.log.Usable(); {
		check(l.t, l.changes(f, "warm", written(f.now(), []byte{1}, 0), func(h volume.File) error {
			_, err := h.WriteAt(ctx, []byte{1}, 0, 0)
			return err
		}))
		check(l.t, l.sync(f, false))
		if time.Now().After(deadline) {
			l.t.Fatal("there is no log")
		}
	}
}

// live does steps until the process ends, by a crash before some call or, sometimes, between two steps.
func (l *life) live() {
	l.say("life of boot %d", l.boot)
	if l.r.IntN(5) > 0 {
		l.warm()
	}
	l.fault.Crash(1 + l.r.IntN(700))
	for range 150 {
		if l.last = l.step(); l.last != nil {
			l.say("stopped before %s: %v", l.fault.Failed(), l.last)
			break
		}
	}
	l.fault.Crash(1)
	for _, f := range l.files {
		if f.h != nil {
			f.h.Close()
			f.h = nil
		}
	}
	check(l.t, l.s.Close())
}

// found reads a file; it is looked up by its name first, as who looks for it does.
func (l *life) found(f *imagined) (b []byte, a volume.Attr, ok bool) {
	ents, _, err := l.s.ReadDir(ctx, volume.Root, volume.CookieStart, 100, true)
	check(l.t, err)
	i := slices.IndexFunc(ents, func(e volume.Entry) bool { return e.ID == f.id })
	if i < 0 {
		return nil, a, false
	}
	f.name = ents[i].Name
	h, err := l.s.Open(ctx, f.id, volume.Read)
	check(l.t, err)
	defer h.Close()
	a, err = h.Getattr(ctx)
	check(l.t, err)
	b = make([]byte, a.Size)
	_, err = h.ReadAt(ctx, b, 0)
	check(l.t, err)
	return b, a, true
}

// whole says what is wrong with contents after an end of which nothing was lost. A write that was under way may be torn.
func (f *imagined) whole(b []byte) string {
	if f.doubt {
		last := *f
		last.states = f.states[len(f.states)-2:]
		return last.possible(b, volume.Time{})
	}
	if bytes.Equal(b, f.now()) {
		return ""
	}
	return fmt.Sprintf("%d bytes are not the %d that were written last, from %d", len(b), len(f.now()), differs(b, f.now()))
}

func differs(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// possible says what is wrong with contents and mtime after a power failure: each byte must be one of a state since the last Sync.
func (f *imagined) possible(b []byte, mtime volume.Time) string {
	least, most := len(f.states[0]), 0
	for _, s := range f.states {
		least, most = min(least, len(s)), max(most, len(s))
	}
	if len(b) < least || len(b) > most {
		return fmt.Sprintf("it has %d bytes, not %d … %d", len(b), least, most)
	}
	for i := range b {
		if !slices.ContainsFunc(f.states, func(s []byte) bool { return i < len(s) && s[i] == b[i] }) {
			return fmt.Sprintf("byte %d is %d, which it was in none of the %d states since the last Sync", i, b[i], len(f.states))
		}
	}
	if !f.doubt && !slices.Contains(f.mtimes, mtime) {
		return fmt.Sprintf("its mtime is %v, none of %v", mtime, f.mtimes)
	}
	return ""
}

// look proves every file right, and takes it as it is from now on. lost: the power failed; kept: all is on the disk.
func (l *life) look(lost, kept bool) {
	for _, f := range l.files {
		b, a, ok := l.found(f)
		switch {
		case !ok && !f.gone:
			l.t.Errorf("%s is gone", f.name)
		case !ok:
			f.gone = true
			continue
		case f.gone && len(f.mtimes) == 0: // it was just being made
			f.mtimes = []volume.Time{a.Mtime}
		}
		wrong := ""
		if lost {
			wrong = f.possible(b, a.Mtime)
		} else {
			wrong = f.whole(b)
			if wrong == "" && !f.doubt && a.Mtime != f.mtimes[len(f.mtimes)-1] {
				wrong = fmt.Sprintf("its mtime is %v, not %v", a.Mtime, f.mtimes[len(f.mtimes)-1])
			}
		}
		if wrong != "" {
			l.t.Errorf("%s: %s", f.name, wrong)
		}
		f.gone, f.doubt = false, false
		if f.states, f.mtimes = append(f.states, b), append(f.mtimes, a.Mtime); lost || kept {
			f.synced(false)
		}
	}
}

// end ends a life in one of the ways in which that happens, and begins the next.
func (l *life) end() {
	switch l.r.IntN(3) {
	case 0:
		l.say("power failure")
		check(l.t, l.disk.Lose())
		l.boot++
		l.open()
		l.look(true, true)
	case 1:
		l.say("killed")
		l.open()
		l.look(false, false)
		if l.r.IntN(2) == 0 { // and then the power fails, before anything is done
			l.say("and the power fails")
			l.fault.Crash(1)
			check(l.t, l.s.Close())
			check(l.t, l.disk.Lose())
			l.boot++
			l.open()
			l.look(true, true)
		}
	case 2:
		l.say("killed, and the machine booted in an orderly way")
		l.disk.Keep()
		l.boot++
		l.open()
		l.look(false, true)
	}
}

// TestPromisesOutliveCrashes writes, appends to, syncs, truncates, dates, renames and removes files at random, ends the process before
// any of its system calls, with or without a power failure, and proves after each that what was acknowledged is there.
func TestPromisesOutliveCrashes(t *testing.T) {
	at := onMemory(t)
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("MORTAR_SEED"); text != "" {
		_, err := fmt.Sscan(text, &seed)
		check(t, err)
	}
	lives := 0
	for end := time.Now().Add(crashTime()); time.Now().Before(end) && !t.Failed(); seed++ {
		playLives(t, at, seed)
		lives += livesEach
	}
	t.Logf("%d lives", lives)
}

const livesEach = 6

func crashTime() time.Duration {
	if testing.Short() {
		return time.Second
	}
	return 8 * time.Second
}

func playLives(t *testing.T, at string, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	l := &life{t: t, r: r, path: fmt.Sprintf("%s/%d", at, seed), disk: sys.NewLossy(sys.Real{}, rand.New(rand.NewPCG(seed, 2)))}
	defer func() {
		if t.Failed() {
			t.Logf("MORTAR_SEED=%d: %q", seed, l.trace)
			l.s.Close()
			l.disk.Keep()
		}
	}()
	check(t, os.Mkdir(l.path, 0o755))
	check(t, Init(context.Background(), l.path, testIdentity))
	l.open()
	for range 3 {
		f := &imagined{}
		check(t, l.create(f))
		l.files = append(l.files, f)
	}
	for range livesEach {
		if l.live(); !t.Failed() {
			l.end()
		}
		if t.Failed() {
			return
		}
	}
	for _, f := range l.files {
		if f.h != nil {
			f.h.Close()
		}
	}
	check(t, l.s.Close())
	l.disk.Keep()
	fsck(t, l.path)
	check(t, os.RemoveAll(l.path))
}

// TestUnlinkStopped: a logged object whose unlinking is stopped has its promised contents, if it has its name.
func TestUnlinkStopped(t *testing.T) {
	at := onMemory(t)
	for n := 1; ; n++ {
		path := fmt.Sprint(at, "/", n)
		check(t, os.Mkdir(path, 0o755))
		check(t, Init(ctx, path, testIdentity))
		disk := sys.NewLossy(sys.Real{}, rand.New(rand.NewPCG(1, uint64(n))))
		f := &sys.Faulty{Sys: disk}
		s := openBrick(t, path, Options{sys: f, Boot: "one", segment: smallSegment, fsyncIdle: time.Hour})
		h := warmed(t, s, "f")
		_, err := h.WriteAt(ctx, []byte("promised"), 0, volume.WriteFullSync)
		check(t, err)
		check(t, h.Close())
		f.Crash(n)
		err = s.Unlink(ctx, volume.Root, "f")
		failed := f.Failed()
		if failed == "" {
			check(t, err)
		}
		crashed(t, f, s)
		if err := os.Truncate(path+"/f", 0); !os.IsNotExist(err) { // what of it was not synced is lost
			check(t, err)
		}
		disk.Keep()
		s = openBrick(t, path, Options{Boot: "two"})
		if a, err := s.Lookup(ctx, volume.Root, "f"); err == nil {
			if got := contents(t, s, a.ID); got != "promised" {
				t.Errorf("stopped before call %d, %s: it has %q", n, failed, got)
			}
		}
		check(t, s.Close())
		if failed == "" {
			return
		}
	}
}

// TestConcurrentPromises: while many write to the same places of a file and sync it, and some change it otherwise, the log follows the
// file: what is there when all have synced is there after a power failure, and what is there after a boot without one, too.
func TestConcurrentPromises(t *testing.T) {
	at := onMemory(t)
	for seed := range uint64(12) {
		path := fmt.Sprint(at, "/", seed)
		check(t, os.Mkdir(path, 0o755))
		check(t, Init(ctx, path, testIdentity))
		disk := sys.NewLossy(sys.Real{}, rand.New(rand.NewPCG(seed, 2)))
		f := &sys.Faulty{Sys: disk}
		s := openBrick(t, path, Options{sys: f, Boot: "one", segment: smallSegment, fsyncIdle: time.Hour})
		h := warmed(t, s, "f")
		var work sync.WaitGroup
		for i := range byte(4) {
			work.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				for n := range 60 {
					_, err := h.WriteAt(ctx, bytes.Repeat([]byte{1 + byte(n)*4 + i}, 1+r.IntN(3000)), int64(r.IntN(4000)), 0)
					check(t, err)
					switch r.IntN(12) {
					case 0:
						_, err = h.Setattr(ctx, volume.Change{Mask: volume.SetMode, Mode: 0o600})
					case 1:
						_, err = h.Setattr(ctx, volume.Change{Mask: volume.SetSize, Size: int64(r.IntN(6000))})
					case 2:
					default:
						err = h.Sync(ctx, r.IntN(2) == 0)
					}
					check(t, err)
				}
				if seed%2 == 0 {
					check(t, h.Sync(ctx, false))
				}
			})
		}
		work.Wait()
		want := contents(t, s, h.ID())
		crashed(t, f, s)
		if seed%2 == 0 {
			check(t, disk.Lose())
		}
		disk.Keep()
		s = openBrick(t, path, Options{Boot: "two"})
		if got := contents(t, s, h.ID()); got != want {
			t.Errorf("seed %d: it differs from byte %d", seed, differs([]byte(got), []byte(want)))
		}
		check(t, s.Close())
	}
}
