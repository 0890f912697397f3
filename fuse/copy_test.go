package fuse

import (
	"bytes"
	"context"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// copierFile is a hookFile that can copy.
type copierFile struct{ hookFile }

func (f *copierFile) CopyFrom(ctx context.Context, src volume.File, from, off, n int64, w volume.WriteFlags) (int64, error) {
	f.h.count("copy")
	if s, ok := src.(*copierFile); ok {
		return volume.CopyFrom(ctx, f.File, s.File, from, off, n, w)
	}
	return 0, volume.Apart(f)
}

// TestCopyRange: bytes are read and written here only if those who have them can't copy.
func TestCopyRange(t *testing.T) {
	for _, able := range []bool{true, false} {
		h := &hookFS{FS: model.New(), copies: able}
		dir, _ := mount(t, h, "")
		want := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16)
		must(t, os.WriteFile(dir+"/in", want, 0o644))
		in, err := os.Open(dir + "/in")
		must(t, err)
		out, err := os.Create(dir + "/out")
		must(t, err)
		h.take("read")
		h.take("write")
		for done := 0; done < len(want); {
			n, err := unix.CopyFileRange(int(in.Fd()), nil, int(out.Fd()), nil, len(want), 0)
			must(t, err)
			if done += n; n == 0 {
				t.Fatalf("the copy ends at %d of %d bytes", done, len(want))
			}
		}
		reads, writes, copies := h.take("read"), h.take("write"), h.take("copy")
		if (reads+writes > 0) == able || (copies > 0) != able {
			t.Errorf("able %v: %d reads, %d writes, %d copies", able, reads, writes, copies)
		}
		must(t, in.Close())
		must(t, out.Close())
		wantText(t, dir+"/out", string(want))
	}
}
