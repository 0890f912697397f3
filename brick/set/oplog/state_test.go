package oplog

import (
	"bytes"
	"testing"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

func TestState(t *testing.T) {
	dir := t.TempDir() // the real calls
	if _, err := LoadState(nil, dir, "set"); volume.ErrnoOf(err) != unix.ENOENT {
		t.Errorf("nothing saved: %v", err)
	}
	for _, b := range [][]byte{[]byte("one"), {}, bytes.Repeat([]byte{1}, StateMax)} {
		check(t, SaveState(nil, dir, "set", b))
		if got, err := LoadState(nil, dir, "set"); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%d bytes: %d, %v", len(b), len(got), err)
		}
	}
	if err := SaveState(nil, dir, "set", make([]byte, StateMax+1)); volume.ErrnoOf(err) != unix.EINVAL {
		t.Error(err)
	}
	if err := SaveState(nil, dir, "a/b", nil); volume.ErrnoOf(err) != unix.EINVAL {
		t.Error(err)
	}
}

func TestStateDamaged(t *testing.T) {
	d := newMemDisk()
	check(t, SaveState(d, "log", "set", []byte("state")))
	data := d.names["set"].data
	for at := range data {
		data[at] ^= 4
		if b, err := LoadState(d, "log", "set"); volume.ErrnoOf(err) != unix.EIO {
			t.Errorf("byte %d: %q, %v", at, b, err)
		}
		data[at] ^= 4
		d.names["set"].data = data[:at]
		if b, err := LoadState(d, "log", "set"); volume.ErrnoOf(err) != unix.EIO {
			t.Errorf("cut at %d: %q, %v", at, b, err)
		}
		d.names["set"].data = data
	}
}

// TestStateCrash loses the power at each call: the old state or the new one is there, and what
// was saved stays.
func TestStateCrash(t *testing.T) {
	r := seeded(t)
	for n := 1; ; n++ {
		for range 10 {
			d := newMemDisk()
			check(t, SaveState(d, "log", "set", []byte("old")))
			f := &sys.Faulty{Sys: d}
			f.Crash(n)
			saved := SaveState(f, "log", "set", []byte("new")) == nil
			read := ""
			if r.IntN(2) == 0 { // the process comes back first, and acts on what it reads
				d.kill()
				read = string(must(LoadState(d, "log", "set")))
			}
			d.powerLoss(r)
			b, err := LoadState(d, "log", "set")
			if err != nil || string(b) != "new" && (saved || read == "new" || string(b) != "old") {
				t.Fatalf("call %d, %s, saved %v: %q, %v", n, f.Failed(), saved, b, err)
			}
			if f.Failed() == "" {
				return
			}
		}
	}
}
