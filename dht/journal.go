package dht

import (
	"errors"

	"github.com/mortarfs/mortar/volume"
)

// recKind is a kind of journal record.
type recKind uint8

const (
	recEpoch    recKind = iota + 1 // a start: this epoch; earlier epochs reached these numbers
	recBegin                       // an intent of ours began
	recCommit                      // it is decided for: these actions
	recAbort                       // it is decided against, after all
	recFinished                    // all was carried out and its names are free; not yet durable elsewhere
	recDone                        // nothing of it is left anywhere
	recPart                        // another set's intent has these names and links here
	recPartEnd                     // it has no more
	recLast     = recPartEnd
)

// record is an entry of an Owner's journal. As bytes:
//
//	version 2 │ kind │ number │ by kind:
//	  epoch      boot (text) │ count, each: number (the highest of an epoch)
//	  begin, commit
//	             victim ID (the directory that is removed, or zero)
//	             │ count of names of this set, each: dir, name │ commit action
//	             │ count of links │ actions (links, then the rest)
//	             │ flags: bit 0 request follows, 1 made │ [request: session 16 bytes, number]
//	  part       from │ dying ID │ count, each: dir, name │ actions
//	  part end   from
//
// number is the epoch (upper 32 bits) and a counter; of an epoch record the
// epoch alone. Version 1, which is still read, had no flags and no request. A record of an intent with many names stays far below
// volume.JournalRecordMax.
type record struct {
	kind    recKind
	number  uint64
	victim  volume.ID
	commit  action
	links   int
	actions []action
	from    volume.SetID
	dying   volume.ID
	names   []nameKey
	boot    string
	reached []uint64
	request volume.Request
	made    bool
}

const (
	recordVersion = 2

	namesMax   = 8  // names of one intent at one set
	reachedMax = 64 // epochs remembered
	bootMax    = 64 // bytes of a boot's name
)

func (rec *record) encode() []byte {
	w := writer{make([]byte, 0, 64+160*len(rec.actions))}
	w.b = append(w.b, recordVersion, byte(rec.kind))
	w.u(rec.number)
	switch rec.kind {
	case recEpoch:
		w.text(rec.boot)
		w.u(uint64(len(rec.reached)))
		for _, n := range rec.reached {
			w.u(n)
		}
	case recBegin, recCommit:
		w.id(rec.victim)
		w.keys(rec.names)
		w.action(rec.commit)
		w.u(uint64(rec.links))
		w.actions(rec.actions)
		w.request(rec.request, rec.made)
	case recPart:
		w.u(uint64(rec.from))
		w.id(rec.dying)
		w.keys(rec.names)
		w.actions(rec.actions)
	case recPartEnd:
		w.u(uint64(rec.from))
	}
	return w.b
}

func decodeRecord(b []byte) (record, error) {
	if len(b) > volume.JournalRecordMax {
		return record{}, errors.New("a record is too long")
	}
	if len(b) < 2 || b[0] < 1 || b[0] > recordVersion || b[1] == 0 || recKind(b[1]) > recLast {
		return record{}, errors.New("not a record that this version knows")
	}
	r := reader{b: b[2:]}
	rec := record{kind: recKind(b[1]), number: r.u64()}
	switch rec.kind {
	case recEpoch:
		rec.boot = r.text(bootMax)
		for range r.u(reachedMax) {
			rec.reached = append(rec.reached, r.u64())
		}
	case recBegin, recCommit:
		rec.victim = r.id()
		rec.names = r.keys()
		rec.commit = r.action()
		rec.links = int(r.u(actionsMax))
		rec.actions = r.actions()
		if b[0] >= 2 {
			rec.request, rec.made = r.request()
		}
		if rec.links > len(rec.actions) {
			r.fail("%d links in %d actions", rec.links, len(rec.actions))
		}
	case recPart:
		rec.from, rec.dying = r.set(), r.id()
		rec.names = r.keys()
		rec.actions = r.actions()
	case recPartEnd:
		rec.from = r.set()
	}
	return rec, r.end()
}

func (w *writer) request(r volume.Request, made bool) {
	var flags uint64
	if r != (volume.Request{}) {
		flags |= 1
	}
	if made {
		flags |= 2
	}
	w.u(flags)
	if flags&1 != 0 {
		w.b = append(w.b, r.Session[:]...)
		w.u(r.Number)
	}
}

func (r *reader) request() (req volume.Request, made bool) {
	flags := r.u(3)
	if flags&1 != 0 {
		copy(req.Session[:], r.bytes(uint64(len(req.Session))))
		req.Number = r.u64()
	}
	return req, flags&2 != 0
}
