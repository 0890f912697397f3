package set

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// side is a member as heal sees it: what it needs of a volume.Member, in calls
// that are one round trip each. near is a member in this process, distant one
// over the wire. All may be repeated; errors are Member's.
type side interface {
	// look tells what name in dir leads to and whether id is here. A zero id is not looked for.
	look(ctx context.Context, dir volume.ID, name string, id volume.ID) (sight, error)

	// describe is Member's, but of a directory that is only a discard: ESTALE.
	describe(ctx context.Context, id volume.ID) (volume.Object, error)
	install(ctx context.Context, o volume.Object) error

	// bear installs an object with data as its contents (up to birthMax bytes;
	// what is zero stays a hole) and places it, unless name is "". It is not here before, or
	// as an earlier bear left it.
	bear(ctx context.Context, o volume.Object, data []byte, dir volume.ID, name string) error

	place(ctx context.Context, dir volume.ID, name string, p volume.Pointer) error
	path(ctx context.Context, dir volume.ID) (volume.ID, string, error)
	list(ctx context.Context, dir volume.ID, after volume.Cookie, max int) ([]volume.Entry, bool, error)

	// nameless lists up to namelessMax nameless objects above after, in order of ID.
	nameless(ctx context.Context, after volume.ID) ([]volume.ID, error)
	release(ctx context.Context, id volume.ID) error

	sums(ctx context.Context, id volume.ID, first int64, n, size int) ([]uint64, error)

	// digests tells of up to digestsMax objects what they are, in numbers; of a
	// prefix of ids, at least of the first.
	digests(ctx context.Context, ids []volume.ID) ([]digest, error)

	// data returns where data begins from off on, the size or more if there is none.
	data(ctx context.Context, id volume.ID, off int64) (int64, error)
	read(ctx context.Context, id volume.ID, off int64, p []byte) (int, error)
	write(ctx context.Context, id volume.ID, off int64, p []byte) error
	// zero makes a range a hole; the size stays.
	zero(ctx context.Context, id volume.ID, off, n int64) error

	// discards lists up to discardsMax discards whose keys are above after.
	discards(ctx context.Context, after volume.Key) ([]volume.Discarded, error)
	// discard is Member's; with keep what loses its last name is held, as if it were open.
	discard(ctx context.Context, dir volume.ID, name string, id volume.ID, k volume.Key, keep bool) error
	// purge is Member's; id is the object's, zero for a pointer.
	purge(ctx context.Context, k volume.Key, id volume.ID) error

	// journal tells how many records the journal has, and a hash of the first n of them.
	journal(ctx context.Context, n int) (records int, sum uint64, err error)
	// setJournal appends records of up to volume.IOMax bytes in all; with anew they replace all that is there.
	setJournal(ctx context.Context, recs [][]byte, anew bool) error

	// settle makes everything durable.
	settle(ctx context.Context) error
}

// Limits of a call of a side.
const (
	birthMax    = 256 << 10 // bytes of contents that bear takes
	objectMax   = 512 << 10 // bytes of an encoded object
	sumsMax     = 4096
	digestsMax  = 64
	digestBytes = 1 << 20 // contents that a digest includes; those of larger files are compared by their sums
	namelessMax = 1 << 14
	discardsMax = 1 << 11
	listMax     = 1024
)

// sight is what look sees.
type sight struct {
	dir      bool           // the directory is here
	entry    volume.Pointer // what the name leads to; zero: nothing
	damaged  bool           // or that can't be told
	known    bool           // the object is here
	nameless bool           // and has no name: never of a directory
}

// near is a member in this process.
type near struct {
	m      volume.Member
	files  *files // what is open for changes; nil: each call opens for itself
	noting noting // nil: a settle makes durable what is changed
}

// noting writes down, durably, what is about to be changed and may be lost with the power; end must be called when it is.
type noting func(ctx context.Context, keys ...Key) (end func(), err error)

// changing carries out a change.
func (s near) changing(ctx context.Context, f func() error, keys ...Key) error {
	if s.noting == nil {
		return f()
	}
	end, err := s.noting(ctx, keys...)
	if err != nil {
		return err
	}
	defer end()
	return f()
}

// objectKeys are the keys of an object as a whole, but for its names.
func objectKeys(id volume.ID) []Key {
	return []Key{{Kind: ObjectKey, ID: id}, {Kind: ExtentKey, ID: id}}
}

var _ side = near{}

