package dht

import (
	"context"
	"sync"
)

// book is the journal and what is numbered in it.
type book struct {
	sync.Mutex                      // held while a record is appended; before Owner.mu
	counter    uint32               // of this epoch
	open       map[partKey][][]byte // the records that a rewritten journal must have; set 0 for own intents
}

// note keeps what a rewritten journal must have.
func (b *book) note(rec *record, bytes []byte) {
	own, others := partKey{0, rec.number}, partKey{rec.from, rec.number}
	switch rec.kind {
	case recBegin, recCommit:
		b.open[own] = [][]byte{bytes}
	case recAbort, recFinished:
		b.open[own] = append(b.open[own], bytes)
	case recDone:
		delete(b.open, own)
	case recPart:
		b.open[others] = [][]byte{bytes}
	case recPartEnd:
		delete(b.open, others)
	}
}

// record appends to the journal. With a Request in ctx, which only the last
// record of an intent has, it decides that. After an error that is unsure the record
// may be there, for a later life to read.
func (o *Owner) record(ctx context.Context, rec *record) error {
	o.book.Lock()
	defer o.book.Unlock()
	return o.recordLocked(ctx, rec)
}

func (o *Owner) recordLocked(ctx context.Context, rec *record) error {
	bytes := rec.encode()
	if err := o.store.Journal().Append(ctx, bytes); err != nil {
		return err
	}
	o.book.note(rec, bytes)
	return nil
}

// belowNumber returns the number below which all intents are finished.
func (o *Owner) belowNumber() uint64 {
	o.book.Lock()
	defer o.book.Unlock()
	below := uint64(o.epoch)<<32 | uint64(o.book.counter) + 1
	o.mu.Lock()
	defer o.mu.Unlock()
	for n := range o.mu.active {
		below = min(below, n)
	}
	return below
}
