package brick

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

func records(t testing.TB, j volume.Journal) (recs []string) {
	t.Helper()
	check(t, j.Replay(func(r []byte) error { recs = append(recs, string(r)); return nil }))
	return recs
}

func TestJournal(t *testing.T) {
	path := newBrick(t)
	s := openBrick(t, path, Options{})
	j := s.Journal()
	big := string(bytes.Repeat([]byte("x"), volume.JournalRecordMax))
	want := []string{"one", big, "two"}
	for _, r := range want {
		check(t, j.Append(t.Context(), []byte(r)))
	}
	wants(t, j.Append(t.Context(), nil), unix.EINVAL)
	wants(t, j.Append(t.Context(), make([]byte, volume.JournalRecordMax+1)), unix.EINVAL)
	check(t, j.Sync(ctx))
	if got := records(t, j); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%d records", len(got))
	}
	s.Close()
	// Every truncation leaves a prefix, and the next record follows it.
	file := filepath.Join(path, volume.Reserved, logDir, journalFile)
	whole, err := os.ReadFile(file)
	check(t, err)
	for _, n := range []int{0, 5, journalHeader, journalHeader + 3, journalHeader + 11, len(whole) - 1, len(whole) - 5} {
		check(t, os.WriteFile(file, whole[:n], 0o600))
		s := openBrick(t, path, Options{})
		before := len(records(t, s.Journal()))
		check(t, s.Journal().Append(t.Context(), []byte("next")))
		got := records(t, s.Journal())
		if len(got) != before+1 || got[before] != "next" || before == 3 {
			t.Errorf("cut at %d: %d records, then %d", n, before, len(got))
		}
		check(t, s.Journal().Rewrite([][]byte{[]byte("a"), []byte("b")}))
		check(t, s.Journal().Append(t.Context(), []byte("c")))
		if got := records(t, s.Journal()); fmt.Sprint(got) != "[a b c]" {
			t.Errorf("rewritten: %q", got)
		}
		info, err := os.Stat(file)
		check(t, err)
		if info.Size() != s.Journal().Size() {
			t.Errorf("size %d, file %d", s.Journal().Size(), info.Size())
		}
		s.Close()
	}
	whole[len(journalMagic)] = 2
	check(t, os.WriteFile(file, whole, 0o600))
	if _, err := Open(path, Options{}); err == nil {
		t.Error("a journal of another version was opened")
	}
}

func FuzzJournal(f *testing.F) {
	f.Add(appendRecord(appendRecord(nil, []byte("one")), []byte("two")))
	f.Add([]byte{255, 255, 255, 255, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			rec, size, more := nextRecord(b)
			if rec == nil {
				return
			}
			if more || len(rec) > volume.JournalRecordMax || size > len(b) || !bytes.Equal(appendRecord(nil, rec), b[:size]) {
				t.Fatalf("%x was taken for %x", b, rec)
			}
			b = b[size:]
		}
	})
}

// TestJournalFails: what could not be written leaves no torn record between
// others, and a failed sync is never taken back.
func TestJournalFails(t *testing.T) {
	f := &sys.Faulty{Sys: sys.Real{}}
	told := 0
	s := openBrick(t, newBrick(t), Options{sys: f, Unhealthy: func(error) { told++ }})
	j := s.Journal()
	check(t, j.Append(t.Context(), []byte("one")))
	f.Fail(1, unix.ENOSPC)
	wants(t, j.Append(t.Context(), []byte("lost")), unix.ENOSPC)
	check(t, j.Append(t.Context(), []byte("two")))
	if got := records(t, j); fmt.Sprint(got) != "[one two]" {
		t.Errorf("%q", got)
	}
	f.Fail(1, unix.EIO)
	wants(t, j.Sync(ctx), unix.EIO)
	wants(t, j.Sync(ctx), unix.EIO)
	wants(t, j.Append(t.Context(), []byte("three")), unix.EIO)
	wants(t, s.Settle(ctx), unix.EIO)
	if s.Unhealthy() == nil || told != 1 {
		t.Errorf("unhealthy: %v, told %d times", s.Unhealthy(), told)
	}
}

func TestSyncFails(t *testing.T) {
	f := &sys.Faulty{Sys: sys.Real{}}
	s := openBrick(t, newBrick(t), Options{sys: f})
	a, b := create(t, s, volume.Root, "a", "x"), create(t, s, volume.Root, "b", "x")
	ha, err := s.Open(ctx, a, volume.Write)
	check(t, err)
	hb, err := s.Open(ctx, b, volume.Write|volume.DataSync)
	check(t, err)
	check(t, ha.Sync(ctx, true))
	f.Fail(1, unix.EIO)
	wants(t, ha.Sync(ctx, false), unix.EIO)
	wants(t, ha.Sync(ctx, false), unix.EIO)
	check(t, ha.Close())
	wants(t, s.Sync(ctx, a), unix.EIO)
	check(t, hb.Sync(ctx, false))
	f.Fail(1, unix.EIO)
	_, err = hb.WriteAt(ctx, []byte("y"), 0, 0)
	wants(t, err, unix.EIO)
	_, err = hb.WriteAt(ctx, []byte("y"), 0, 0)
	wants(t, err, unix.EIO)
	check(t, hb.Close())
	if s.Unhealthy() == nil {
		t.Error("it thinks that it is well")
	}
}

// TestGroup: callers share runs that begin after they called.
func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
		runs := 0
		gate := make(chan struct{})
		run := func() error { runs++; <-gate; return fmt.Errorf("run %d", runs) }
		results := make(chan error, 10)
		var wg sync.WaitGroup
		wg.Go(func() { results <- g.do(ctx, run) })
		synctest.Wait()
		gone, cancel := context.WithCancel(ctx)
		wg.Go(func() {
			if err := g.do(gone, run); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		})
		synctest.Wait()
		cancel() // the first to wait leaves; the others' round goes on
		for range 5 {
			wg.Go(func() { results <- g.do(ctx, run) })
		}
		wg.Go(func() { check(t, g.alone(func() error { return nil })) })
		synctest.Wait()
		close(gate)
		wg.Wait()
		close(results)
		counts := map[string]int{}
		for err := range results {
			counts[err.Error()]++
		}
		if runs != 2 || counts["run 1"] != 1 || counts["run 2"] != 5 {
			t.Errorf("%d runs: %v", runs, counts)
		}
	})
}
