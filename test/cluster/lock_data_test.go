package cluster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Data follow locks, however they are written, though mounts delay writes (performance.write-behind is on).
func TestLocksData(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("v", 3)
	a, b := s.Mount("v"), s.Mount("v")
	t.Run("mapped", func(t *testing.T) {
		t.Parallel()
		takeTurns(t, a, b, "mapped", 100, incrementMapped)
		var count [8]byte
		if n, err := unix.Pread(openIn(t, filepath.Join(b, "mapped")), count[:], 0); n != 8 || err != nil || binary.NativeEndian.Uint64(count[:]) != 400 {
			t.Errorf("counted %d (%d, %v), want 400", binary.NativeEndian.Uint64(count[:]), n, err)
		}
	})
	t.Run("appended", func(t *testing.T) {
		t.Parallel()
		var written atomic.Uint32
		takeTurns(t, a, b, "appended", 50, func(fd int) error { return appendRecord(fd, &written) })
	})
	t.Run("closed", func(t *testing.T) {
		t.Parallel()
		closeGivesData(t, a, b)
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		shareDatabase(t, "db", "delete", "normal", a, b)
	})
	t.Run("sqlite, WAL on one mount", func(t *testing.T) {
		t.Parallel()
		shareDatabase(t, "wal", "wal", "normal", a, a)
	})
	t.Run("sqlite, WAL in turns", func(t *testing.T) {
		t.Parallel()
		shareDatabase(t, "turns", "wal", "exclusive", a, b)
	})
}

// takeTurns has four descriptors, two a mount, change a file under locks.
func takeTurns(t *testing.T, a, b, name string, rounds int, turn func(fd int) error) {
	t.Helper()
	var all sync.WaitGroup
	for who := range 4 {
		fd, err := unix.Open(filepath.Join([]string{a, b}[who%2], name), unix.O_RDWR|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		all.Go(func() {
			for range rounds {
				if err := lockFile(fd, "ofd", unix.F_WRLCK, true); err != nil {
					t.Error(err)
					return
				}
				err := turn(fd)
				if e := lockFile(fd, "ofd", unix.F_UNLCK, false); err != nil || e != nil {
					t.Error(err, e)
					return
				}
			}
		})
	}
	all.Wait()
}

// incrementMapped adds to the number that a file begins with, through a mapping.
func incrementMapped(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Size == 0 {
		if err := unix.Ftruncate(fd, 8); err != nil {
			return err
		}
	}
	m, err := unix.Mmap(fd, 0, 8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	binary.NativeEndian.PutUint64(m, binary.NativeEndian.Uint64(m)+1)
	return unix.Munmap(m)
}

// recordSize is that of a page: one that the kernel has put into the wrong place looks whole to it.
const recordSize = 4096

// appendRecord appends a record without a look at where the file ends, and reads all: no record is there twice,
// or in parts, and none that was there before is missing.
func appendRecord(fd int, written *atomic.Uint32) error {
	own := written.Add(1)
	if _, err := unix.Write(fd, bytes.Repeat(binary.NativeEndian.AppendUint32(nil, own), recordSize/4)); err != nil {
		return err
	}
	for n := uint32(1); n <= own; n++ {
		b := make([]byte, recordSize)
		got, err := unix.Pread(fd, b, int64(n-1)*recordSize)
		if err != nil {
			return err
		}
		if want := bytes.Repeat(binary.NativeEndian.AppendUint32(nil, n), recordSize/4); got < recordSize || !bytes.Equal(b, want) {
			return fmt.Errorf("record %d of %d begins %x (%d bytes)", n, own, b[:4], got)
		}
	}
	return nil
}

// closeGivesData: what was written to a mapping by one descriptor is there for whoever gets the lock that was held by
// another one, of whose closing the kernel tells nothing but its end.
func closeGivesData(t *testing.T, a, b string) {
	path := filepath.Join(a, "closed")
	if err := os.WriteFile(path, make([]byte, 8), 0o644); err != nil {
		t.Fatal(err)
	}
	lock, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) // before there was any
	if err != nil {
		t.Fatal(err)
	}
	if err := lockFile(lock, "flock", unix.F_WRLCK, true); err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(openIn(t, path), 0, 8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(m) }()
	copy(m, "mapped")
	if err := unix.Close(lock); err != nil {
		t.Fatal(err)
	}
	fd := openIn(t, filepath.Join(b, "closed"))
	if err := lockFile(fd, "flock", unix.F_RDLCK, true); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 6)
	if _, err := unix.Pread(fd, got, 0); err != nil || string(got) != "mapped" {
		t.Errorf("%q, %v", got, err)
	}
}

// shareDatabase has SQLite write to one database from two mounts. (With a WAL that has to be one mount, or each process
// in its turn has the database for itself: else the WAL's index is a shared mapping, of which processes write parts at the same
// time, under different locks.)
func shareDatabase(t *testing.T, name, journal, locking, a, b string) {
	const processes, transactions = 2, 25
	sqlite := func(dir, script string) (string, error) {
		out, err := exec.Command("sqlite3", "-bail", "-cmd", ".timeout 60000", filepath.Join(dir, name), "pragma locking_mode = "+locking+"; "+script).CombinedOutput()
		said, _ := strings.CutPrefix(string(out), locking)
		return strings.TrimSpace(said), err
	}
	if out, err := sqlite(a, "pragma journal_mode = "+journal+"; create table t (who int, n int); create table sum (n int); insert into sum values (0);"); err != nil || out != journal {
		t.Fatal(err, out)
	}
	var all sync.WaitGroup
	for who := range 2 * processes {
		all.Go(func() {
			var script strings.Builder
			for n := range transactions {
				fmt.Fprintf(&script, "begin immediate; insert into t values (%d, %d); update sum set n = n + 1; commit;\n", who, n)
			}
			if out, err := sqlite([]string{a, b}[who%2], script.String()); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
		if locking == "exclusive" {
			all.Wait()
		}
	}
	all.Wait()
	want := fmt.Sprintf("ok\n%d|%d", 2*processes*transactions, 2*processes*transactions)
	for _, dir := range []string{a, b} {
		if out, err := sqlite(dir, "pragma integrity_check; select (select count(*) from t), n from sum;"); err != nil || out != want {
			t.Errorf("%v: %q, want %q", err, out, want)
		}
	}
}
