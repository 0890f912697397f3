package remote_test

import (
	"context"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/volume"
)

// TestCopyElsewhere: what the brick can't copy is refused before it is asked.
func TestCopyElsewhere(t *testing.T) {
	ctx := context.Background()
	open := func(fs *remote.Remote) volume.File {
		f, _, err := fs.Create(ctx, volume.Root, "f", regular, volume.Read|volume.Write)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if _, err := f.WriteAt(ctx, []byte("content"), 0, 0); err != nil {
			t.Fatal(err)
		}
		return f
	}
	_, here := serve(t, newBackend(), nil)
	_, there := serve(t, newBackend(), nil)
	fs := connect(t, here, nil)
	f, other := open(fs), open(connect(t, there, nil))
	if n, err := volume.CopyFrom(ctx, f, other, 0, 0, 7, 0); volume.ErrnoOf(err) != syscall.EXDEV {
		t.Errorf("from another brick: %d bytes, %v", n, err)
	}
	if n, err := volume.CopyFrom(ctx, f, f, 0, 7, 7, volume.WriteDataSync); n != 7 || err != nil {
		t.Errorf("within the file: %d bytes, %v", n, err)
	}
	fs.SpeaksVersion(3)
	if n, err := volume.CopyFrom(ctx, f, f, 0, 14, 7, 0); volume.ErrnoOf(err) != syscall.EOPNOTSUPP {
		t.Errorf("by a brick that does not know how: %d bytes, %v", n, err)
	}
}
