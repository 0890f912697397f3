package cluster

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A brick is killed while files are written and synced on all bricks: each
// operation ends within the time-out, what lies on the other bricks goes on
// meanwhile, and afterwards everything that was synced is there.
func TestBrickKilledUnderLoad(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.VolumeOn("v", s.Bricks("v", 3)...)
	s.Must("volume", "set", "v", "network.timeout", "5")
	dir := s.Mount("v")

	type acked struct {
		path string
		sum  [32]byte
	}
	var (
		mu     sync.Mutex
		done   []acked
		failed int
		stop   atomic.Bool
		wg     sync.WaitGroup
	)
	content := func(r *rand.Rand) []byte {
		b := make([]byte, 1+r.IntN(20000))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	write := func(path string, b []byte) error {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		_, err = f.Write(b)
		return errors.Join(err, f.Sync(), f.Close())
	}
	for w := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for i := 0; !stop.Load(); i++ {
				path := filepath.Join(dir, fmt.Sprintf("w%d-%d", w, i))
				b := content(r)
				begin := time.Now()
				err := write(path, b)
				if took := time.Since(begin); took > 25*time.Second {
					t.Errorf("%s: took %v", path, took)
				}
				mu.Lock()
				if err == nil {
					done = append(done, acked{path, sha256.Sum256(b)})
				} else {
					failed++
					if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.ENOENT) {
						t.Errorf("%s: %v, want EIO", path, err)
					}
				}
				mu.Unlock()
			}
		}()
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(done)
	}
	progress := func(what string, n int) {
		t.Helper()
		from := count()
		Eventually(t, what, func() error {
			if c := count() - from; c < n {
				return fmt.Errorf("%d files of %d", c, n)
			}
			return nil
		})
	}
	for round := range 3 {
		progress("load runs", 200)
		old := s.KillBrick("v", round)
		Eventually(t, "the brick is back", func() error {
			b := s.Status("v")[round]
			if !b.Online || b.PID == old {
				return fmt.Errorf("%+v", b)
			}
			return nil
		})
		progress("load goes on", 200)
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d files acknowledged, %d failed", len(done), failed)
	for _, a := range done {
		b, err := os.ReadFile(a.path)
		if err != nil || sha256.Sum256(b) != a.sum {
			t.Errorf("%s: acknowledged and lost (%d bytes, %v)", a.path, len(b), err)
		}
	}
}

// With a brick down for good its files fail within the time-out and the others' go on.
func TestBrickDown(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("v", 3)
	s.Must("volume", "set", "v", "network.timeout", "2")
	dir := s.Mount("v")
	for i := range 60 {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Stopped, not killed, it neither answers nor is restarted.
	pid := s.Status("v")[1].PID
	syscall.Kill(pid, syscall.SIGSTOP)
	defer syscall.Kill(pid, syscall.SIGCONT)
	good, bad := 0, 0
	var slowest time.Duration
	for i := range 60 {
		begin := time.Now()
		_, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i)))
		slowest = max(slowest, time.Since(begin))
		switch {
		case err == nil:
			good++
		case errors.Is(err, syscall.EIO):
			bad++
		default:
			t.Errorf("file %d: %v", i, err)
		}
	}
	t.Logf("%d read, %d EIO, slowest %v", good, bad, slowest)
	if good == 0 || bad == 0 || slowest > 12*time.Second {
		t.Errorf("want some of each within the time-out of 2 s")
	}
	syscall.Kill(pid, syscall.SIGCONT)
	Eventually(t, "all are back", func() error {
		for i := range 60 {
			if _, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i))); err != nil {
				return err
			}
		}
		return nil
	})
}

// The daemon may die and come back: mounts and bricks notice nothing.
func TestDaemonKilled(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("v", 2)
	dir := s.Mount("v")
	pids := func() (p []int) {
		for _, b := range s.Status("v") {
			p = append(p, b.PID)
		}
		return p
	}
	before := pids()
	s.Signal(syscall.SIGKILL)
	for i := range 50 {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(path, []byte(path), 0o644); err != nil {
			t.Fatal("with the daemon dead: ", err)
		}
	}
	s.Start()
	Eventually(t, "the bricks are the same", func() error {
		if now := pids(); !slices.Equal(before, now) {
			return fmt.Errorf("%v, were %v", now, before)
		}
		return nil
	})
	for i := range 50 {
		path := filepath.Join(dir, strconv.Itoa(i))
		if b, err := os.ReadFile(path); err != nil || string(b) != path {
			t.Errorf("%s: %q %v", path, b, err)
		}
	}
	// A brick that dies while no daemon runs is restarted by the next one.
	s.Signal(syscall.SIGKILL)
	syscall.Kill(before[0], syscall.SIGKILL)
	s.Start()
	Eventually(t, "the brick runs again", func() error {
		_, err := os.ReadDir(dir)
		if now := pids(); err == nil && (now[0] == before[0] || now[0] <= 0) {
			err = fmt.Errorf("pids %v", now)
		}
		return err
	})
}

