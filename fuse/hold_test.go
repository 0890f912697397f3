package fuse

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// put makes a file as another mount would.
func put(t *testing.T, fs volume.FS, name, text string) {
	t.Helper()
	f, _, err := fs.Create(t.Context(), volume.Root, name, volume.Node{Mode: 0o644}, volume.Write)
	must(t, err)
	_, err = f.WriteAt(t.Context(), []byte(text), 0, 0)
	must(t, err)
	must(t, f.Close())
}

// TestReplacedByAnother: a name that another mount replaces all the time can be
// opened, and leads to one of the files that were put there.
func TestReplacedByAnother(t *testing.T) {
	fs := model.New()
	m, _ := mount(t, fs, "")
	ctx := t.Context()
	put := func(name, text string) { put(t, fs, name, text) }
	put("target", "first")
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; !done.Load(); i++ {
			put("temp", "later")
			if err := fs.Rename(ctx, volume.Root, "temp", volume.Root, "target", 0); err != nil {
				t.Error(err)
			}
		}
	})
	for range 2000 {
		if b, err := os.ReadFile(m + "/target"); err != nil || len(b) != 5 {
			t.Errorf("%q, %v", b, err)
			break
		}
	}
	done.Store(true)
	wg.Wait()
}

// TestReplacedWhileOpenWaits: what the second try finds stays for its OPEN, though the volume takes long, as in
// a failover, and the name is replaced again meanwhile.
func TestReplacedWhileOpenWaits(t *testing.T) {
	fs := model.New()
	ctx := t.Context()
	put := func(name string) { put(t, fs, name, "") }
	put("target")
	opens := map[volume.ID]int{}
	hook := &hookFS{FS: fs, open: func(id volume.ID) {
		if opens[id]++; opens[id] == 2 { // the first keeps it
			<-time.After(2 * holdFor)
			put("temp")
			must(t, fs.Rename(ctx, volume.Root, "temp", volume.Root, "target", 0))
		}
	}}
	m, _ := mount(t, hook, "")
	_, err := os.Lstat(m + "/target") // the kernel believes it
	must(t, err)
	put("temp")
	must(t, fs.Rename(ctx, volume.Root, "temp", volume.Root, "target", 0))
	f := open(t, m+"/target", os.O_RDONLY)
	must(t, f.Close())
}

// TestReplacedFasterThanAsked: what the second try finds may be gone each time before it can be kept, as on a machine where a request takes
// as long as many replacements, until once it is not.
func TestReplacedFasterThanAsked(t *testing.T) {
	fs := model.New()
	ctx := t.Context()
	replace := func() {
		put(t, fs, "temp", "")
		must(t, fs.Rename(ctx, volume.Root, "temp", volume.Root, "target", 0))
	}
	put(t, fs, "target", "")
	var opens atomic.Int64
	m, _ := mount(t, &hookFS{FS: fs, open: func(volume.ID) {
		if opens.Add(1) < 50 {
			replace()
		}
	}}, "")
	f := open(t, m+"/target", os.O_RDONLY)
	must(t, f.Close())
	if n := opens.Load(); n < 50 {
		t.Errorf("it was opened after %d tries", n)
	}
}

// TestReplacedUnderStat: the same for stat, where the kernel believes no
// attributes: the name is replaced each time between its look-up and the question for attributes.
func TestReplacedUnderStat(t *testing.T) {
	fs := model.New()
	ctx := t.Context()
	put := func(name string) { put(t, fs, name, "") }
	put("target")
	hook := &hookFS{FS: fs}
	hook.getattr = func(_ context.Context, id volume.ID) error {
		if id == volume.Root {
			return nil
		}
		put("temp")
		return fs.Rename(ctx, volume.Root, "temp", volume.Root, "target", 0)
	}
	m, _ := mount(t, hook, "attribute-timeout=0,entry-timeout=0")
	for range 50 {
		if _, err := os.Lstat(m + "/target"); err != nil {
			t.Fatal(err)
		}
	}
}
