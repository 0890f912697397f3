package window

import (
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open returns both sides of a window.
func open(t testing.TB, objects int) (*Window, *View) {
	t.Helper()
	w, err := New(objects)
	must(t, err)
	t.Cleanup(w.Close)
	f, err := w.File()
	must(t, err)
	defer f.Close()
	v, err := Map(f)
	must(t, err)
	t.Cleanup(v.Close)
	return w, v
}

func take(t testing.TB, w *Window, id volume.ID) uint32 {
	t.Helper()
	slot, ok := w.Take(id)
	if !ok || slot == 0 {
		t.Fatalf("word %d, %v", slot, ok)
	}
	return slot
}

func TestWord(t *testing.T) {
	w, v := open(t, 2)
	a, b := volume.ID{1}, volume.ID{2}
	slot := take(t, w, a)
	first, quiet := v.Look(slot)
	if !quiet {
		t.Error("something is under way where nothing began")
	}
	w.Begin(b) // another object
	if !v.Same(slot, first) {
		t.Error("the change of one object shows in another's word")
	}
	w.Begin(a)
	if _, quiet := v.Look(slot); quiet || v.Same(slot, first) {
		t.Error("a change that is under way does not show")
	}
	w.Begin(a)
	w.End(a)
	if _, quiet := v.Look(slot); quiet {
		t.Error("one of two that are under way does not show")
	}
	w.End(a)
	if _, quiet := v.Look(slot); !quiet || v.Same(slot, first) {
		t.Error("what came between two looks does not show, or does not end")
	}
	if other := take(t, w, b); other == slot || !v.Has(other) {
		t.Errorf("word %d for two objects", other)
	} else if _, quiet := v.Look(other); quiet {
		t.Error("what was under way before the word was taken does not show")
	}
	if mark, quiet := v.Look(0); mark != 0 || !quiet {
		t.Error("word 0 does not stay 0")
	}
	if v.Has(3) || !v.Has(2) {
		t.Error("there are not as many words as there should be")
	}
}

// TestReuse gives words back and takes them for others.
func TestReuse(t *testing.T) {
	w, v := open(t, 1)
	a, b := volume.ID{1}, volume.ID{2}
	slot := take(t, w, a)
	mark, _ := v.Look(slot)
	if again := take(t, w, a); again != slot || !v.Same(slot, mark) {
		t.Error("an object has two words, or its word changes because somebody else wants it")
	}
	if _, ok := w.Take(b); ok {
		t.Fatal("more words than there are")
	}
	w.Begin(a)
	w.Give(a)
	if _, ok := w.Take(b); ok {
		t.Fatal("a word is given back by one of two")
	}
	w.Give(a)
	if got := take(t, w, b); got != slot || v.Same(slot, mark) {
		t.Error("the word of another object looks the same")
	}
	if _, quiet := v.Look(slot); !quiet {
		t.Error("the change of the object before shows")
	}
	w.End(a)
	w.Give(b)
	w.Give(b) // once too often does no harm
	take(t, w, a)
	if _, quiet := v.Look(slot); !quiet {
		t.Error("a change that is over shows")
	}
}

// TestMany has more changes under way than a word can count.
func TestMany(t *testing.T) {
	w, v := open(t, 1)
	a := volume.ID{1}
	slot := take(t, w, a)
	const n = countMax + 10
	for range n {
		w.Begin(a)
	}
	for i := range n {
		if _, quiet := v.Look(slot); quiet {
			t.Fatalf("quiet though %d are under way", n-i)
		}
		w.End(a)
	}
	if mark, quiet := v.Look(slot); !quiet || mark>>countBits < n {
		t.Errorf("word %#x when all is over", mark)
	}
}

func TestUntil(t *testing.T) {
	w, v := open(t, 1)
	if v.Open() {
		t.Error("open before anybody said so")
	}
	for until, want := range map[time.Duration]bool{Now() + time.Hour: true, Now(): false, -Always: false, Always: true, 0: false} {
		w.SetUntil(until)
		if v.Open() != want {
			t.Errorf("until %v: open is %v", until, !want)
		}
	}
	w.SetUntil(Always)
	w.Shut()
	w.SetUntil(Always)
	if v.Open() {
		t.Error("open after it was shut")
	}
	w.Begin(volume.ID{1})
	w.Close()
	w.Close()
	w.SetUntil(Always)
	w.End(volume.ID{1})
	w.Give(volume.ID{1})
	if _, ok := w.Take(volume.ID{1}); ok || v.Open() {
		t.Error("of use after it was closed")
	}
	if f, err := w.File(); err == nil {
		f.Close()
		t.Error("handed out after it was closed")
	}
	var none *Window
	none.Begin(volume.ID{})
	none.End(volume.ID{})
	none.Give(volume.ID{})
	none.SetUntil(Always)
	none.Shut()
	none.Close()
	if _, ok := none.Take(volume.ID{}); ok {
		t.Error("no window hands something out")
	}
}

// TestSealed has the other side try to write.
func TestSealed(t *testing.T) {
	w, _ := open(t, 1)
	f, err := w.File()
	must(t, err)
	defer f.Close()
	if _, err := f.WriteAt([]byte{1}, 8); err == nil {
		t.Error("written by who should only read")
	}
	if b, err := unix.Mmap(int(f.Fd()), 0, 64, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		unix.Munmap(b)
		t.Error("mapped for writing by who should only read")
	}
	if err := f.Truncate(0); err == nil {
		t.Error("cut")
	}
}

// TestForeign maps what is no window.
func TestForeign(t *testing.T) {
	size := int64(headerSize + 2*wordSize)
	for name, make := range map[string]struct {
		size  int64
		seals int
		begin []byte
	}{
		"not sealed": {size: size},
		"short":      {size: headerSize, seals: seals},
		"no header":  {size: size, seals: seals},
		"too large":  {size: headerSize + (WordsMax+1)*wordSize, seals: seals},
		"fewer words than it says": {size: size, seals: seals,
			begin: []byte{'m', 'o', 'r', 't', 'w', 'i', 1, 0, 16: 3, 23: 0}},
	} {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		must(t, err)
		f := os.NewFile(uintptr(fd), "test")
		must(t, f.Truncate(make.size))
		_, err = f.WriteAt(make.begin, 0)
		must(t, err)
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, make.seals)
		must(t, err)
		if v, err := Map(f); err == nil {
			v.Close()
			t.Errorf("%s: taken for a window", name)
		}
		f.Close()
	}
	f, err := os.Open("/dev/null")
	must(t, err)
	defer f.Close()
	if v, err := Map(f); err == nil {
		v.Close()
		t.Error("a device is taken for a window")
	}
}

