package set

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// serveDistant executes a message of another member's distant side on this
// member, and returns the answer, which holds the member's own error. An error
// says that the message is malformed; nothing was done. Whether the sender's epoch is
// to be obeyed is decided before (distantEpoch). msg and data are not kept.
func serveDistant(ctx context.Context, m near, msg, data []byte) (answer []byte, err error) {
	if _, err := distantEpoch(msg); err != nil {
		return nil, err
	}
	s := server{m, &reader{b: msg[9:]}, data, &writer{}}
	f := s.method(msg[0])
	if f == nil {
		return nil, malformedDistant()
	}
	s.w.u16(0)
	err = f(ctx)
	if s.r.bad {
		return nil, malformedDistant()
	}
	if err != nil {
		s.w.b = s.w.b[:0]
		s.w.status(err)
	}
	return s.w.b, nil
}

// server is a message being served. Its methods take the arguments off r, and
// do nothing if they are malformed.
type server struct {
	near
	r    *reader
	data []byte
	w    *writer
}

// method returns what serves a kind of message, nil for none.
func (s *server) method(kind uint8) func(context.Context) error {
	if kind < distantFirst || kind >= askEnd {
		return nil
	}
	return [...]func(context.Context) error{
		s.serveLook, s.serveDescribe, s.serveInstall, s.serveBear, s.servePlace, s.servePath, s.serveList,
		s.serveNameless, s.serveRelease, s.serveSums, s.serveDigests, s.serveData, s.serveRead, s.serveWrite,
		s.serveZero, s.serveDiscards, s.serveDiscard, s.servePurge, s.serveJournal, s.serveSetJournal, s.serveSettle,
	}[kind-distantFirst]
}

// offset takes an offset or length in a file.
func (r *reader) offset() int64 {
	v := int64(r.u64())
	if v < 0 {
		r.bad = true
	}
	return v
}

func (s *server) serveLook(ctx context.Context) error {
	dir, name, id := s.r.id(), s.r.name(), s.r.id()
	if err := s.r.end(); err != nil {
		return err
	}
	v, err := s.look(ctx, dir, name, id)
	if err != nil {
		return err
	}
	var flags uint8
	for i, b := range []bool{v.dir, v.damaged, v.known, v.nameless} {
		if b {
			flags |= 1 << i
		}
	}
	s.w.u8(flags)
	s.w.pointer(v.entry)
	return nil
}

func (s *server) serveDescribe(ctx context.Context) error {
	id := s.r.id()
	if err := s.r.end(); err != nil {
		return err
	}
	o, err := s.describe(ctx, id)
	if err != nil {
		return err
	}
	s.w.object(o)
	if len(s.w.b) > objectMax {
		return tooLarge(id, len(s.w.b))
	}
	return nil
}

func (s *server) serveInstall(ctx context.Context) error {
	if err := s.r.end(); err != nil {
		return err
	}
	d := reader{b: s.data}
	o := d.object()
	if err := d.end(); err != nil {
		return err
	}
	return s.install(ctx, o)
}

func (s *server) serveBear(ctx context.Context) error {
	dir, name := s.r.id(), s.r.name()
	if err := s.r.end(); err != nil {
		return err
	}
	d := reader{b: s.data}
	o, contents := d.object(), d.bytes(birthMax)
	if err := d.end(); err != nil {
		return err
	}
	return s.bear(ctx, o, contents, dir, name)
}

func (s *server) servePlace(ctx context.Context) error {
	dir, name, p := s.r.id(), s.r.name(), s.r.pointer()
	if err := s.r.end(); err != nil {
		return err
	}
	return s.place(ctx, dir, name, p)
}

func (s *server) servePath(ctx context.Context) error {
	dir := s.r.id()
	if err := s.r.end(); err != nil {
		return err
	}
	parent, name, err := s.path(ctx, dir)
	if err != nil {
		return err
	}
	s.w.id(parent)
	s.w.text(name)
	return nil
}

func (s *server) serveList(ctx context.Context) error {
	dir, after, n := s.r.id(), volume.Cookie(s.r.u64()), s.r.u32()
	if n < 1 || n > listMax {
		s.r.bad = true
	}
	if err := s.r.end(); err != nil {
		return err
	}
	entries, end, err := s.list(ctx, dir, after, int(n))
	if err != nil {
		return err
	}
	if len(entries) > 2*listMax {
		return volume.Errorf("list", dir.String(), syscall.EIO, "%d names have equal cookies", len(entries))
	}
	s.w.bool(end)
	s.w.u32(uint32(len(entries)))
	for _, e := range entries {
		s.w.text(e.Name)
		s.w.pointer(volume.Pointer{ID: e.ID, Mode: e.Mode & syscall.S_IFMT, Held: e.Held})
	}
	return nil
}

