package set

import (
	"context"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// store is the set as its primary gives it to what stands on it. Questions are
// answered from the primary's own member, once nothing is under way in what they are
// about; changes go to all members.
type store struct{ r *reign }

var (
	_ volume.Store   = store{}
	_ volume.Dater   = store{}
	_ volume.Remover = store{}
)

func (r *reign) store() volume.Store { return store{r} }

// Present implements volume.Dater.
func (s store) Present() (volume.Time, bool) { return s.r.present(), true }

// waitMax bounds the waiting for a lock without a deadline.
const waitMax = 30 * time.Second

// ask runs a question while it holds spans, shared, and lets its answer out only
// if the lease held when it was there.
func (s store) ask(ctx context.Context, op string, f func() error, spans ...span) error {
	if s.r.deposed() {
		return s.r.refuse(op)
	}
	if err := s.lock(ctx, op, spans...); err != nil {
		return err
	}
	err := f()
	s.r.s.locks.unlock(spans...)
	if now() < s.r.tenureUntil() && !s.r.deposed() {
		return err
	}
	if e := s.r.lease(ctx, op); e != nil {
		return e
	}
	return err // the lease was renewed by all, so nobody else has served meanwhile
}

// lock takes spans, in bounded time, and fails when the reign ends meanwhile.
func (s store) lock(ctx context.Context, op string, spans ...span) error {
	if len(spans) == 0 || s.r.s.locks.try(spans...) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, waitMax)
	defer cancel()
	defer context.AfterFunc(s.r.ctx, cancel)()
	if err := s.r.s.locks.lock(ctx, spans...); err != nil {
		if s.r.deposed() {
			return s.r.refuse(op)
		}
		if ctx.Err() == context.DeadlineExceeded {
			return unavailable(op, "what is under way there does not end")
		}
		return &volume.Error{Op: op, Errno: volume.ErrnoOf(err), Err: err}
	}
	return nil
}

func (s store) member() volume.Member { return s.r.s.member }

// Lookup implements volume.FS.
func (s store) Lookup(ctx context.Context, dir volume.ID, name string) (a volume.Attr, err error) {
	err = s.ask(ctx, "lookup", func() error { a, err = s.member().Lookup(ctx, dir, name); return err }, entryOf(dir, name, true))
	if err != nil || a.Held != 0 || a.IsDir() {
		return a, err
	}
	// What is under way on the object itself must not be seen either.
	if l := s.r.s.locks; l.try(whole(a.ID, true)) {
		l.unlock(whole(a.ID, true))
		return a, nil
	}
	b, err := s.Getattr(ctx, a.ID)
	if volume.ErrnoOf(err) == estale {
		return s.Lookup(ctx, dir, name) // it has gone meanwhile
	}
	return b, err
}

// Getattr implements volume.FS. Of a directory it does not wait for entries that are
// being made: its times may be undone with them.
func (s store) Getattr(ctx context.Context, id volume.ID) (a volume.Attr, err error) {
	get := func() error { a, err = s.member().Getattr(ctx, id); return err }
	if !s.r.s.locks.try(whole(id, true)) {
		if err := s.ask(ctx, "getattr", get); err == nil && a.IsDir() {
			return a, nil
		}
		err = s.ask(ctx, "getattr", get, whole(id, true))
		return a, err
	}
	s.r.s.locks.unlock(whole(id, true))
	err = s.ask(ctx, "getattr", get, whole(id, true))
	return a, err
}

// Readlink implements volume.FS.
func (s store) Readlink(ctx context.Context, id volume.ID) (target string, err error) {
	err = s.ask(ctx, "readlink", func() error { target, err = s.member().Readlink(ctx, id); return err })
	return target, err
}

// Getxattr implements volume.FS.
func (s store) Getxattr(ctx context.Context, id volume.ID, name string) (v []byte, err error) {
	err = s.ask(ctx, "getxattr", func() error { v, err = s.member().Getxattr(ctx, id, name); return err }, attrsOf(id))
	return v, err
}

// Listxattr implements volume.FS.
func (s store) Listxattr(ctx context.Context, id volume.ID) (names []string, err error) {
	err = s.ask(ctx, "listxattr", func() error { names, err = s.member().Listxattr(ctx, id); return err }, attrsOf(id))
	return names, err
}

// attrsOf is the span of who asks about attributes that only their change, which
// holds the whole line, can touch.
func attrsOf(id volume.ID) span { return span{id, attrsAt, attrsAt + 1, true} }

// attrsAt is a place on the line that nothing but a change of attributes holds.
const attrsAt = namesAt + 1

// ReadDir implements volume.FS.
func (s store) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool) (es []volume.Entry, end bool, err error) {
	err = s.ask(ctx, "readdir", func() error { es, end, err = s.member().ReadDir(ctx, dir, after, max, attrs); return err }, pageOf(dir, after))
	s.settledOnly(es)
	return es, end, err
}

