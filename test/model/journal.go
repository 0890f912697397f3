package model

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// recordOverhead is what Size counts for a record beyond its bytes.
const recordOverhead = 8

// journal is a volume.Journal in memory.
type journal struct {
	mu struct {
		sync.Mutex
		records [][]byte
		synced  int // that many survive a power loss
	}
}

// Append implements volume.Journal.
func (j *journal) Append(_ context.Context, rec []byte) error {
	if len(rec) == 0 || len(rec) > volume.JournalRecordMax {
		return fail("journal", strconv.Itoa(len(rec))+" bytes", syscall.EINVAL)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.records = append(j.mu.records, bytes.Clone(rec))
	return nil
}

// Sync implements volume.Journal.
func (j *journal) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return &volume.Error{Op: "journal", Errno: volume.ErrnoOf(err), Err: err}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.synced = len(j.mu.records)
	return nil
}

// Replay implements volume.Journal.
func (j *journal) Replay(f func(rec []byte) error) error {
	j.mu.Lock()
	records := j.mu.records[:len(j.mu.records):len(j.mu.records)]
	j.mu.Unlock()
	for _, rec := range records {
		if err := f(bytes.Clone(rec)); err != nil {
			return err
		}
	}
	return nil
}

// Rewrite implements volume.Journal.
func (j *journal) Rewrite(recs [][]byte) error {
	kept := make([][]byte, len(recs))
	for i, rec := range recs {
		if len(rec) == 0 || len(rec) > volume.JournalRecordMax {
			return fail("journal", strconv.Itoa(len(rec))+" bytes", syscall.EINVAL)
		}
		kept[i] = bytes.Clone(rec)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.records, j.mu.synced = kept, len(kept)
	return nil
}

// Size implements volume.Journal.
func (j *journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	var n int64
	for _, rec := range j.mu.records {
		n += int64(len(rec)) + recordOverhead
	}
	return n
}

// powerLoss forgets a random suffix of what was not synced.
func (j *journal) powerLoss(rng *rand.Rand) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := j.mu.synced + rng.IntN(len(j.mu.records)-j.mu.synced+1)
	j.mu.records, j.mu.synced = j.mu.records[:n:n], n
}