func (s *server) serveNameless(ctx context.Context) error {
	after := s.r.id()
	if err := s.r.end(); err != nil {
		return err
	}
	ids, err := s.nameless(ctx, after)
	s.w.ids(ids)
	return err
}

func (s *server) serveRelease(ctx context.Context) error {
	id := s.r.id()
	if err := s.r.end(); err != nil {
		return err
	}
	return s.release(ctx, id)
}

func (s *server) serveSums(ctx context.Context) error {
	id, first, n, size := s.r.id(), s.r.offset(), s.r.u32(), s.r.u32()
	if n < 1 || n > sumsMax || size < 1 || size > volume.IOMax || first > 1<<40 {
		s.r.bad = true
	}
	if err := s.r.end(); err != nil {
		return err
	}
	sums, err := s.sums(ctx, id, first, int(n), int(size))
	s.w.u32(uint32(len(sums)))
	for _, v := range sums {
		s.w.u64(v)
	}
	return err
}

func (s *server) serveDigests(ctx context.Context) error {
	ids := s.r.ids(digestsMax)
	if err := s.r.end(); err != nil {
		return err
	}
	all, err := s.digests(ctx, ids)
	s.w.u32(uint32(len(all)))
	for _, d := range all {
		s.w.bool(d.known)
		s.w.u64(d.meta)
		s.w.u64(d.data)
	}
	return err
}

func (s *server) serveData(ctx context.Context) error {
	id, off := s.r.id(), s.r.offset()
	if err := s.r.end(); err != nil {
		return err
	}
	at, err := s.near.data(ctx, id, off)
	s.w.u64(uint64(at))
	return err
}

func (s *server) serveRead(ctx context.Context) error {
	id, off, n := s.r.id(), s.r.offset(), s.r.u32()
	if n > volume.IOMax {
		s.r.bad = true
	}
	if err := s.r.end(); err != nil {
		return err
	}
	p := make([]byte, n)
	got, err := s.read(ctx, id, off, p)
	s.w.bytes(p[:got])
	return err
}

func (s *server) serveWrite(ctx context.Context) error {
	id, off := s.r.id(), s.r.offset()
	if err := s.r.end(); err != nil {
		return err
	}
	return s.write(ctx, id, off, s.data)
}

func (s *server) serveZero(ctx context.Context) error {
	id, off, n := s.r.id(), s.r.offset(), s.r.offset()
	if err := s.r.end(); err != nil {
		return err
	}
	return s.zero(ctx, id, off, n)
}

func (s *server) serveDiscards(ctx context.Context) error {
	after := s.r.key()
	if err := s.r.end(); err != nil {
		return err
	}
	all, err := s.discards(ctx, after)
	s.w.u32(uint32(len(all)))
	for _, d := range all {
		s.w.key(d.Key)
		s.w.id(d.Dir)
		s.w.text(d.Name)
		s.w.pointer(d.Pointer)
	}
	return err
}

func (s *server) serveDiscard(ctx context.Context) error {
	dir, name, id, k, keep := s.r.id(), s.r.name(), s.r.id(), s.r.key(), s.r.bool()
	if err := s.r.end(); err != nil {
		return err
	}
	return s.discard(ctx, dir, name, id, k, keep)
}

func (s *server) servePurge(ctx context.Context) error {
	k, id := s.r.key(), s.r.id()
	if err := s.r.end(); err != nil {
		return err
	}
	return s.purge(ctx, k, id)
}

func (s *server) serveJournal(ctx context.Context) error {
	n := s.r.offset()
	if err := s.r.end(); err != nil {
		return err
	}
	records, sum, err := s.journal(ctx, int(n))
	s.w.u64(uint64(records))
	s.w.u64(sum)
	return err
}

func (s *server) serveSetJournal(ctx context.Context) error {
	anew := s.r.bool()
	if err := s.r.end(); err != nil {
		return err
	}
	d := reader{b: s.data}
	var recs [][]byte
	for !d.bad && len(d.b) > 0 {
		rec := d.bytes(volume.JournalRecordMax)
		d.bad = d.bad || len(rec) == 0
		recs = append(recs, rec)
	}
	if err := d.end(); err != nil {
		return err
	}
	return s.setJournal(ctx, recs, anew)
}

func (s *server) serveSettle(ctx context.Context) error {
	if err := s.r.end(); err != nil {
		return err
	}
	return s.settle(ctx)
}
