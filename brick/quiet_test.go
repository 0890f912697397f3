package brick

import (
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// TestPurgeIsNoChange shows that an object's ctime stays when a link of Mortar's
// own goes, and that what somebody asks for before or after it shows.
func TestPurgeIsNoChange(t *testing.T) {
	s := newStore(t)
	id := create(t, s, volume.Root, "f", "content")
	ctime := func() volume.Time {
		t.Helper()
		a, err := s.Getattr(ctx, id)
		check(t, err)
		return a.Ctime
	}
	moves := func(what string, do func() error) {
		t.Helper()
		for was, end := ctime(), time.Now().Add(10*time.Second); !was.Before(ctime()); {
			check(t, do()) // again, where the clock is coarse
			if time.Now().After(end) {
				t.Fatalf("%s: the ctime stays", what)
			}
		}
	}
	end := time.Now().Add(10 * time.Second)
	for round, told := uint64(0), 0; told < 3; round++ { // a purge within a tick of the clock tells nothing
		if time.Now().After(end) {
			t.Fatal("no purge moves the ctime on the disk")
		}
		k := volume.Key{Set: 7, Intent: round, Part: 1}
		_, err := s.Link(ctx, id, volume.Root, "g")
		check(t, err)
		check(t, s.Discard(ctx, volume.Root, "g", id, k))
		was := ctime()
		check(t, s.Purge(ctx, k))
		info, err := s.sys.Stat(s.indexFD, indexPath(id), noFollow)
		check(t, err)
		if info.Ctime != was {
			told++
		}
		if got := ctime(); got != was {
			t.Errorf("after a purge the ctime is %v, was %v", got, was)
		}
		if a, err := s.Lookup(ctx, volume.Root, "f"); err != nil || a.Ctime != was || a.Nlink != 1 {
			t.Errorf("looked up: %+v, %v", a, err)
		}
		moves("setxattr", func() error { return s.Setxattr(ctx, id, "user.a", []byte{byte(round)}, 0) })
		moves("chmod", func() error {
			_, err := s.Setattr(ctx, id, volume.Change{Mask: volume.SetMode, Mode: 0o600 + uint32(round)%2})
			return err
		})
	}
	// Several purges, one after the other.
	was := volume.Time{}
	for i := range uint64(3) {
		_, err := s.Link(ctx, id, volume.Root, "n"+string(rune('a'+i)))
		check(t, err)
		check(t, s.Discard(ctx, volume.Root, "n"+string(rune('a'+i)), id, volume.Key{Set: 8, Intent: i}))
		was = ctime()
	}
	for i := range uint64(3) {
		check(t, s.Purge(ctx, volume.Key{Set: 8, Intent: i}))
		if got := ctime(); got != was {
			t.Errorf("after purge %d the ctime is %v, was %v", i, got, was)
		}
	}
	check(t, s.Unlink(ctx, volume.Root, "f"))
	_, err := s.Getattr(ctx, id)
	wants(t, err, unix.ESTALE)
}
