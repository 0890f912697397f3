package set

import (
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

type waiter struct {
	span
	ready chan struct{} // closed when it is held
}

func newLocks() *locks {
	l := &locks{}
	for i := range l.shards {
		l.shards[i].lines = map[volume.ID]*line{}
	}
	return l
}

// order sorts spans into the order in which they are taken, for all alike, and
// drops those that others among them include.
func order(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int {
		if c := slices.Compare(a.id[:], b.id[:]); c != 0 {
			return c
		}
		switch {
		case a.from != b.from:
			return cmp(a.from, b.from)
		case a.to != b.to:
			return cmp(b.to, a.to)
		case a.shared != b.shared:
			if a.shared {
				return 1
			}
			return -1
		}
		return 0
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

func cmp(a, b uint64) int {
	if a < b {
		return -1
	}
	return 1
}

// lock takes spans that order has ordered, waiting for them in turn. Those of
// different calls must not be nested, except as tryLock allows.
func (l *locks) lock(ctx context.Context, spans ...span) error {
	for i, s := range spans {
		if err := l.one(ctx, s); err != nil {
			l.unlock(spans[:i]...)
			return err
		}
	}
	return nil
}

func (l *locks) shard(id volume.ID) *struct {
	sync.Mutex
	lines map[volume.ID]*line
} {
	return &l.shards[id[0]&63]
}

func (l *locks) one(ctx context.Context, s span) error {
	sh := l.shard(s.id)
	sh.Lock()
	ln := sh.lines[s.id]
	if ln == nil {
		ln = &line{}
		sh.lines[s.id] = ln
	}
	if ln.free(s, len(ln.waiting)) {
		ln.held = append(ln.held, s)
		sh.Unlock()
		return nil
	}
	w := &waiter{s, make(chan struct{})}
	ln.waiting = append(ln.waiting, w)
	sh.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	sh.Lock()
	defer sh.Unlock()
	select {
	case <-w.ready: // meanwhile
		ln.drop(s)
	default:
		ln.waiting = slices.Delete(ln.waiting, slices.Index(ln.waiting, w), slices.Index(ln.waiting, w)+1)
	}
	ln.grant()
	l.tidy(sh.lines, s.id, ln)
	return ctx.Err()
}

// try takes spans if none of them has to be waited for.
func (l *locks) try(spans ...span) bool {
	for i, s := range spans {
		sh := l.shard(s.id)
		sh.Lock()
		ln := sh.lines[s.id]
		if ln == nil {
			ln = &line{}
			sh.lines[s.id] = ln
		}
		ok := ln.free(s, len(ln.waiting))
		if ok {
			ln.held = append(ln.held, s)
		}
		sh.Unlock()
		if !ok {
			l.unlock(spans[:i]...)
			return false
		}
	}
	return true
}

// unlock gives spans free.
func (l *locks) unlock(spans ...span) {
	for _, s := range spans {
		sh := l.shard(s.id)
		sh.Lock()
		ln := sh.lines[s.id]
		ln.drop(s)
		ln.grant()
		l.tidy(sh.lines, s.id, ln)
		sh.Unlock()
	}
}

func (l *locks) tidy(lines map[volume.ID]*line, id volume.ID, ln *line) {
	if len(ln.held)+len(ln.waiting) == 0 {
		delete(lines, id)
	}
}

// free reports whether s conflicts neither with what is held nor with the first n that wait.
func (ln *line) free(s span, n int) bool {
	for _, h := range ln.held {
		if h.conflicts(s) {
			return false
		}
	}
	for _, w := range ln.waiting[:n] {
		if w.conflicts(s) {
			return false
		}
	}
	return true
}

func (ln *line) drop(s span) {
	i := slices.Index(ln.held, s)
	ln.held[i] = ln.held[len(ln.held)-1]
	ln.held = ln.held[:len(ln.held)-1]
}

// grant gives those who wait what is free now.
func (ln *line) grant() {
	for i := 0; i < len(ln.waiting); {
		w := ln.waiting[i]
		if !ln.free(w.span, i) {
			i++
			continue
		}
		ln.waiting = slices.Delete(ln.waiting, i, i+1)
		ln.held = append(ln.held, w.span)
		close(w.ready)
	}
}
