package fsynclog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

var (
	one = volume.ID{15: 1}
	two = volume.ID{15: 2}
)

// config is that of a log in a directory of the test's.
func config(t testing.TB, k sys.Sys, size int64) (Config, string) {
	t.Helper()
	at := t.TempDir()
	fd, err := unix.Open(at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return Config{Sys: k, Dir: fd, Tmp: fd, TmpName: func(p string) string { return p + ".tmp" }, Boot: "boot", Size: size}, at
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made returns a log that was made just now.
func made(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, found, err := Open(cfg)
	check(t, err)
	if l.Exists() || len(found.Records) > 0 {
		t.Fatal("there is one already")
	}
	check(t, l.Make())
	t.Cleanup(l.Close)
	return l
}

func add(t testing.TB, l *Log, id volume.ID, text string) Seq {
	t.Helper()
	if !l.Reserve(len(text)) {
		t.Fatal("there is no room")
	}
	seq, err := l.Append(Record{ID: id, Off: 7, Data: []byte(text), Mtime: volume.Time{Sec: -3, Nsec: 5}}, len(text))
	check(t, err)
	return seq
}

// read returns the data of the records that a log has.
func read(t testing.TB, cfg Config) (got []string) {
	t.Helper()
	l, found, err := Open(cfg)
	check(t, err)
	defer l.Close()
	for _, r := range found.Records {
		got = append(got, string(r.Data))
	}
	if len(got) > 0 && found.Boot != "boot" {
		t.Errorf("they are of %q", found.Boot)
	}
	return got
}

func wants(t testing.TB, cfg Config, want ...string) {
	t.Helper()
	if got := read(t, cfg); !slices.Equal(got, want) {
		t.Errorf("it has %.200q, want %.200q", got, want)
	}
}

// TestFound: what was appended is found, whether it was forced or not, with all that was said.
func TestFound(t *testing.T) {
	cfg, _ := config(t, sys.Real{}, 1<<20)
	l := made(t, cfg)
	add(t, l, one, "a")
	check(t, l.Force(add(t, l, two, "")))
	add(t, l, one, "c")
	_, found, err := Open(cfg)
	check(t, err)
	want := Record{ID: one, Off: 7, Data: []byte("a"), Mtime: volume.Time{Sec: -3, Nsec: 5}}
	if r := found.Records[0]; len(found.Records) != 3 || r.ID != want.ID || r.Off != want.Off || string(r.Data) != "a" || r.Mtime != want.Mtime {
		t.Errorf("found %+v", found)
	}
	if ids := found.Objects(); !slices.Equal(ids, []volume.ID{one, two}) {
		t.Errorf("objects %v", ids)
	}
}

// TestGolden: the format is what the package comment says.
func TestGolden(t *testing.T) {
	h := header{7, 0x01020304, "boot"}
	r := record{Record{two, 9, []byte("data"), volume.Time{Sec: 5, Nsec: 6}}, write, 3}
	got := append(h.encode(), r.appendTo(nil, &h)...)
	golden := filepath.Join("testdata", "version1")
	if os.Getenv("REWRITE") != "" {
		check(t, os.WriteFile(golden, got, 0o644))
	}
	want, err := os.ReadFile(golden)
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// TestTorn: wherever the last record is damaged, what comes before it is there, and nothing else.
func TestTorn(t *testing.T) {
	cfg, at := config(t, sys.Real{}, 1<<20)
	l := made(t, cfg)
	check(t, l.Force(add(t, l, one, "first")))
	start := roundUp(l.mu.segs[0].tail)
	add(t, l, one, "second")
	add(t, l, one, "third")
	file := filepath.Join(at, "fsync-0")
	whole, err := os.ReadFile(file)
	check(t, err)
	for i := range int64(recordEnd + 6) {
		b := bytes.Clone(whole)
		b[start+i] ^= 0x10
		check(t, os.WriteFile(file, b, 0o600))
		wants(t, cfg, "first")
	}
	check(t, os.WriteFile(file, whole[:start+recordEnd+8], 0o600))
	wants(t, cfg, "first", "second")
	check(t, os.WriteFile(file, whole[:start+recordEnd], 0o600))
	wants(t, cfg, "first")
}

// TestNewGeneration: what was there before a Begin does not count, though it stands where records are looked for.
func TestNewGeneration(t *testing.T) {
	cfg, _ := config(t, sys.Real{}, 1<<20)
	l := made(t, cfg)
	for range 5 {
		check(t, l.Force(add(t, l, one, "old")))
	}
	check(t, l.Begin())
	wants(t, cfg)
	check(t, l.Force(add(t, l, one, "new")))
	wants(t, cfg, "new")
}

// TestForgery: data of a record that look like a record do not become one when what is before them is torn.
func TestForgery(t *testing.T) {
	cfg, at := config(t, sys.Real{}, 1<<20)
	l := made(t, cfg)
	guess := header{l.mu.segs[0].generation, 0, ""}
	forged := record{Record{two, 0, []byte("forged"), volume.Time{}}, write, 1}
	data := append(make([]byte, block-recordEnd), forged.appendTo(nil, &guess)...)
	check(t, l.Force(add(t, l, one, string(data))))
	f, err := os.OpenFile(filepath.Join(at, "fsync-0"), os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte{0xff}, block)
	check(t, err)
	wants(t, cfg)
}

// TestMark: a mark voids the records before the sequence that it names, no others.
func TestMark(t *testing.T) {
	cfg, _ := config(t, sys.Real{}, 1<<20)
	l := made(t, cfg)
	add(t, l, one, "a")
	add(t, l, two, "b")
	before := l.Next()
	add(t, l, one, "c")
	check(t, l.Mark(one, before))
	wants(t, cfg, "b", "c")
	if !l.Live(one) || !l.Live(two) {
		t.Error("one of them is not live")
	}
	check(t, l.Mark(one, l.Next()))
	check(t, l.Mark(two, l.Next()))
	wants(t, cfg)
	if l.Live(one) || len(l.Objects()) > 0 {
		t.Error("something is live")
	}
}

// TestFull: the other segment is gone on to when one is full; when both are there is room for marks only, until one is emptied.
func TestFull(t *testing.T) {
	cfg, _ := config(t, sys.Real{}, 64<<10)
	l := made(t, cfg)
	var all []string
	for i := 0; l.Reserve(4); i++ {
		text := fmt.Sprintf("%04d", i)
		seq, err := l.Append(Record{ID: one, Data: []byte(text)}, 4)
		check(t, err)
		check(t, l.Force(seq))
		all = append(all, text)
	}
	if len(all) != 2*14 { // 15 blocks beside the header, of which one is for marks
		t.Errorf("%d records", len(all))
	}
	wants(t, cfg, all...)
	check(t, l.Mark(two, 1))
	<-l.Full()
	ids, ok := l.ToEmpty()
	if !ok || !slices.Equal(ids, []volume.ID{one}) {
		t.Errorf("to be emptied: %v, %v", ids, ok)
	}
	check(t, l.Empty())
	wants(t, cfg, all[14:]...)
	add(t, l, one, "more")
	wants(t, cfg, append(all[14:], "more")...)
	if _, ok := l.ToEmpty(); !ok {
		t.Error("the second is not full")
	}
}

// TestMarkWaits: a mark for which there is no room waits until a segment was emptied.
func TestMarkWaits(t *testing.T) {
	cfg, _ := config(t, sys.Real{}, 64<<10)
	l := made(t, cfg)
	for l.Reserve(4) {
		seq, err := l.Append(Record{ID: one, Data: []byte("data")}, 4)
		check(t, err)
		check(t, l.Force(seq))
	}
	check(t, l.Mark(two, 1))
	done := make(chan error, 1)
	go func() { done <- l.Mark(two, 1) }()
	for {
		l.mu.Lock()
		next := l.mu.next
		l.mu.Unlock()
		if next != 2*14+2 {
			t.Fatalf("next is %d", next)
		}
		if _, ok := l.ToEmpty(); ok {
			break
		}
	}
	check(t, l.Empty())
	check(t, <-done)
}

// TestGap: what is in the newer segment does not count if the end of the older is torn: nothing of it can have been forced.
func TestGap(t *testing.T) {
	cfg, at := config(t, sys.Real{}, 64<<10)
	l := made(t, cfg)
	var all []string
	for i := range 20 {
		text := fmt.Sprintf("%04d", i)
		check(t, l.Force(add(t, l, one, text)))
		all = append(all, text)
	}
	wants(t, cfg, all...)
	f, err := os.OpenFile(filepath.Join(at, "fsync-0"), os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte{0xff}, 14*block+20)
	check(t, err)
	wants(t, cfg, all[:13]...)
}

// TestBeginOldestFirst: a Begin that is stopped halfway leaves the newer records, not the older.
func TestBeginOldestFirst(t *testing.T) {
	for newer := range 2 {
		f := &sys.Faulty{Sys: sys.Real{}}
		cfg, _ := config(t, f, 64<<10)
		l := made(t, cfg)
		for i := range 20 + 14*newer {
			if i == 28 {
				check(t, l.Empty())
			}
			check(t, l.Force(add(t, l, one, fmt.Sprintf("%04d", i))))
		}
		f.Crash(3) // the first is a pwrite, the second a force
		if err := l.Begin(); err == nil {
			t.Fatal("it was not stopped")
		}
		f.Fail(0, 0)
		if got := read(t, cfg); len(got) != 6 || got[5] != fmt.Sprintf("%04d", 19+14*newer) {
			t.Errorf("it has %q", got)
		}
	}
}

// counter counts forces, and lets each wait.
type counter struct {
	sys.Real
	forces atomic.Int32
	gate   chan struct{}
	err    error
}

func (c *counter) Fdatasync(fd int) error {
	c.forces.Add(1)
	if c.gate != nil {
		<-c.gate
	}
	return c.err
}

// TestForcesAreShared: who asks while a force is under way is served by the next, all by the same.
func TestForcesAreShared(t *testing.T) {
	c := &counter{}
	cfg, _ := config(t, c, 1<<20)
	l := made(t, cfg)
	c.forces.Store(0)
	c.gate = make(chan struct{})
	var work sync.WaitGroup
	force := func() {
		seq := add(t, l, one, "x")
		work.Go(func() { check(t, l.Force(seq)) })
	}
	force()
	for c.forces.Load() == 0 { // it is under way
	}
	for range 10 {
		force()
	}
	close(c.gate)
	work.Wait()
	if n := c.forces.Load(); n != 2 {
		t.Errorf("%d forces", n)
	}
	check(t, l.Force(l.Next()-1))
	if n := c.forces.Load(); n != 2 {
		t.Errorf("a force for nothing: %d", n)
	}
}

// TestNotForcedInPlace: what was forced is in blocks that are not written again.
func TestNotForcedInPlace(t *testing.T) {
	cfg, _ := config(t, sys.Real{}, 1<<20)
	l := made(t, cfg)
	for range 3 {
		add(t, l, one, "x")
		seq := add(t, l, one, "y")
		if l.mu.segs[0].tail%block != 2*(recordEnd+1) {
			t.Errorf("two records end at %d", l.mu.segs[0].tail)
		}
		check(t, l.Force(seq))
		if l.mu.segs[0].tail%block != 0 {
			t.Errorf("the next record begins at %d", l.mu.segs[0].tail)
		}
	}
}

// TestGivenUp: after a failure nothing is taken any more, and what is there stays until it is removed.
func TestGivenUp(t *testing.T) {
	c := &counter{}
	cfg, at := config(t, c, 1<<20)
	l := made(t, cfg)
	seq := add(t, l, one, "x")
	c.err = unix.EIO
	for range 2 {
		if err := l.Force(seq); !errors.Is(err, ErrGone) || !errors.Is(err, unix.EIO) {
			t.Errorf("force: %v", err)
		}
	}
	if l.Reserve(1) || l.Usable() || l.Mark(one, 1) == nil {
		t.Error("it takes something")
	}
	if ids := l.Objects(); !slices.Equal(ids, []volume.ID{one}) {
		t.Errorf("it has %v", ids)
	}
	wants(t, cfg, "x")
	c.err = nil
	check(t, l.Remove())
	if names, _ := filepath.Glob(at + "/*"); len(names) > 0 {
		t.Errorf("there are %q", names)
	}
}

// TestMakeFails: of a log that can't be made nothing is left, wherever that stops.
func TestMakeFails(t *testing.T) {
	for n := 1; ; n++ {
		f := &sys.Faulty{Sys: sys.Real{}}
		cfg, at := config(t, f, 64<<10)
		l, _, err := Open(cfg)
		check(t, err)
		f.Fail(n, unix.ENOSPC)
		err = l.Make()
		names, _ := filepath.Glob(at + "/*")
		l.Close()
		if f.Failed() == "" {
			check(t, err)
			return
		}
		if err == nil || len(names) > 0 && f.Failed() != "unlink" {
			t.Errorf("call %d, %s: %v, there are %q", n, f.Failed(), err, names)
		}
	}
}

// TestNewerVersion: a log of another version is refused.
func TestNewerVersion(t *testing.T) {
	cfg, at := config(t, sys.Real{}, 64<<10)
	made(t, cfg)
	f, err := os.OpenFile(filepath.Join(at, "fsync-1"), os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte{2}, 8)
	check(t, err)
	if _, _, err := Open(cfg); err == nil {
		t.Error("it was opened")
	}
}

// FuzzScan: whatever is on the disk is read without harm.
func FuzzScan(f *testing.F) {
	h := header{7, 9, "boot"}
	r := record{Record{two, 9, []byte("data"), volume.Time{Sec: 5, Nsec: 6}}, write, 3}
	f.Add(h.encode(), r.appendTo(nil, &h))
	f.Fuzz(func(t *testing.T, head, b []byte) {
		h, _, _ := decodeHeader(head)
		for _, r := range scan(b, &h) {
			if len(r.Data) > DataMax || r.Off < 0 || r.Off+int64(len(r.Data)) < 0 {
				t.Errorf("%+v", r)
			}
		}
	})
}