// List implements volume.Store.
func (s store) List(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool, keep func(string) bool) (es []volume.Entry, end bool, err error) {
	err = s.ask(ctx, "readdir", func() error { es, end, err = s.member().List(ctx, dir, after, max, attrs, keep); return err }, pageOf(dir, after))
	s.settledOnly(es)
	return es, end, err
}

// settledOnly takes the attributes out of entries of files that something is under way with: a failover
// might undo it. Who wants them asks, and waits.
func (s store) settledOnly(es []volume.Entry) {
	for i := range es {
		e := &es[i]
		if !e.HasAttr || e.Attr.IsDir() {
			continue
		}
		if at := whole(e.ID, true); s.r.s.locks.try(at) {
			s.r.s.locks.unlock(at)
		} else {
			e.HasAttr, e.Attr = false, volume.Attr{}
		}
	}
}

// pageOf is the span of the names of a listing from a cookie on.
func pageOf(dir volume.ID, after volume.Cookie) span { return span{dir, uint64(after), namesAt, true} }

// Empty implements volume.Store.
func (s store) Empty(ctx context.Context, dir volume.ID, but func(string) bool) (empty bool, err error) {
	var spans []span
	if but == nil {
		spans = []span{pageOf(dir, 0)}
	}
	err = s.ask(ctx, "empty", func() error { empty, err = s.member().Empty(ctx, dir, but); return err }, spans...)
	return empty, err
}

// Copy implements volume.Store.
func (s store) Copy(ctx context.Context, dir volume.ID) (c volume.Copy, err error) {
	err = s.ask(ctx, "copy", func() error { c, err = s.member().Copy(ctx, dir); return err }, attrsOf(dir))
	return c, err
}

// Path implements volume.Store.
func (s store) Path(ctx context.Context, dir volume.ID) (parent volume.ID, name string, err error) {
	err = s.ask(ctx, "path", func() error { parent, name, err = s.member().Path(ctx, dir); return err })
	return parent, name, err
}

// Discards implements volume.Store.
func (s store) Discards(ctx context.Context) (list []volume.Discarded, err error) {
	err = s.ask(ctx, "discards", func() error { list, err = s.member().Discards(ctx); return err })
	return list, err
}

// Statfs implements volume.FS: of the fullest member.
func (s store) Statfs(ctx context.Context) (st volume.Statfs, err error) {
	err = s.ask(ctx, "statfs", func() error { st, err = s.member().Statfs(ctx); return err })
	if err == nil {
		s.r.space.limit(&st)
	}
	return st, err
}

// Sync implements volume.FS.
func (s store) Sync(ctx context.Context, id volume.ID) error {
	return s.r.durable(ctx, &change{kind: doSync, id: id}, func(ctx context.Context) error { return s.member().Sync(ctx, id) })
}

// Settle implements volume.Store.
func (s store) Settle(ctx context.Context) error {
	return s.r.durable(ctx, &change{kind: doSettle}, s.member().Settle)
}

// Journal implements volume.Store.
func (s store) Journal() volume.Journal { return journal{s} }

// journal is the owner's, on all members.
type journal struct{ s store }

// journalID is whose line the journal's order is kept on; no object has it.
var journalID = volume.ID{0: 'j', 1: 'o', 2: 'u', 3: 'r', 4: 'n', 5: 'a', 6: 'l', 15: 0xff}

// Append implements volume.Journal.
func (j journal) Append(ctx context.Context, rec []byte) error {
	c := &change{kind: doJournal, value: rec}
	return j.s.changeUnder(ctx, c, func(ctx context.Context) (Outcome, error) {
		return Outcome{}, j.s.member().Journal().Append(ctx, rec)
	}, whole(journalID, false))
}

// Sync implements volume.Journal.
func (j journal) Sync(ctx context.Context) error {
	return j.s.r.durable(ctx, &change{kind: doJournalSync}, j.s.member().Journal().Sync)
}

// Replay implements volume.Journal.
func (j journal) Replay(f func(rec []byte) error) error { return j.s.member().Journal().Replay(f) }

// Rewrite implements volume.Journal. Of more than volume.IOMax bytes it does nothing: EFBIG.
func (j journal) Rewrite(recs [][]byte) error {
	c := &change{kind: doJournalRewrite, data: packRecords(recs)}
	if len(c.data) > volume.IOMax {
		return volume.Errorf("journal rewrite", "", syscall.EFBIG, "%d bytes", len(c.data))
	}
	return j.s.changeUnder(context.Background(), c, func(context.Context) (Outcome, error) {
		return Outcome{}, j.s.member().Journal().Rewrite(recs)
	}, whole(journalID, false))
}

// Size implements volume.Journal.
func (j journal) Size() int64 { return j.s.member().Journal().Size() }