// A mount's process is killed in the middle of renames and rmdirs over several
// sets: the volume rolls every one forward or back by itself.
func TestClientKilledInRename(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("v", 3)
	const files, dirs = 40, 20
	for round := range 4 {
		dir := s.Mount("v")
		root := filepath.Join(dir, fmt.Sprint("round", round))
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range files {
			if err := os.WriteFile(filepath.Join(root, fmt.Sprintf("f%d.0", i)), []byte(strconv.Itoa(i)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var ops atomic.Int64
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for gen := 0; ; gen++ {
					for i := w; i < files; i += 4 {
						err := os.Rename(filepath.Join(root, fmt.Sprintf("f%d.%d", i, gen)), filepath.Join(root, fmt.Sprintf("f%d.%d", i, gen+1)))
						if err != nil {
							return
						}
						ops.Add(1)
					}
					for i := w; i < dirs; i += 4 {
						a, b := filepath.Join(root, fmt.Sprint("d", i)), filepath.Join(root, fmt.Sprint("e", i))
						if os.Mkdir(a, 0o755) != nil || os.Rename(a, b) != nil || os.Remove(b) != nil {
							return
						}
						ops.Add(1)
					}
				}
			}()
		}
		want := 150 + rand.Int64N(200)
		Eventually(t, "renames run", func() error {
			if n := ops.Load(); n < want {
				return fmt.Errorf("%d of %d", n, want)
			}
			return nil
		})
		if err := syscall.Kill(s.MountPID(dir), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		syscall.Unmount(dir, syscall.MNT_DETACH)

		dir = s.Mount("v")
		root = filepath.Join(dir, fmt.Sprint("round", round))
		Eventually(t, "every file has one name", func() error { return eachOnce(root, files) })
		Eventually(t, "all can be removed", func() error { return os.RemoveAll(root) })
		s.Unmount(dir)
	}
}

// eachOnce says what is wrong unless root has exactly one file fN.* for each N < n, with N in it.
func eachOnce(root string, n int) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	seen := map[string]string{}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, e.Name()))
		if err != nil {
			return err
		}
		if !bytes.HasPrefix([]byte(e.Name()), append([]byte("f"), append(b, '.')...)) {
			return fmt.Errorf("%s contains %q", e.Name(), b)
		}
		if other := seen[string(b)]; other != "" {
			return fmt.Errorf("file %s is both %s and %s", b, other, e.Name())
		}
		seen[string(b)] = e.Name()
	}
	if len(seen) != n {
		return fmt.Errorf("%d files of %d: %v", len(seen), n, seen)
	}
	return nil
}

// A brick is killed again and again in the middle of renames over several sets.
func TestBrickKilledInRename(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("v", 3)
	dir := s.Mount("v")
	const files = 40
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d.0", i)), []byte(strconv.Itoa(i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var stop atomic.Bool
	var ops atomic.Int64
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for gen := 1; !stop.Load(); gen++ {
				for i := w; i < files; i += 4 {
					old, _ := filepath.Glob(filepath.Join(dir, fmt.Sprintf("f%d.*", i)))
					for _, o := range old {
						if err := os.Rename(o, filepath.Join(dir, fmt.Sprintf("f%d.%d-%d", i, gen, w))); err == nil {
							ops.Add(1)
						} else if !errors.Is(err, syscall.EIO) && !errors.Is(err, fs.ErrNotExist) {
							t.Errorf("rename: %v", err)
						}
					}
				}
			}
		}()
	}
	for round := range 6 {
		want := ops.Load() + 40
		Eventually(t, "renames run", func() error {
			if n := ops.Load(); n < want {
				return fmt.Errorf("%d of %d", n, want)
			}
			return nil
		})
		Eventually(t, "bricks are up", func() error {
			if b := s.Status("v")[round%3]; b.PID <= 0 {
				return fmt.Errorf("%+v", b)
			}
			return nil
		})
		s.KillBrick("v", round%3)
	}
	stop.Store(true)
	wg.Wait()
	Eventually(t, "every file has one name", func() error { return eachOnce(dir, files) })
}
