package locks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mortarfs/mortar/volume"
)

var id = volume.ID{1}

func owner(n int) volume.LockOwner {
	return volume.LockOwner{Session: [16]byte{byte(n >> 4)}, Number: uint64(n)}
}

func lock(who int, typ volume.LockType, start, end int64) volume.Lock {
	return volume.Lock{Owner: owner(who), Type: typ, Start: start, End: end}
}

const (
	un = volume.Unlocked
	sh = volume.SharedLock
	ex = volume.ExclusiveLock
)

// What an owner has after it has set locks one after the other.
func TestRanges(t *testing.T) {
	type l = volume.Lock
	tests := []struct {
		name string
		set  []l
		want []l
	}{
		{"one", []l{lock(1, sh, 5, 9)}, []l{lock(1, sh, 5, 9)}},
		{"upgrade", []l{lock(1, sh, 5, 9), lock(1, ex, 5, 9)}, []l{lock(1, ex, 5, 9)}},
		{"downgrade", []l{lock(1, ex, 5, 9), lock(1, sh, 5, 9)}, []l{lock(1, sh, 5, 9)}},
		{"split by another type", []l{lock(1, sh, 0, 9), lock(1, ex, 4, 5)}, []l{lock(1, sh, 0, 3), lock(1, ex, 4, 5), lock(1, sh, 6, 9)}},
		{"split by unlocking", []l{lock(1, sh, 0, 9), lock(1, un, 4, 5)}, []l{lock(1, sh, 0, 3), lock(1, sh, 6, 9)}},
		{"cut at the left", []l{lock(1, sh, 2, 9), lock(1, un, 0, 5)}, []l{lock(1, sh, 6, 9)}},
		{"cut at the right", []l{lock(1, sh, 2, 9), lock(1, un, 5, 20)}, []l{lock(1, sh, 2, 4)}},
		{"neighbours are one", []l{lock(1, sh, 0, 4), lock(1, sh, 5, 9)}, []l{lock(1, sh, 0, 9)}},
		{"a gap is closed", []l{lock(1, sh, 0, 3), lock(1, sh, 6, 9), lock(1, sh, 4, 5)}, []l{lock(1, sh, 0, 9)}},
		{"neighbours of other types are two", []l{lock(1, sh, 0, 4), lock(1, ex, 5, 9)}, []l{lock(1, sh, 0, 4), lock(1, ex, 5, 9)}},
		{"swallowed", []l{lock(1, ex, 3, 4), lock(1, ex, 7, 7), lock(1, sh, 0, 9)}, []l{lock(1, sh, 0, 9)}},
		{"to the end", []l{lock(1, sh, 5, volume.LockEnd), lock(1, un, 10, 19)}, []l{lock(1, sh, 5, 9), lock(1, sh, 20, volume.LockEnd)}},
		{"the last byte", []l{lock(1, ex, volume.LockEnd, volume.LockEnd), lock(1, sh, 0, volume.LockEnd-1)},
			[]l{lock(1, sh, 0, volume.LockEnd-1), lock(1, ex, volume.LockEnd, volume.LockEnd)}},
		{"of others nothing changes", []l{lock(2, sh, 0, 9), lock(1, sh, 3, 5), lock(1, un, 0, volume.LockEnd)}, []l{lock(2, sh, 0, 9)}},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			var tab Table
			for _, l := range c.set {
				if err := tab.Set(id, l); err != nil {
					t.Fatal(err)
				}
			}
			if got := tab.mu.files[id].held; !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// naive is a table that keeps for each owner an array of bytes.
type naive map[int]*[span + 1]volume.LockType

// span is how many bytes there are one by one; one more stands for all the others.
const span = 40

func (n naive) blocks(l volume.Lock) bool {
	for who, bytes := range n {
		for i := l.Start; owner(who) != l.Owner && i <= min(l.End, span); i++ {
			if bytes[i] == ex || bytes[i] == sh && l.Type == ex {
				return true
			}
		}
	}
	return false
}

func (n naive) set(who int, l volume.Lock) {
	for i := l.Start; i <= min(l.End, span); i++ {
		n[who][i] = l.Type
	}
}

func TestRandomAgainstBytes(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("MORTAR_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("MORTAR_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var tab Table
		model := naive{1: {}, 2: {}, 3: {}}
		for step := range 100 {
			who := 1 + r.IntN(3)
			start := r.Int64N(span)
			l := lock(who, volume.LockType(r.IntN(3)), start, start+r.Int64N(span-start))
			if r.IntN(8) == 0 {
				l.End = volume.LockEnd
			}
			want := l.Type != un && model.blocks(l)
			if got, _ := tab.Test(id, l); l.Type != un && (got.Type != un) != want {
				t.Fatalf("step %d: test %v: %v", step, l, got)
			}
			switch err := tab.Set(id, l); {
			case err == nil && !want:
				model.set(who, l)
			case errors.Is(err, syscall.EAGAIN) && want:
			default:
				t.Fatalf("step %d: %v: %v, blocked %v", step, l, err, want)
			}
			compare(t, &tab, model)
		}
		tab.Drop(func(volume.LockOwner) bool { return true })
		if len(tab.mu.files) != 0 || tab.mu.count != 0 {
			t.Fatalf("after all was dropped: %d files, count %d", len(tab.mu.files), tab.mu.count)
		}
	}
}

// compare looks at every byte of every owner, and for the invariant.
func compare(t *testing.T, tab *Table, model naive) {
	t.Helper()
	got := naive{1: {}, 2: {}, 3: {}}
	var held []volume.Lock
	if f := tab.mu.files[id]; f != nil {
		held = f.held
	}
	for i, l := range held {
		for j := range held[:i] {
			if o := held[j]; same(&o, &l) && (overlap(&o, &l) || o.Type == l.Type && touches(&o, &l)) {
				t.Fatalf("%v beside %v", l, o)
			}
		}
		got.set(int(l.Owner.Number), l)
	}
	for who, bytes := range model {
		if *got[who] != *bytes {
			t.Fatalf("owner %d: %v, want %v", who, got[who], bytes)
		}
	}
	if tab.mu.count != len(held) {
		t.Fatalf("count %d, %d are held", tab.mu.count, len(held))
	}
}

func TestFlock(t *testing.T) {
	flock := func(who int, typ volume.LockType) volume.Lock {
		return volume.Lock{Owner: owner(who), Flock: true, Type: typ, End: volume.LockEnd}
	}
	var tab Table
	steps := []struct {
		l    volume.Lock
		want syscall.Errno
	}{
		{flock(1, sh), 0}, {flock(2, sh), 0},
		{lock(3, ex, 0, volume.LockEnd), 0}, // the other kind
		{flock(1, ex), syscall.EAGAIN},
		{flock(2, ex), 0}, // for the failed change of type has cost 1 its lock
		{flock(1, sh), syscall.EAGAIN}, {flock(2, sh), 0}, {flock(1, sh), 0},
		{volume.Lock{Owner: owner(1), Flock: true, Type: sh, End: 5}, syscall.EINVAL},
	}
	for i, s := range steps {
		if err := tab.Set(id, s.l); volume.ErrnoOf(err) != s.want {
			t.Fatalf("step %d: %v, want %v", i, err, s.want)
		}
	}
}

// Waiters get their locks in order of arrival, as soon as nothing held is in their way.
func TestQueue(t *testing.T) {
	var tab Table
	must := func(l volume.Lock) *Waiter {
		t.Helper()
		w, err := tab.Enqueue(id, l)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	got := func(ws ...*Waiter) (s string) {
		for _, w := range ws {
			select {
			case <-w.Granted():
				s += "+"
			default:
				s += "-"
			}
		}
		return s
	}
	must(lock(1, ex, 0, 9))
	a, b, c, d := must(lock(2, ex, 0, 4)), must(lock(3, sh, 0, 4)), must(lock(4, sh, 0, 0)), must(lock(5, ex, 9, 9))
	if s := got(a, b, c, d); s != "----" {
		t.Fatal(s)
	}
	for _, step := range []struct {
		l    volume.Lock
		want string
	}{
		{lock(1, un, 9, 9), "---+"},
		{lock(1, un, 0, 9), "+--+"},
		{lock(2, sh, 0, 4), "++++"}, // a downgrade lets readers in
	} {
		if err := tab.Set(id, step.l); err != nil {
			t.Fatal(err)
		}
		if s := got(a, b, c, d); s != step.want {
			t.Fatalf("after %v: %s, want %s", step.l, s, step.want)
		}
	}
	if e := must(lock(6, ex, 0, 0)); tab.Withdraw(e) || !tab.Withdraw(a) {
		t.Error("withdrawing")
	}
	if held, waiting := tab.Len(); held != 4 || waiting != 0 {
		t.Errorf("%d held, %d waiting", held, waiting)
	}
	tab.Drop(func(o volume.LockOwner) bool { return o != owner(5) })
	if held, _ := tab.Len(); held != 1 {
		t.Errorf("%d held", held)
	}
}

func TestDeadlock(t *testing.T) {
	for n := 2; n < 6; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var tab Table
			file := func(i int) volume.ID { return volume.ID{byte(i % n)} }
			for i := range n {
				if err := tab.Set(file(i), lock(i+1, ex, 0, 0)); err != nil {
					t.Fatal(err)
				}
			}
			var last *Waiter
			for i := range n {
				w, err := tab.Enqueue(file(i+1), lock(i+1, sh, 0, 9))
				if want := syscall.Errno(0); i < n-1 {
					if volume.ErrnoOf(err) != want {
						t.Fatal(err)
					}
					last = w
				} else if !errors.Is(err, syscall.EDEADLK) {
					t.Fatalf("the ring was closed: %v", err)
				}
			}
			tab.Withdraw(last)
			if w, err := tab.Enqueue(file(0), lock(n, sh, 0, 0)); err != nil || w == nil {
				t.Errorf("without a ring: %v", err)
			}
		})
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tab Table
		if err := tab.Set(id, lock(1, ex, 0, 0)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := tab.Wait(ctx, id, lock(2, ex, 0, 0)); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("%v", err)
		}
		done := make(chan error)
		go func() { done <- tab.Wait(t.Context(), id, lock(3, ex, 0, 0)) }()
		synctest.Wait()
		if err := tab.Set(id, lock(1, un, 0, 0)); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestBook(t *testing.T) {
	var b Book
	b.Note(id, lock(1, ex, 0, 9))
	b.Note(id, lock(2, ex, 5, 5)) // the answer to 1's unlocking is still on its way
	b.Note(id, lock(1, un, 5, 9))
	if got := b.All(); !slices.Equal(got, []Entry{{id, lock(1, ex, 0, 4)}, {id, lock(2, ex, 5, 5)}}) {
		t.Errorf("%v", got)
	}
	whole := lock(1, un, 0, volume.LockEnd)
	if !b.Has(id, whole) || b.Has(id, lock(1, un, 5, 9)) || b.Has(volume.ID{2}, whole) {
		t.Error("Has")
	}
	b.Note(id, whole)
	b.Doubt(id, lock(1, sh, 3, 3))
	if !b.Has(id, whole) {
		t.Error("no doubt")
	}
	b.Note(id, whole)
	b.Sure(id, whole)
	b.Doubt(id, lock(1, ex, 0, 0))
	if b.Certain(); b.Has(id, whole) {
		t.Error("a doubt is left")
	}
	b.Note(id, lock(2, ex, 0, 9))
	if gone := b.Weaken(id, lock(2, sh, 4, 20)); !slices.Equal(gone, []volume.Lock{lock(2, ex, 4, 9)}) {
		t.Errorf("weakened: %v", gone)
	}
	if b.Has(id, whole) || !slices.Equal(b.Lose(), []volume.ID{id}) || len(b.All()) != 0 {
		t.Error("in the end")
	}
}
