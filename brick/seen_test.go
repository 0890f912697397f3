package brick

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What a brick has seen never goes back, outlives its process, and a file that
// is damaged is not believed.
func TestSeen(t *testing.T) {
	dir := newBrick(t)
	s := openBrick(t, dir, Options{})
	if _, err := ReadSeen(dir); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("of a new brick: %v", err)
	}
	for _, step := range []struct{ note, want Seen }{
		{Seen{5, 1}, Seen{5, 1}}, {Seen{4, 1}, Seen{5, 1}}, {Seen{4, 2}, Seen{5, 2}}, {Seen{9, 1}, Seen{9, 2}},
	} {
		if err := s.NoteSeen(step.note); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadSeen(dir); err != nil || got != step.want {
			t.Errorf("after %+v: %+v %v, want %+v", step.note, got, err, step.want)
		}
	}
	path := filepath.Join(dir, seenFile)
	b, err := os.ReadFile(path)
	if err != nil || string(b) != string(Seen{9, 2}.encode()) {
		t.Fatalf("%q %v", b, err)
	}
	for _, bad := range []string{"", string(b[:len(b)-3]), "mortar-map 2" + string(b[12:]), string(b) + "x"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSeen(dir); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := s.NoteSeen(Seen{1, 1}); err != nil { // it is made anew
		t.Fatal(err)
	}
	if got, err := ReadSeen(dir); err != nil || got != (Seen{1, 1}) {
		t.Errorf("%+v %v", got, err)
	}
}
