package brick

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume"
)

// TestShare hands descriptors of files out: they read what is there, later changes too, and never write.
func TestShare(t *testing.T) {
	s := newStore(t)
	f, a, err := s.Create(ctx, volume.Root, "a", volume.Node{Mode: 0o600}, volume.Read|volume.Write)
	check(t, err)
	_, err = f.WriteAt(ctx, []byte("hello"), 0, 0)
	check(t, err)
	for name, flags := range map[string]volume.Flags{
		"for reading": volume.Read, "for both": volume.Read | volume.Write, "without atime": volume.Read | volume.NoAtime,
	} {
		h, err := s.Open(ctx, a.ID, flags)
		check(t, err)
		shared, err := h.(volume.Sharer).Share()
		check(t, err)
		check(t, h.Close()) // it belongs to who asked
		has, err := unix.FcntlInt(shared.File.Fd(), unix.F_GETFL, 0)
		check(t, err)
		if has&unix.O_ACCMODE != unix.O_RDONLY || (has&unix.O_NOATIME != 0) != (flags&volume.NoAtime != 0) {
			t.Errorf("%s: flags %#o", name, has)
		}
		b := make([]byte, 5)
		if _, err := shared.File.ReadAt(b, 0); err != nil || string(b) != "hello" {
			t.Errorf("%s: read %q, %v", name, b, err)
		}
		if _, err := shared.File.Write(b); err == nil {
			t.Errorf("%s: written", name)
		}
		if shared.Window != nil {
			t.Errorf("%s: a window where nobody else has a say", name)
		}
		shared.Close()
	}
	w, err := s.Open(ctx, a.ID, volume.Write)
	check(t, err)
	defer w.Close()
	if shared, err := w.(volume.Sharer).Share(); volume.ErrnoOf(err) != unix.EBADF {
		shared.Close()
		t.Errorf("of a handle that may not read: %v, want EBADF", err)
	}
	shared, err := f.(volume.Sharer).Share()
	check(t, err)
	defer shared.Close()
	check(t, s.Unlink(ctx, volume.Root, "a"))
	_, err = f.WriteAt(ctx, []byte("HELLO"), 0, 0)
	check(t, err)
	b := make([]byte, 5)
	if _, err := shared.File.ReadAt(b, 0); err != nil || string(b) != "HELLO" {
		t.Errorf("of a file without a name: %q, %v", b, err)
	}
	check(t, f.Close())
}
