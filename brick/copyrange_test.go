package brick

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// copied makes a file of n bytes, durable, and copies it.
func copied(t *testing.T, s *Store, n int) {
	t.Helper()
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i*7 + i>>8)
	}
	from := create(t, s, volume.Root, "from", "")
	to := create(t, s, volume.Root, "to", "")
	src, err := s.Open(ctx, from, volume.Read|volume.Write)
	check(t, err)
	for off := 0; off < n; off += volume.IOMax {
		_, err := src.WriteAt(ctx, data[off:min(n, off+volume.IOMax)], int64(off), 0)
		check(t, err)
	}
	dst, err := s.Open(ctx, to, volume.Write)
	check(t, err)
	check(t, src.Sync(ctx, false))
	for done := int64(0); done < int64(n); {
		m, err := volume.CopyFrom(ctx, dst, src, done, done, min(int64(n)-done, volume.CopyMax), 0)
		check(t, err)
		if done += m; m == 0 {
			t.Fatalf("the copy ends at %d of %d bytes", done, n)
		}
	}
	check(t, src.Close())
	check(t, dst.Sync(ctx, false))
	check(t, dst.Close())
	for _, id := range []volume.ID{from, to} {
		if got, err := os.ReadFile(filepath.Join(s.path, ".mortar/id", id.String()[:2], id.String())); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the contents differ, %v", err)
		}
	}
}

// TestCopyRefused: where the kernel does not copy the store reads and writes, and what is no refusal is told.
func TestCopyRefused(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EXDEV, unix.EOPNOTSUPP, unix.ENOSYS} {
		s := openBrick(t, newBrick(t), Options{sys: refuses{sys.Real{}, errno}})
		copied(t, s, 3<<20)
	}
	s := openBrick(t, newBrick(t), Options{sys: refuses{sys.Real{}, unix.ENOSPC}})
	f, _, err := s.Create(ctx, volume.Root, "f", volume.Node{Mode: unix.S_IFREG | 0o644}, volume.Read|volume.Write)
	check(t, err)
	_, err = f.WriteAt(ctx, []byte("content"), 0, 0)
	check(t, err)
	_, err = volume.CopyFrom(ctx, f, f, 0, 100, 5, 0)
	wants(t, err, unix.ENOSPC)
	check(t, f.Close())
}

// refuses is a kernel that does not copy.
type refuses struct {
	sys.Sys
	errno unix.Errno
}

func (r refuses) CopyRange(int, int64, int, int64, int64) (int64, error) { return 0, r.errno }

// TestCopyShares: where a file system can share blocks, a copy takes no room.
func TestCopyShares(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			path, err := os.MkdirTemp(onImage(t, kind, 512), "brick")
			check(t, err)
			check(t, Init(ctx, path, testIdentity))
			s := openBrick(t, path, Options{})
			const size = 48 << 20
			var before, after unix.Statfs_t
			check(t, unix.Statfs(path, &before))
			copied(t, s, size)
			check(t, s.Settle(ctx))
			check(t, unix.Statfs(path, &after))
			if used := int64(before.Bfree-after.Bfree) * before.Bsize; used > size+size/2 {
				t.Errorf("a file of %d MiB and its copy take %d MiB", size>>20, used>>20)
			}
			check(t, s.Close())
		})
	}
}
