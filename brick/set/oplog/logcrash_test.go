package oplog

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// TestLogFails lets each call fail alone: what was refused is not there, all else is.
func TestLogFails(t *testing.T) {
	for n := 1; ; n++ {
		d := newMemDisk()
		f := &sys.Faulty{Sys: d}
		l := openLog(t, f, Options{Segment: 500})
		f.Fail(n, unix.ENOSPC)
		var want []Record
		for i := range 20 {
			if l.Append(sample(i)) == nil {
				want = append(want, sample(i))
			}
		}
		failed := f.Failed()
		f.Fail(0, 0)
		tailIs(t, l, want)
		check(t, l.Close())
		l = openLog(t, d, Options{})
		tailIs(t, l, want)
		if l.Damage() != nil || t.Failed() {
			t.Fatalf("call %d, %s: %v", n, failed, l.Damage())
		}
		if failed == "" {
			return
		}
	}
}

// TestLogFull fills the disk in the middle of records.
func TestLogFull(t *testing.T) {
	for space := range 700 {
		d := newMemDisk()
		d.space = space
		l := openLog(t, d, Options{})
		var want []Record
		for i := range 12 {
			if i == 10 {
				d.space = 0
			}
			if l.Append(sample(i)) == nil {
				want = append(want, sample(i))
			}
		}
		tailIs(t, l, want)
		d.kill()
		tailIs(t, openLog(t, d, Options{}), want)
		if t.Failed() {
			t.Fatalf("with %d bytes", space)
		}
	}
}

// TestLogCrash kills the process before each of its calls, and the Open after it too: all that was acknowledged is
// there, with marks that never promise too much.
func TestLogCrash(t *testing.T) {
	r := seeded(t)
	for n := 1; n < 200; n++ {
		d := newMemDisk()
		f := &sys.Faulty{Sys: d}
		f.Crash(n)
		w := newLogWorld(r)
		if l, err := Open("log", w.opt(f)); err == nil {
			w.run(t, l, 60)
		}
		d.kill()
		for m := 1; ; m++ {
			f.Crash(m)
			if _, err := Open("log", w.opt(f)); err == nil {
				break
			}
			d.kill()
		}
		d.kill()
		l := openLog(t, d, w.opt(nil))
		if l.Damage() != nil {
			t.Fatalf("stopped before call %d: %v", n, l.Damage())
		}
		w.compare(t, l)
		d.powerLoss(r)
		l = openLog(t, d, w.opt(nil)) // whatever is left: it can be used
		l.Finished(Point{99, 0})
		check(t, l.Append(Record{Point: Point{99, 1}}))
		tailIs(t, l, []Record{{Point: Point{99, 1}}})
		if t.Failed() {
			t.Fatalf("stopped before call %d", n)
		}
	}
}

// logWorld is a model of a log.
type logWorld struct {
	r     *rand.Rand
	recs  map[Point]Record
	maybe map[Point]bool // it is not known whether it is there
	mark  Point          // the newest that was told
	n     int
}

func newLogWorld(r *rand.Rand) *logWorld {
	return &logWorld{r: r, recs: map[Point]Record{}, maybe: map[Point]bool{}}
}

func (w *logWorld) opt(k sys.Sys) Options { return Options{Sys: k, Segment: 600, Retain: 1500} }

// run makes random calls, until one fails.
func (w *logWorld) run(t *testing.T, l *Log, steps int) {
	for range steps {
		switch w.r.IntN(4) {
		case 0, 1:
			w.n++
			rec := sample(w.n)
			w.recs[rec.Point] = rec
			if l.Append(rec) != nil {
				w.maybe[rec.Point] = true
				return
			}
		case 2:
			p := sample(1 + w.r.IntN(w.n+1)).Point
			rec, ok := w.recs[p]
			if !ok {
				continue
			}
			rec.Outcome = fmt.Append(nil, "amended", w.r.IntN(1000))
			if l.Amend(p, rec.Outcome) != nil {
				w.maybe[p] = true
				return
			}
			w.recs[p] = rec
		case 3:
			if w.n > 3 {
				p := sample(w.n - 3).Point
				l.Finished(p)
				w.mark = later(w.mark, p)
			}
		}
	}
}

// compare holds the log against the model: its mark is none that wasn't told, and all above it is there.
func (w *logWorld) compare(t *testing.T, l *Log) {
	t.Helper()
	if w.mark.Before(l.Mark()) {
		t.Errorf("mark %v, told was %v", l.Mark(), w.mark)
	}
	tail, err := l.Tail()
	check(t, err)
	there := map[Point]bool{}
	for _, rec := range tail {
		there[rec.Point] = true
		if !same(rec, w.recs[rec.Point]) && !w.maybe[rec.Point] {
			t.Errorf("there is %+v instead of %+v", rec, w.recs[rec.Point])
		}
	}
	for p := range w.recs {
		if w.mark.Before(p) && !there[p] && !w.maybe[p] { // what is finished may have been deleted
			t.Errorf("%v is gone", p)
		}
	}
	check(t, l.Replies(func(q volume.Request, p Point, outcome []byte) {
		if rec := w.recs[p]; rec.Request != q || !bytes.Equal(rec.Outcome, outcome) && !w.maybe[p] {
			t.Errorf("the reply to %v is %q, not %q", q, outcome, rec.Outcome)
		}
	}))
}

// TestLogModel makes random calls, with restarts between.
func TestLogModel(t *testing.T) {
	r := seeded(t)
	d, w := newMemDisk(), newLogWorld(r)
	for range 100 {
		l := openLog(t, d, w.opt(nil))
		w.run(t, l, r.IntN(40))
		w.compare(t, l)
		if r.IntN(2) == 0 {
			check(t, l.Close())
		} else {
			d.kill()
		}
		if t.Failed() {
			return
		}
	}
}
