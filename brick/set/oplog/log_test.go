package oplog

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

func id(n int) volume.ID { return volume.ID{0: byte(n), 1: byte(n >> 8), 2: 1} }

func req(n int) volume.Request { return volume.Request{Session: [16]byte{1}, Number: uint64(n)} }

// sample is the n-th of records that all differ.
func sample(n int) Record {
	r := Record{Point: Point{1 + uint64(n/100), 1 + uint64(n%100)}, Request: req(n), Body: bytes.Repeat([]byte{byte(n)}, n%50)}
	r.Keys = []Key{{Kind: EntryKey, ID: id(n), Name: fmt.Sprint("n", n)}, {Kind: ObjectKey, ID: id(n)}, {Kind: ExtentKey, ID: id(n), Off: int64(n), Len: 5}}[:n%4]
	if n%3 == 0 {
		r.Outcome = []byte(fmt.Sprint("early", n))
	}
	return r
}

// same compares records, nil and empty bodies being the same.
func same(a, b Record) bool {
	return a.Point == b.Point && a.Request == b.Request && slices.Equal(a.Keys, b.Keys) && bytes.Equal(a.Body, b.Body) &&
		bytes.Equal(a.Outcome, b.Outcome) && (a.Outcome == nil) == (b.Outcome == nil)
}

func openLog(t *testing.T, k sys.Sys, opt Options) *Log {
	t.Helper()
	opt.Sys = k
	l, err := Open("log", opt)
	check(t, err)
	return l
}

func tailIs(t *testing.T, l *Log, want []Record) {
	t.Helper()
	got, err := l.Tail()
	check(t, err)
	if !slices.EqualFunc(got, want, same) {
		t.Errorf("the tail is\n%+v, not\n%+v", got, want)
	}
}

func TestLog(t *testing.T) {
	dir := t.TempDir() // the real calls
	l := must(Open(dir, Options{}))
	var want []Record
	for _, n := range []int{3, 1, 2, 10, 205, 7} { // not in order
		r := sample(n)
		check(t, l.Append(r))
		if n%3 != 0 {
			r.Outcome = []byte{}
			check(t, l.Amend(r.Point, []byte("wrong")))
			check(t, l.Amend(r.Point, nil))
		}
		want = append(want, r)
	}
	slices.SortFunc(want, func(a, b Record) int {
		if a.Before(b.Point) {
			return -1
		}
		return 1
	})
	tailIs(t, l, want)
	l.Finished(Point{1, 4})
	l.Finished(Point{1, 2}) // older: nothing happens
	tailIs(t, l, want[3:])
	if got := KeysOf(want[3:]); len(got) != 3+2+1 {
		t.Errorf("keys %+v", got)
	}
	check(t, l.Close())
	check(t, l.Close())
	l = must(Open(dir, Options{}))
	if l.Mark() != (Point{1, 4}) || l.Damage() != nil {
		t.Errorf("mark %v, damage %v", l.Mark(), l.Damage())
	}
	tailIs(t, l, want[3:])
	i := 0
	check(t, l.Replies(func(r volume.Request, p Point, outcome []byte) {
		if w := want[i]; w.Request != r || w.Point != p || !bytes.Equal(outcome, w.Outcome) || outcome == nil {
			t.Errorf("reply %d is %v %v %q", i, r, p, outcome)
		}
		i++
	}))
	if i != len(want) {
		t.Errorf("%d replies", i)
	}
	check(t, l.Clear())
	tailIs(t, l, nil)
	check(t, l.Append(sample(301)))
	tailIs(t, l, []Record{sample(301)})
	check(t, l.Close())
	if l.Append(sample(1)) == nil || l.Clear() == nil || l.Replies(nil) == nil {
		t.Error("a closed log can be used")
	}
	if _, err := Open(dir+"/none", Options{}); volume.ErrnoOf(err) != unix.ENOENT {
		t.Errorf("open: %v", err)
	}
}

