package brick

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume"
)

// Lock implements volume.File. Locks of a brick that is served are its server's; these
// hold between those who use the Store directly.
func (h *file) Lock(ctx context.Context, l volume.Lock, wait bool) error {
	if err := start(ctx, "lock"); err != nil {
		return err
	}
	if wait {
		return h.s.locks.Wait(ctx, h.o.id, l)
	}
	return h.s.locks.Set(h.o.id, l)
}

// TestLock implements volume.File.
func (h *file) TestLock(ctx context.Context, l volume.Lock) (volume.Lock, error) {
	if err := start(ctx, "test lock"); err != nil {
		return volume.Lock{}, err
	}
	return h.s.locks.Test(h.o.id, l)
}

// The sessions that may hold locks are kept in BRICK/.mortar/lockers, so that the
// brick's next process knows who may declare his again, and for whom it has to wait. It is a
// text file (version 1); the last line is the CRC-32C of all bytes before it:
//
//	mortar-lockers 1
//	5c1be6f2a09d4d7f8a1b2c3d4e5f6071     session, a line each
//	crc32c 8c1f02ab
const lockersFile = volume.Reserved + "/lockers"

// LockersMax bounds the sessions in the file.
const LockersMax = 4096

func encodeLockers(sessions [][16]byte) []byte {
	b := []byte("mortar-lockers 1\n")
	for _, id := range sessions {
		b = append(hex.AppendEncode(b, id[:]), '\n')
	}
	return fmt.Appendf(b, "crc32c %08x\n", crc32.Checksum(b, castagnoli))
}

// Lockers returns the sessions that were kept last; none if nothing was kept, and
// EINVAL if the file is not what KeepLockers writes.
func (s *Store) Lockers() ([][16]byte, error) {
	const op = "read who may hold locks"
	b, err := os.ReadFile(filepath.Join(s.path, lockersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &volume.Error{Op: op, Where: s.path, Errno: volume.ErrnoOf(err), Err: err}
	}
	lines := strings.Split(string(b), "\n")
	var sessions [][16]byte
	for _, line := range lines[1:max(len(lines)-2, 1)] {
		var id [16]byte
		if len(line) == 2*len(id) {
			_, err = hex.Decode(id[:], []byte(line))
		}
		sessions = append(sessions, id)
	}
	if err != nil || len(sessions) > LockersMax || string(encodeLockers(sessions)) != string(b) {
		return nil, volume.Errorf(op, s.path, unix.EINVAL, "%s is truncated or was changed", filepath.Join(s.path, lockersFile))
	}
	return sessions, nil
}

// KeepLockers records, durably, which sessions may hold locks, at most LockersMax. It is
// for one goroutine at a time.
func (s *Store) KeepLockers(sessions [][16]byte) error {
	if len(sessions) > LockersMax {
		return volume.Errorf("note who may hold locks", s.path, unix.ENOLCK, "%d sessions", len(sessions))
	}
	if err := replaceFile(s.sys, s.rootFD, lockersFile, volume.Reserved+"/"+tmpDir+"/lockers", encodeLockers(sessions)); err != nil {
		return &volume.Error{Op: "note who may hold locks", Where: s.path, Errno: volume.ErrnoOf(err), Err: err}
	}
	return nil
}

// LockerRecord is server.Lockers of a brick that is a set of its own.
type LockerRecord struct {
	s  *Store
	mu struct {
		sync.Mutex
		ids map[[16]byte]bool
	}
}

// NewLockerRecord returns the record of who may hold locks. Of one that can't be read
// it knows nothing, and returns the error beside.
func (s *Store) NewLockerRecord() (*LockerRecord, error) {
	r := &LockerRecord{s: s}
	r.mu.ids = map[[16]byte]bool{}
	ids, err := s.Lockers()
	for _, id := range ids {
		r.mu.ids[id] = true
	}
	return r, err
}

// Lockers lists the sessions.
func (r *LockerRecord) Lockers() ([][16]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.mu.ids)), nil
}

// AddLocker records a session, durably.
func (r *LockerRecord) AddLocker(ctx context.Context, id [16]byte) error { return r.set(ctx, id, true) }

// RemoveLocker removes a session, durably.
func (r *LockerRecord) RemoveLocker(ctx context.Context, id [16]byte) error {
	return r.set(ctx, id, false)
}

func (r *LockerRecord) set(ctx context.Context, id [16]byte, in bool) error {
	if err := start(ctx, "note who may hold locks"); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := maps.Clone(r.mu.ids)
	if in {
		ids[id] = true
	} else {
		delete(ids, id)
	}
	if len(ids) == len(r.mu.ids) {
		return nil
	}
	err := r.s.KeepLockers(slices.Collect(maps.Keys(ids)))
	if err == nil {
		r.mu.ids = ids
	}
	return err
}
