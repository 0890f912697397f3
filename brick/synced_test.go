package brick

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
)

// recorder notes the calls that write contents and make them durable.
type recorder struct {
	sys.Real
	calls []string
}

func (r *recorder) Pwrite(fd int, p []byte, off int64, flags int) (int, error) {
	r.calls = append(r.calls, fmt.Sprintf("write %d", len(p)))
	return r.Real.Pwrite(fd, p, off, flags)
}

func (r *recorder) Fsync(fd int) error {
	r.calls = append(r.calls, "fsync")
	return r.Real.Fsync(fd)
}

func (r *recorder) Fdatasync(fd int) error {
	r.calls = append(r.calls, "fdatasync")
	return r.Real.Fdatasync(fd)
}

// TestWriteSynced: a write that is to make the file durable does so after it has written.
func TestWriteSynced(t *testing.T) {
	r := &recorder{}
	s := openBrick(t, newBrick(t), Options{sys: r, noLog: true})
	id := create(t, s, volume.Root, "f", "contents")
	h, err := s.Open(ctx, id, volume.Read|volume.Write)
	check(t, err)
	defer h.Close()
	for flags, want := range map[volume.WriteFlags]string{0: "", volume.WriteFullSync: "fsync", volume.WriteDataSync: "fdatasync"} {
		for name, write := range map[string]func() error{
			"write":  func() error { _, err := h.WriteAt(ctx, []byte("ab"), 0, flags); return err },
			"append": func() error { _, err := h.Append(ctx, []byte("ab"), flags); return err },
		} {
			r.calls = nil
			check(t, write())
			all := []string{"write 2"}
			if want != "" {
				all = append(all, want)
			}
			if !slices.Equal(r.calls, all) {
				t.Errorf("%s with flags %d: %q, want %q", name, flags, r.calls, all)
			}
		}
	}
}