func TestLogRefuses(t *testing.T) {
	l := openLog(t, newMemDisk(), Options{})
	for name, r := range map[string]Record{
		"body":    {Body: make([]byte, BodyMax+1)},
		"outcome": {Outcome: make([]byte, OutcomeMax+1)},
		"keys":    {Keys: make([]Key, KeysMax+1)},
		"key":     {Keys: []Key{{Kind: ObjectKey}}},
	} {
		if err := l.Append(r); volume.ErrnoOf(err) != unix.EINVAL {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.Amend(Point{}, make([]byte, OutcomeMax+1)); volume.ErrnoOf(err) != unix.EINVAL {
		t.Error(err)
	}
	r := Record{Point: Point{1, 1}, Body: make([]byte, BodyMax), Outcome: make([]byte, OutcomeMax)}
	for range KeysMax {
		r.Keys = append(r.Keys, Key{Kind: EntryKey, ID: id(1), Name: string(bytes.Repeat([]byte{'n'}, volume.NameMax))})
	}
	check(t, l.Append(r)) // the biggest one there is
	tailIs(t, l, []Record{r})
}

func TestLogRetention(t *testing.T) {
	d := newMemDisk()
	opt := Options{Segment: 4 << 10, Retain: 16 << 10, Max: 64 << 10}
	l := openLog(t, d, opt)
	for n := range 1000 {
		check(t, l.Append(sample(n)))
		if n > 10 {
			l.Finished(sample(n - 10).Point)
		}
	}
	if n := l.size(); n < opt.Retain || n > opt.Retain+2*opt.Segment || len(d.names) != len(l.mu.segs) {
		t.Errorf("%d bytes in %d segments, %d files", n, len(l.mu.segs), len(d.names))
	}
	var err error
	n := 0
	for ; err == nil; n++ { // nothing is finished any more
		err = l.Append(Record{Point: Point{1000, uint64(n)}, Request: req(n)})
	}
	if volume.ErrnoOf(err) != unix.ENOSPC || l.size() > opt.Max {
		t.Errorf("%v after %d records, %d bytes", err, n, l.size())
	}
	l.Finished(Point{1000, 1 << 40})
	check(t, l.Append(Record{Point: Point{1001, 1}}))
	check(t, l.Append(Record{Point: Point{1001, 2}}))
	if l.size() > opt.Retain+2*opt.Segment {
		t.Errorf("%d bytes are left", l.size())
	}
	check(t, l.Close())
	if len(d.fds) != 0 {
		t.Errorf("%d descriptors are open", len(d.fds))
	}
	l = openLog(t, d, opt)
	if l.Damage() != nil {
		t.Error(l.Damage())
	}
	tailIs(t, l, []Record{{Point: Point{1001, 1}}, {Point: Point{1001, 2}}})
}

// TestLogTorn cuts the newest file at every byte.
func TestLogTorn(t *testing.T) {
	d := newMemDisk()
	l := openLog(t, d, Options{})
	var ends []int
	for n := range 8 {
		check(t, l.Append(sample(n)))
		ends = append(ends, len(d.names["ops.1"].data))
	}
	all := d.names["ops.1"].data
	for cut := range all {
		for _, junk := range [][]byte{nil, make([]byte, 300), bytes.Repeat([]byte{0x99, 0, 0, 0}, 50)} {
			d := newMemDisk()
			d.names["ops.1"] = &inode{data: slices.Concat(all[:cut], junk)}
			file := d.names["ops.1"].data
			l, err := Open("log", Options{Sys: d})
			check(t, err)
			if broken := !bytes.HasPrefix(file, all[:headSize]); broken && junk != nil { // junk may be by luck what was cut off
				if l.Damage() == nil {
					t.Fatal("no damage with a broken header")
				}
				continue
			}
			n := 0
			for n < len(ends) && ends[n] <= cut {
				n++
			}
			var want []Record
			for i := range n {
				want = append(want, sample(i))
			}
			want = append(want, sample(90))
			check(t, l.Append(sample(90)))
			check(t, l.Close())
			l = openLog(t, d, Options{})
			if l.Damage() != nil {
				t.Fatal(l.Damage())
			}
			tailIs(t, l, want)
		}
	}
}

// TestLogDamaged changes single bytes of a log of three files.
func TestLogDamaged(t *testing.T) {
	d := newMemDisk()
	opt := Options{Segment: 1000}
	l := openLog(t, d, opt)
	for n := range 30 {
		check(t, l.Append(sample(n)))
	}
	files := maps.Clone(d.names)
	if len(files) != 4 {
		t.Fatalf("%d files", len(files))
	}
	for name := range files {
		for at := 0; at < len(files[name].data); at += 1 + at%3 {
			d := newMemDisk()
			for n, f := range files {
				d.names[n] = &inode{data: slices.Clone(f.data)}
			}
			d.names[name].data[at] ^= 0x40
			l, err := Open("log", Options{Sys: d, Segment: opt.Segment})
			if err != nil {
				t.Fatalf("byte %d of %s: %v", at, name, err)
			}
			tail, err := l.Tail()
			check(t, err)
			if len(tail) >= 30 || l.Damage() == nil && (name != "ops.4" || len(tail) < 20) {
				t.Fatalf("byte %d of %s: %d records, damage %v", at, name, len(tail), l.Damage())
			}
			check(t, l.Append(sample(90)))
			check(t, l.Close())
			l = openLog(t, d, opt)
			if again, err := l.Tail(); err != nil || len(again) != len(tail)+1 || name != "ops.4" && l.Damage() == nil {
				t.Fatalf("byte %d of %s, opened again: %d records, %v, damage %v", at, name, len(again), err, l.Damage())
			}
			check(t, l.Clear())
			check(t, l.Close())
			if l = openLog(t, d, opt); l.Damage() != nil {
				t.Fatal(l.Damage())
			}
		}
	}
	delete(d.names, "ops.2")
	if l = openLog(t, d, opt); l.Damage() == nil {
		t.Error("a file that is gone is not missed")
	}
}

func TestLogConcurrent(t *testing.T) {
	d := newMemDisk()
	l := openLog(t, d, Options{Segment: 8 << 10})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for n := range 100 {
				p := Point{uint64(g) + 1, uint64(n) + 1}
				if err := l.Append(Record{Point: p, Request: req(n)}); err != nil {
					t.Error(err)
				}
				if err := l.Amend(p, []byte{byte(g)}); err != nil {
					t.Error(err)
				}
				l.Mark()
			}
		})
	}
	wg.Wait()
	d.kill()
	tail, err := openLog(t, d, Options{}).Tail()
	check(t, err)
	if len(tail) != 800 || !slices.IsSortedFunc(tail, func(a, b Record) int {
		if a.Before(b.Point) {
			return -1
		}
		return 1
	}) {
		t.Errorf("%d records", len(tail))
	}
	for _, r := range tail {
		if !reflect.DeepEqual(r.Outcome, []byte{byte(r.Epoch) - 1}) {
			t.Errorf("%+v", r)
		}
	}
}
