package set

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"slices"
	"sync"

	"github.com/mortarfs/mortar/volume"
)

// span is a part of an object that a change or a question is about: an interval
// [from, to) on the object's line, on which lie
//
//	a file's contents   by offset, below namesAt
//	its names           at namesAt: link, unlink, rename
//	its attributes      everywhere: who changes them holds all of it
//	a directory's names by their cookies, which say where on its line they lie
//
// Spans of one object that overlap exclude each other, unless both are shared.
type span struct {
	id       volume.ID
	from, to uint64
	shared   bool
}

// namesAt is where on its line an object's names are; contents are below.
const namesAt = 1 << 63

func whole(id volume.ID, shared bool) span { return span{id, 0, math.MaxUint64, shared} }

func entryOf(dir volume.ID, name string, shared bool) span {
	c := uint64(volume.CookieOf(name))
	return span{dir, c, c + 1, shared}
}

func namesOf(id volume.ID) span { return span{id, namesAt, namesAt + 1, false} }

func contentsOf(id volume.ID, off, n int64, shared bool) span {
	return span{id, uint64(off), uint64(off) + uint64(max(n, 1)), shared}
}

func (s span) conflicts(t span) bool {
	return s.from < t.to && t.from < s.to && !(s.shared && t.shared)
}

// locks are the spans that are held. Those who wait for parts of one object
// are served in the order in which they came, so that nobody starves.
type locks struct {
	shards [64]struct {
		sync.Mutex
		lines map[volume.ID]*line
	}
}

// line is what is held, and wanted, of one object; guarded by its shard.
type line struct {
	held    []span
	waiting []*waiter
}

// waiter wants spans of one line, all at once: who held one and waited for another
// could be in the way of somebody who came between.
type waiter struct {
	spans []span
	ready chan struct{} // closed when they are held
}

func newLocks() *locks {
	l := &locks{}
	for i := range l.shards {
		l.shards[i].lines = map[volume.ID]*line{}
	}
	return l
}

// order sorts spans into the order in which they are taken, for all alike, and
// joins those that overlap.
func order(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(bytes.Compare(a.id[:], b.id[:]), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	})
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && out[n-1].id == s.id && s.from < out[n-1].to {
			last := &out[n-1]
			last.to, last.shared = max(last.to, s.to), last.shared && s.shared
			continue
		}
		out = append(out, s)
	}
	return out
}

// sameLine returns how many of the first spans are of one object.
func sameLine(spans []span) int {
	n := 1
	for n < len(spans) && spans[n].id == spans[0].id {
		n++
	}
	return n
}

// lock takes spans that order has ordered, waiting for them in turn. Who holds
// spans must not lock others, but may try.
func (l *locks) lock(ctx context.Context, spans ...span) error {
	for i := 0; i < len(spans); {
		n := sameLine(spans[i:])
		if err := l.some(ctx, spans[i:i+n]); err != nil {
			l.unlock(spans[:i]...)
			return err
		}
		i += n
	}
	return nil
}

// line returns an object's, locked; unlock gives it back.
func (l *locks) line(id volume.ID) (ln *line, unlock func()) {
	sh := &l.shards[id[0]&63]
	sh.Lock()
	if ln = sh.lines[id]; ln == nil {
		ln = &line{}
		sh.lines[id] = ln
	}
	return ln, func() {
		if len(ln.held)+len(ln.waiting) == 0 {
			delete(sh.lines, id)
		}
		sh.Unlock()
	}
}

// some takes spans of one line.
func (l *locks) some(ctx context.Context, spans []span) error {
	ln, unlock := l.line(spans[0].id)
	if ln.free(spans, len(ln.waiting)) {
		ln.held = append(ln.held, spans...)
		unlock()
		return nil
	}
	w := &waiter{spans, make(chan struct{})}
	ln.waiting = append(ln.waiting, w)
	unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	ln, unlock = l.line(spans[0].id)
	defer unlock()
	if i := slices.Index(ln.waiting, w); i >= 0 {
		ln.waiting = slices.Delete(ln.waiting, i, i+1)
	} else { // it was granted meanwhile
		ln.drop(spans)
	}
	ln.grant()
	return ctx.Err()
}

// try takes spans if none of them has to be waited for.
func (l *locks) try(spans ...span) bool {
	for i := 0; i < len(spans); {
		n := sameLine(spans[i:])
		ln, unlock := l.line(spans[i].id)
		ok := ln.free(spans[i:i+n], len(ln.waiting))
		if ok {
			ln.held = append(ln.held, spans[i:i+n]...)
		}
		unlock()
		if !ok {
			l.unlock(spans[:i]...)
			return false
		}
		i += n
	}
	return true
}

// unlock gives spans free.
func (l *locks) unlock(spans ...span) {
	for i := 0; i < len(spans); {
		n := sameLine(spans[i:])
		ln, unlock := l.line(spans[i].id)
		ln.drop(spans[i : i+n])
		ln.grant()
		unlock()
		i += n
	}
}

// free reports whether spans conflict neither with what is held nor with the first n that wait.
func (ln *line) free(spans []span, n int) bool {
	conflict := func(s span) bool {
		return slices.ContainsFunc(spans, func(t span) bool { return s.conflicts(t) })
	}
	if slices.ContainsFunc(ln.held, conflict) {
		return false
	}
	for _, w := range ln.waiting[:n] {
		if slices.ContainsFunc(w.spans, conflict) {
			return false
		}
	}
	return true
}

func (ln *line) drop(spans []span) {
	for _, s := range spans {
		i := slices.Index(ln.held, s)
		ln.held[i] = ln.held[len(ln.held)-1]
		ln.held = ln.held[:len(ln.held)-1]
	}
}

// grant gives those who wait what is free now.
func (ln *line) grant() {
	for i := 0; i < len(ln.waiting); {
		w := ln.waiting[i]
		if !ln.free(w.spans, i) {
			i++
			continue
		}
		ln.waiting = slices.Delete(ln.waiting, i, i+1)
		ln.held = append(ln.held, w.spans...)
		close(w.ready)
	}
}