// open opens a file to be changed; done must be called.
func (s near) open(ctx context.Context, id volume.ID) (f volume.File, done func(), err error) {
	if s.files == nil {
		f, err = s.m.Open(hidden(ctx), id, volume.Write)
		if err != nil {
			return nil, nil, err
		}
		return f, func() { _ = f.Close() }, nil
	}
	o, err := s.files.get(hidden(ctx), s.m, id)
	if err != nil {
		return nil, nil, err
	}
	return o, func() { s.files.put(o) }, nil
}

// without carries out what may end an object: open, it would be kept for this side's sake alone.
func (s near) without(id volume.ID, f func() error) error {
	if s.files == nil {
		return f()
	}
	return s.files.without(id, f)
}

func (s near) look(ctx context.Context, dir volume.ID, name string, id volume.ID) (v sight, err error) {
	a, err := s.m.Lookup(ctx, dir, name)
	switch errno := volume.ErrnoOf(err); {
	case err == nil:
		v.dir, v.entry = true, pointerOf(a)
	case errno == syscall.ENOENT:
		v.dir = true
	case errno == syscall.ESTALE, errno == syscall.ENOTDIR:
	case volume.ReasonOf(err) == volume.Damaged:
		v.dir, v.damaged = true, true
	default:
		return v, err
	}
	if id.IsZero() {
		return v, nil
	}
	o, err := s.describe(ctx, id)
	if err != nil {
		if isStale(err) {
			err = nil
		}
		return v, err
	}
	v.known, v.nameless = true, !o.Attr.IsDir() && o.Attr.Nlink == 0
	return v, nil
}

// hidden returns a context in which Open opens what has no name, discards too.
func hidden(ctx context.Context) context.Context {
	return volume.WithFixed(ctx, volume.Fixed{Keep: true})
}

// pointerOf returns what a name leads to of which Lookup says a.
func pointerOf(a volume.Attr) volume.Pointer {
	return volume.Pointer{ID: a.ID, Mode: a.Type(), Held: a.Held}
}

// describe is Describe but for directories that are discards, which can't be placed.
func (s near) describe(ctx context.Context, id volume.ID) (volume.Object, error) {
	o, err := s.m.Describe(ctx, id)
	if err == nil && o.Attr.IsDir() && id != volume.Root {
		if _, _, e := s.m.Path(ctx, id); isStale(e) {
			return volume.Object{}, e
		}
	}
	return o, err
}

func (s near) install(ctx context.Context, o volume.Object) error {
	return s.changing(ctx, func() error { return s.m.Install(ctx, o) }, objectKeys(o.Attr.ID)...)
}

func (s near) bear(ctx context.Context, o volume.Object, data []byte, dir volume.ID, name string) error {
	keys := objectKeys(o.Attr.ID)
	if name != "" {
		keys = append(keys, Key{Kind: EntryKey, ID: dir, Name: name})
	}
	return s.changing(ctx, func() error { return s.born(ctx, o, data, dir, name) }, keys...)
}

func (s near) born(ctx context.Context, o volume.Object, data []byte, dir volume.ID, name string) error {
	if err := s.m.Install(ctx, o); err != nil {
		return err
	}
	if len(data) > 0 {
		if err := s.fill(ctx, o.Attr.ID, data); err != nil {
			return err
		}
		if err := s.m.Install(ctx, o); err != nil { // for the times
			return err
		}
	}
	if name == "" {
		return nil
	}
	return s.m.Place(ctx, dir, name, pointerOf(o.Attr))
}

// page is the unit in which zeros in contents are looked for, in bytes.
const page = 4096

var zeroPage [page]byte

// fill writes what of data is not zero.
func (s near) fill(ctx context.Context, id volume.ID, data []byte) error {
	f, done, err := s.open(ctx, id)
	if err != nil {
		return err
	}
	defer done()
	for off := 0; off < len(data); {
		end := off
		for end < len(data) {
			p := data[end:min(end+page, len(data))]
			if bytes.Equal(p, zeroPage[:len(p)]) {
				break
			}
			end += len(p)
		}
		if end > off {
			if _, err := f.WriteAt(ctx, data[off:end], int64(off), 0); err != nil {
				return err
			}
		}
		off = min(end+page, len(data))
	}
	return nil
}

func (s near) place(ctx context.Context, dir volume.ID, name string, p volume.Pointer) error {
	return s.changing(ctx, func() error { return s.m.Place(ctx, dir, name, p) }, Key{Kind: EntryKey, ID: dir, Name: name})
}

func (s near) path(ctx context.Context, dir volume.ID) (volume.ID, string, error) {
	return s.m.Path(ctx, dir)
}

func (s near) list(ctx context.Context, dir volume.ID, after volume.Cookie, max int) ([]volume.Entry, bool, error) {
	return s.m.List(ctx, dir, after, max, false, func(string) bool { return true })
}