// TestConcurrent has objects of two halves, which are changed one after the other and undone now and then, and readers who
// may see neither a difference nor what was undone. Words are taken and given back all the time.
func TestConcurrent(t *testing.T) {
	w, v := open(t, 3)
	w.SetUntil(Always)
	type object struct {
		id          volume.ID
		left, right atomic.Int64
	}
	objects := [4]object{}
	var stop atomic.Bool
	var wg sync.WaitGroup
	var counted atomic.Int64
	const undone = 1 << 40
	for i := range objects {
		o := &objects[i]
		o.id = volume.ID{byte(i + 1)}
		wg.Go(func() {
			for n := int64(1); !stop.Load(); n++ {
				was := o.left.Load()
				w.Begin(o.id)
				if rand.IntN(4) == 0 { // it fails
					o.left.Store(n + undone)
					o.right.Store(n + undone)
					o.left.Store(was)
					o.right.Store(was)
				} else {
					o.left.Store(n)
					o.right.Store(n)
				}
				w.End(o.id)
				if n%16 == 0 {
					runtime.Gosched()
				}
			}
		})
		wg.Go(func() {
			last := int64(0)
			for !stop.Load() {
				slot, ok := w.Take(o.id)
				if !ok {
					continue
				}
				for range 100 {
					mark, quiet := v.Look(slot)
					if !quiet {
						continue
					}
					left, right := o.left.Load(), o.right.Load()
					if !v.Same(slot, mark) || !v.Open() {
						continue
					}
					counted.Add(1)
					if left != right || left >= undone || left < last {
						t.Errorf("%d and %d after %d", left, right, last)
						stop.Store(true)
					}
					last = left
				}
				w.Give(o.id)
			}
		})
	}
	<-time.After(time.Second)
	stop.Store(true)
	wg.Wait()
	if counted.Load() == 0 {
		t.Error("no read counted")
	}
}
