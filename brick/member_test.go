package brick

import (
	"os"
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
