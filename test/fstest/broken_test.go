package fstest_test

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// brokenVariable names the defect with which TestBroken runs the suite, in a
// process of its own that must fail.
const brokenVariable = "MORTAR_FSTEST_BROKEN"

// defects are file systems that each break the contract in one place.
var defects = map[string]func() volume.FS{
	"rename forgets NOREPLACE":   func() volume.FS { return forgetsNoReplace{model.New()} },
	"create forgets EXCL":        func() volume.FS { return forgetsExcl{model.New()} },
	"readdir skips at page ends": func() volume.FS { return skipsEntry{model.New()} },
	"umask ignored":              func() volume.FS { return ignoresCred{model.New()} },
	"cut leaves what was there":  func() volume.FS { return wrongSize{model.New()} },
	"short reads":                func() volume.FS { return shortReads{model.New()} },
	"append is a write at size":  func() volume.FS { return racyAppend{model.New()} },
	"missing is stale":           func() volume.FS { return wrongErrno{model.New()} },
	"born empty":                 func() volume.FS { return bornEmpty{model.New()} },
	"born with a name first":     func() volume.FS { return bornNamed{model.New()} },
}

type (
	forgetsNoReplace struct{ volume.FS }
	forgetsExcl      struct{ volume.FS }
	skipsEntry       struct{ volume.FS }
	ignoresCred      struct{ volume.FS }
	wrongSize        struct{ volume.FS }
	shortReads       struct{ volume.FS }
	racyAppend       struct{ volume.FS }
	wrongErrno       struct{ volume.FS }
	bornEmpty        struct{ volume.FS }
	bornNamed        struct{ volume.FS }
)

func (s bornEmpty) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	return s.FS.Make(ctx, dir, name, n.Plain())
}

// Make leaves the name behind if what is to be done then is impossible.
func (s bornNamed) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	a, err := s.FS.Make(ctx, dir, name, n.Plain())
	if err != nil || !n.Bears() {
		return a, err
	}
	f, err := s.FS.Open(ctx, a.ID, volume.Write)
	if err != nil {
		return a, err
	}
	defer f.Close()
	if _, err = f.WriteSet(ctx, n.Data, 0, 0, n.Then); err != nil {
		return a, err
	}
	return f.Getattr(ctx)
}

func (s forgetsNoReplace) Rename(ctx context.Context, od volume.ID, on string, nd volume.ID, nn string, f volume.RenameFlags) error {
	return s.FS.Rename(ctx, od, on, nd, nn, f&^volume.RenameNoReplace)
}

func (s forgetsExcl) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	return s.FS.Create(ctx, dir, name, n, f&^volume.Excl)
}

func (s skipsEntry) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool) ([]volume.Entry, bool, error) {
	es, end, err := s.FS.ReadDir(ctx, dir, after, max, attrs)
	if after != 0 && len(es) > 1 {
		es = es[1:]
	}
	return es, end, err
}

func (s ignoresCred) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	return s.FS.Make(volume.WithCred(ctx, volume.Cred{}), dir, name, n)
}

func (s wrongSize) Setattr(ctx context.Context, id volume.ID, c volume.Change) (volume.Attr, error) {
	if c.Mask&volume.SetSize != 0 && c.Size > 0 {
		c.Size--
	}
	return s.FS.Setattr(ctx, id, c)
}

func (s wrongErrno) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	a, err := s.FS.Lookup(ctx, dir, name)
	if err != nil {
		err = volume.ErrnoOf(err) // no *volume.Error any more
	}
	return a, err
}

func (s shortReads) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	h, err := s.FS.Open(ctx, id, f)
	return shortFile{h}, err
}

type shortFile struct{ volume.File }

func (f shortFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return f.File.ReadAt(ctx, p[:min(len(p), 1000)], off)
}

func (s racyAppend) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	h, err := s.FS.Open(ctx, id, f)
	return racyFile{h}, err
}

type racyFile struct{ volume.File }

func (f racyFile) Append(ctx context.Context, p []byte, flags volume.WriteFlags) (int64, error) {
	a, err := f.Getattr(ctx)
	if err != nil {
		return 0, err
	}
	runtime.Gosched()
	_, err = f.WriteAt(ctx, p, a.Size, flags)
	return a.Size, err
}

// TestBroken shows that the suite fails, one process a defect, since a failed
// subtest can't be taken back.
func TestBroken(t *testing.T) {
	if name := os.Getenv(brokenVariable); name != "" {
		cfg := fstest.Config{New: func(*testing.T) volume.FS { return defects[name]() }}
		fstest.Run(t, cfg)
		return
	}
	for name := range defects {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestBroken$")
			cmd.Env = append(os.Environ(), brokenVariable+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL") {
				t.Errorf("the suite passes (%v):\n%s", err, out)
			}
		})
	}
}

// TestRandomFinds does the same for the random test alone.
func TestRandomFinds(t *testing.T) {
	if name := os.Getenv(brokenVariable); name != "" {
		fstest.Random(t, fstest.Config{New: func(*testing.T) volume.FS { return defects[name]() }}, 5000)
		return
	}
	for _, name := range []string{"rename forgets NOREPLACE", "create forgets EXCL", "readdir skips at page ends", "umask ignored", "cut leaves what was there", "short reads", "born empty"} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestRandomFinds$")
			cmd.Env = append(os.Environ(), brokenVariable+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "the last operations") || !strings.Contains(string(out), "MORTAR_SEED=") {
				t.Errorf("the random test passes or does not say how to repeat it (%v):\n%s", err, out)
			}
		})
	}
}
