package set

import (
	"context"
	"encoding/binary"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// The questions of a distant side; distant_serve.go answers them.

// Bits of look's answer.
const (
	sawDir = 1 << iota
	sawDamaged
	sawKnown
	sawNameless
)

func (s distant) look(ctx context.Context, dir volume.ID, name string, id volume.ID) (v sight, err error) {
	w := s.ask(askLook)
	w.id(dir)
	w.text(name)
	w.id(id)
	r, err := s.call(ctx, w, nil)
	if err != nil {
		return v, err
	}
	flags := r.u8()
	v.dir, v.damaged, v.known, v.nameless = flags&sawDir != 0, flags&sawDamaged != 0, flags&sawKnown != 0, flags&sawNameless != 0
	v.entry = r.pointer()
	return v, r.end()
}

func (s distant) describe(ctx context.Context, id volume.ID) (volume.Object, error) {
	w := s.ask(askDescribe)
	w.id(id)
	r, err := s.call(ctx, w, nil)
	if err != nil {
		return volume.Object{}, err
	}
	o := r.object()
	return o, r.end()
}

// tooLarge says that an object does not fit into a message.
func tooLarge(id volume.ID, n int) error {
	return volume.Errorf("heal", id.String(), syscall.E2BIG, "its extended attributes have %d bytes, more than %d", n, objectMax)
}

func (s distant) install(ctx context.Context, o volume.Object) error {
	var data writer
	data.object(o)
	if len(data.b) > objectMax {
		return tooLarge(o.Attr.ID, len(data.b))
	}
	return s.do(ctx, s.ask(askInstall), data.b)
}

func (s distant) bear(ctx context.Context, o volume.Object, contents []byte, dir volume.ID, name string) error {
	w := s.ask(askBear)
	w.id(dir)
	w.text(name)
	data := writer{b: make([]byte, 0, 512+len(contents))}
	data.object(o)
	if len(data.b) > objectMax {
		return tooLarge(o.Attr.ID, len(data.b))
	}
	data.bytes(contents)
	return s.do(ctx, w, data.b)
}

func (s distant) place(ctx context.Context, dir volume.ID, name string, p volume.Pointer) error {
	w := s.ask(askPlace)
	w.id(dir)
	w.text(name)
	w.pointer(p)
	return s.do(ctx, w, nil)
}

func (s distant) path(ctx context.Context, dir volume.ID) (volume.ID, string, error) {
	w := s.ask(askPath)
	w.id(dir)
	r, err := s.call(ctx, w, nil)
	if err != nil {
		return volume.ID{}, "", err
	}
	parent, name := r.id(), r.name()
	return parent, name, r.end()
}

func (s distant) list(ctx context.Context, dir volume.ID, after volume.Cookie, max int) ([]volume.Entry, bool, error) {
	w := s.ask(askList)
	w.id(dir)
	w.u64(uint64(after))
	w.u32(uint32(max))
	r, err := s.call(ctx, w, nil)
	if err != nil {
		return nil, false, err
	}
	end := r.bool()
	n := r.count(2*listMax, 4+pointerSize)
	entries := make([]volume.Entry, 0, n)
	for range n {
		name, p := r.name(), r.pointer()
		entries = append(entries, volume.Entry{Name: name, Cookie: volume.CookieOf(name), ID: p.ID, Mode: p.Mode, Held: p.Held})
	}
	return entries, end, r.end()
}

// pointerSize is the number of bytes of an encoded pointer.
const pointerSize = 16 + 4 + 2

// count takes a number of things of at least size bytes each, at most max.
func (r *reader) count(max, size int) int {
	n := r.u32()
	if uint64(n) > uint64(max) || int(n)*size > len(r.b) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (s distant) nameless(ctx context.Context, after volume.ID) ([]volume.ID, error) {
	w := s.ask(askNameless)
	w.id(after)
	r, err := s.call(ctx, w, nil)
	if err != nil {
		return nil, err
	}
	ids := r.ids(namelessMax)
	return ids, r.end()
}

func (w *writer) ids(ids []volume.ID) {
	w.u32(uint32(len(ids)))
	for _, id := range ids {
		w.id(id)
	}
}

func (r *reader) ids(max int) []volume.ID {
	ids := make([]volume.ID, r.count(max, 16))
	for i := range ids {
		ids[i] = r.id()
	}
	return ids
}

func (s distant) release(ctx context.Context, id volume.ID) error {
	w := s.ask(askRelease)
	w.id(id)
	return s.do(ctx, w, nil)
}

func (s distant) sums(ctx context.Context, id volume.ID, first int64, n, size int) ([]uint64, error) {
	w := s.ask(askSums)
	w.id(id)
	w.u64(uint64(first))
	w.u32(uint32(n))
	w.u32(uint32(size))
	r, err := s.call(ctx, w, nil)
	if err != nil {
		return nil, err
	}
	sums := make([]uint64, r.count(n, 8))
	for i := range sums {
		sums[i] = r.u64()
	}
	return sums, r.end()
}

func (s distant) digests(ctx context.Context, ids []volume.ID) ([]digest, error) {
	w := s.ask(askDigests)
	w.ids(ids[:min(len(ids), digestsMax)])
	r, err := s.call(ctx, w, nil)
	if err != nil {
		return nil, err
	}
	all := make([]digest, r.count(len(ids), 17))
	for i := range all {
		all[i] = digest{known: r.bool(), meta: r.u64(), data: r.u64()}
	}
	if len(all) == 0 && len(ids) > 0 {
		r.bad = true
	}
	return all, r.end()
}

func (s distant) data(ctx context.Context, id volume.ID, off int64) (int64, error) {
	w := s.ask(askData)
	w.id(id)
	w.u64(uint64(off))
	r, err := s.call(ctx, w, nil)
	if err != nil {
		return 0, err
	}
	at := int64(r.u64())
	r.bad = r.bad || at < off
	return at, r.end()
}

func (s distant) read(ctx context.Context, id volume.ID, off int64, p []byte) (int, error) {
	w := s.ask(askRead)
	w.id(id)
	w.u64(uint64(off))
	w.u32(uint32(len(p)))
	r, err := s.call(ctx, w, nil)
	if err != nil {
		return 0, err
	}
	n := copy(p, r.bytes(len(p)))
	return n, r.end()
}

func (s distant) write(ctx context.Context, id volume.ID, off int64, p []byte) error {
	w := s.ask(askWrite)
	w.id(id)
	w.u64(uint64(off))
	return s.do(ctx, w, p)
}

func (s distant) zero(ctx context.Context, id volume.ID, off, n int64) error {
	w := s.ask(askZero)
	w.id(id)
	w.u64(uint64(off))
	w.u64(uint64(n))
	return s.do(ctx, w, nil)
}

func (s distant) discards(ctx context.Context, after volume.Key) ([]volume.Discarded, error) {
	w := s.ask(askDiscards)
	w.key(after)
	r, err := s.call(ctx, w, nil)
	if err != nil {
		return nil, err
	}
	all := make([]volume.Discarded, r.count(discardsMax, 11+16+4+pointerSize))
	for i := range all {
		all[i] = volume.Discarded{Key: r.key(), Dir: r.id(), Name: r.name(), Pointer: r.pointer()}
	}
	return all, r.end()
}

func (s distant) discard(ctx context.Context, dir volume.ID, name string, id volume.ID, k volume.Key, keep bool) error {
	w := s.ask(askDiscard)
	w.id(dir)
	w.text(name)
	w.id(id)
	w.key(k)
	w.bool(keep)
	return s.do(ctx, w, nil)
}

func (s distant) purge(ctx context.Context, k volume.Key, id volume.ID) error {
	w := s.ask(askPurge)
	w.key(k)
	w.id(id)
	return s.do(ctx, w, nil)
}

func (s distant) journal(ctx context.Context, n int) (int, uint64, error) {
	w := s.ask(askJournal)
	w.u64(uint64(n))
	r, err := s.call(ctx, w, nil)
	if err != nil {
		return 0, 0, err
	}
	records, sum := r.u64(), r.u64()
	r.bad = r.bad || records > 1<<40
	return int(records), sum, r.end()
}

func (s distant) setJournal(ctx context.Context, recs [][]byte, anew bool) error {
	w := s.ask(askSetJournal)
	w.bool(anew)
	var data []byte
	for _, rec := range recs {
		data = append(binary.LittleEndian.AppendUint32(data, uint32(len(rec))), rec...)
	}
	return s.do(ctx, w, data)
}

func (s distant) settle(ctx context.Context) error { return s.do(ctx, s.ask(askSettle), nil) }
