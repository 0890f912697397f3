package brick

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/test/treecmp"
	"github.com/mortarfs/mortar/volume"
)

// memberOn makes members in directories below at, and starts them anew. made
// are the directories.
func memberOn(at, kind string, made *[]string) fstest.MemberConfig {
	last := map[volume.Member]volume.Member{}
	return fstest.MemberConfig{
		New: func(t *testing.T) volume.Member {
			path, err := os.MkdirTemp(at, "brick")
			check(t, err)
			check(t, os.Chmod(path, 0o755))
			*made = append(*made, path)
			check(t, Init(ctx, path, testIdentity))
			s, err := Open(path, Options{})
			check(t, err)
			t.Cleanup(func() {
				var m volume.Member = s
				for last[m] != nil {
					m = last[m]
				}
				check(t, m.(*Store).Close())
				fsck(t, path)
				lines, err := treecmp.Check(path)
				check(t, err)
				for _, l := range lines {
					t.Error(l)
				}
			})
			return s
		},
		Restart: func(t *testing.T, m volume.Member) volume.Member {
			s := m.(*Store)
			check(t, s.Close())
			again, err := Open(s.path, Options{})
			check(t, err)
			last[s] = again
			return again
		},
		Features: fstest.Features{NoDirNlink: kind == "btrfs", NoShift: kind == "btrfs"},
	}
}

// TestMember holds the store to volume.Member's contract on every file system.
func TestMember(t *testing.T) {
	for kind := range fileSystems {
		t.Run(kind, func(t *testing.T) {
			var made []string
			cfg := memberOn(onImage(t, kind, 512), kind, &made)
			fstest.Member(t, cfg)
			t.Run("random", func(t *testing.T) {
				t.Cleanup(func() { // when they are closed
					if t.Failed() {
						return
					}
					lines, err := treecmp.Compare(made[len(made)-2], made[len(made)-1], treecmp.Options{Mtime: true})
					check(t, err)
					for _, l := range lines {
						t.Error(l)
					}
				})
				fstest.RandomMember(t, cfg, 1500)
			})
		})
	}
}

// TestPlaceOverForeign puts a name back to its object that somebody has replaced from outside.
func TestPlaceOverForeign(t *testing.T) {
	each(t, func(t *testing.T, _ string, newStore func(t *testing.T) *Store) {
		s := newStore(t)
		f, a, err := s.Create(ctx, volume.Root, "file", volume.Node{Mode: 0o644}, volume.Write)
		check(t, err)
		check(t, f.Close())
		check(t, os.WriteFile(filepath.Join(s.Brick(), "new"), []byte("foreign"), 0o600))
		check(t, os.Rename(filepath.Join(s.Brick(), "new"), filepath.Join(s.Brick(), "file")))
		if _, err := s.Lookup(ctx, volume.Root, "file"); volume.ErrnoOf(err) != syscall.EIO {
			t.Errorf("a foreign file is looked up: %v", err)
		}
		check(t, s.Place(ctx, volume.Root, "file", volume.Pointer{ID: a.ID, Mode: syscall.S_IFREG}))
		if b, err := s.Lookup(ctx, volume.Root, "file"); err != nil || b.ID != a.ID {
			t.Errorf("after Place: %+v, %v", b, err)
		}
		kept, _ := filepath.Glob(filepath.Join(s.Brick(), "file.foreign-*"))
		if len(kept) != 1 {
			t.Fatalf("the foreign file is not kept: %v", kept)
		}
		if b, err := os.ReadFile(kept[0]); err != nil || string(b) != "foreign" {
			t.Errorf("the foreign file has %q, %v", b, err)
		}
	})
}