func (s near) nameless(ctx context.Context, after volume.ID) ([]volume.ID, error) {
	ids, err := s.m.Nameless(ctx)
	if err != nil {
		return nil, err
	}
	ids = slices.DeleteFunc(ids, func(id volume.ID) bool { return bytes.Compare(id[:], after[:]) <= 0 })
	slices.SortFunc(ids, func(a, b volume.ID) int { return bytes.Compare(a[:], b[:]) })
	return ids[:min(len(ids), namelessMax)], nil
}

func (s near) release(ctx context.Context, id volume.ID) error {
	release := func() error { return s.m.Release(ctx, id) }
	return s.changing(ctx, func() error { return s.without(id, release) }, Key{Kind: ObjectKey, ID: id})
}

func (s near) sums(ctx context.Context, id volume.ID, first int64, n, size int) ([]uint64, error) {
	return s.m.Sums(ctx, id, first, n, size)
}

func (s near) data(ctx context.Context, id volume.ID, off int64) (int64, error) {
	f, err := s.m.Open(hidden(ctx), id, volume.Read|volume.NoAtime)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	at, err := f.Seek(ctx, off, volume.SeekData)
	if volume.ErrnoOf(err) == syscall.ENXIO {
		return 1<<63 - 1, nil
	}
	return at, err
}

func (s near) read(ctx context.Context, id volume.ID, off int64, p []byte) (int, error) {
	f, err := s.m.Open(hidden(ctx), id, volume.Read|volume.NoAtime)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.ReadAt(ctx, p, off)
}

func (s near) write(ctx context.Context, id volume.ID, off int64, p []byte) error {
	f, done, err := s.open(ctx, id)
	if err != nil {
		return err
	}
	defer done()
	write := func() error { _, err := f.WriteAt(ctx, p, off, 0); return err }
	return s.changing(ctx, write, objectKeys(id)...)
}

func (s near) zero(ctx context.Context, id volume.ID, off, n int64) error {
	f, done, err := s.open(ctx, id)
	if err != nil {
		return err
	}
	defer done()
	punch := func() error { return f.Allocate(ctx, volume.AllocPunchHole|volume.AllocKeepSize, off, n) }
	return s.changing(ctx, punch, objectKeys(id)...)
}

func (s near) discards(ctx context.Context, after volume.Key) ([]volume.Discarded, error) {
	all, err := s.m.Discards(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(d volume.Discarded) bool { return compareKeys(d.Key, after) <= 0 })
	slices.SortFunc(all, func(a, b volume.Discarded) int { return compareKeys(a.Key, b.Key) })
	return all[:min(len(all), discardsMax)], nil
}

// compareKeys orders the keys of discards.
func compareKeys(a, b volume.Key) int {
	k := func(k volume.Key) []byte {
		b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(nil, uint16(k.Set)), k.Intent)
		return append(b, k.Part)
	}
	return bytes.Compare(k(a), k(b))
}

func (s near) discard(ctx context.Context, dir volume.ID, name string, id volume.ID, k volume.Key, keep bool) error {
	if keep {
		ctx = volume.WithFixed(ctx, volume.Fixed{Now: volume.TimeOf(time.Now()), Keep: true})
	}
	return s.changing(ctx, func() error { return s.m.Discard(ctx, dir, name, id, k) }, Key{Kind: EntryKey, ID: dir, Name: name}, Key{Kind: ObjectKey, ID: id})
}

func (s near) purge(ctx context.Context, k volume.Key, id volume.ID) error {
	purge := func() error { return s.m.Purge(ctx, k) }
	return s.changing(ctx, func() error { return s.without(id, purge) }, Key{Kind: ObjectKey, ID: id})
}

// settle closes files too, since it comes last: what went while it was open here goes then.
func (s near) settle(ctx context.Context) error {
	if s.files != nil {
		s.files.close()
	}
	return s.m.Settle(ctx)
}

func (s near) journal(_ context.Context, n int) (records int, sum uint64, err error) {
	h := sha256.New()
	err = s.m.Journal().Replay(func(rec []byte) error {
		if records < n {
			h.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(rec))))
			h.Write(rec)
		}
		records++
		return nil
	})
	return records, binary.LittleEndian.Uint64(h.Sum(nil)), err
}

func (s near) setJournal(ctx context.Context, recs [][]byte, anew bool) error {
	j := s.m.Journal()
	return s.changing(ctx, func() error {
		if anew {
			return j.Rewrite(recs)
		}
		for _, rec := range recs {
			if err := j.Append(ctx, rec); err != nil {
				return err
			}
		}
		return nil
	}, Key{Kind: JournalKey})
}
