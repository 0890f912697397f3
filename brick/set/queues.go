package set

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mortarfs/mortar/brick/set/oplog"
)

// The queues of absent members, as the ledger keeps them: what each of them may lack.

// queueOf opens the queue of an absent member. If there is none, nobody knows in what it differs.
func (l *ledger) queueOf(id string) (*oplog.KeySet, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.openLocked(id, false)
}

func (l *ledger) openLocked(id string, anew bool) (*oplog.KeySet, error) {
	if strings.ContainsAny(id, "/\x00") || id == "" {
		return nil, malformed("member's ID")
	}
	q := l.mu.queues[id]
	if q != nil && anew {
		q.Remove(oplog.Full)
		return q, nil
	}
	if q != nil {
		return q, nil
	}
	opt := oplog.SetOptions{}
	if !anew { // of a member without a queue nobody knows in what it differs
		opt.Begin = []Key{oplog.Full}
	}
	q, err := oplog.OpenKeySet(l.dir, queuePrefix+id, opt)
	if err != nil {
		return nil, err
	}
	l.mu.queues[id] = q
	if anew {
		q.Remove(oplog.Full)
	}
	return q, nil
}

// setAbsent has changes go into the queues of these members from now on.
func (l *ledger) setAbsent(ids []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*oplog.KeySet
	for _, id := range ids {
		if id == l.self {
			continue
		}
		q, err := l.openLocked(id, false)
		if err != nil {
			return err
		}
		list = append(list, q)
	}
	l.absent.Store(&list)
	return nil
}

// begin makes a member's queue anew, with these keys.
func (l *ledger) begin(ctx context.Context, id string, keys []Key) error {
	l.mu.Lock()
	q, err := l.openLocked(id, true)
	l.mu.Unlock()
	if err != nil || id == l.self {
		return err
	}
	q.Add(keys...)
	return q.SyncAll(ctx)
}

// queued adds keys to a member's queue, durably.
func (l *ledger) queued(ctx context.Context, id string, keys []Key) error {
	if id == l.self {
		return nil
	}
	q, err := l.queueOf(id)
	if err != nil {
		return err
	}
	q.Add(keys...)
	return q.SyncAll(ctx)
}

// queue returns the keys of a member's queue.
func (l *ledger) queue(id string) ([]Key, error) {
	q, err := l.queueOf(id)
	if err != nil {
		return nil, err
	}
	return q.Keys(), nil
}

// keepQueues has changes go into these members' queues, and deletes all others.
func (l *ledger) keepQueues(ids []string) error {
	if err := l.setAbsent(ids); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, q := range maps.Clone(l.mu.queues) {
		if !slices.Contains(ids, id) {
			delete(l.mu.queues, id)
			if err := q.Delete(); err != nil {
				return err
			}
		}
	}
	names, err := filepath.Glob(filepath.Join(l.dir, queuePrefix+"*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		id, _, _ := strings.Cut(filepath.Base(name)[len(queuePrefix):], ".")
		if l.mu.queues[id] == nil {
			if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
	}
	return nil
}

func (l *ledger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := errors.Join(l.log.Close(), l.dirty.Close())
	for _, q := range l.mu.queues {
		if e := q.Close(); err == nil {
			err = e
		}
	}
	return err
}
