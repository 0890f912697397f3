package brick

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

func TestLockers(t *testing.T) {
	dir := newBrick(t)
	s := openBrick(t, dir, Options{})
	if got, err := s.Lockers(); err != nil || len(got) != 0 {
		t.Fatalf("of a new brick: %v, %v", got, err)
	}
	for _, want := range [][][16]byte{{{1}, {2, 15: 0xff}}, {}, {{3}}} {
		if err := s.KeepLockers(want); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Lockers(); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v, %v; want %v", got, err, want)
		}
	}
	if err := s.KeepLockers(make([][16]byte, LockersMax+1)); volume.ErrnoOf(err) != syscall.ENOLCK {
		t.Errorf("too many: %v", err)
	}
	path := filepath.Join(dir, lockersFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		bad := slices.Clone(good)
		bad[n] ^= 1
		for _, b := range [][]byte{bad, good[:n]} {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Lockers(); volume.ErrnoOf(err) != syscall.EINVAL {
				t.Fatalf("%q: %v", b, err)
			}
		}
	}
}
