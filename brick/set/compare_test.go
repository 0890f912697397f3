package set

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/volume"
)

// damages are what others do to a brick behind Mortar's back: at path, where
// the tree of TestDamage lies, and at id, the index.
var damages = []struct {
	name string
	do   func(t *testing.T, path string, id func(name string) string)
	says []string // what of it is repaired, by name
}{
	{"removed", func(t *testing.T, path string, _ func(string) string) { must(t, os.Remove(path+"/d/file")) }, []string{"/d/file"}},
	{"cut", func(t *testing.T, path string, _ func(string) string) { must(t, os.Truncate(path+"/d/large", 12345)) }, []string{"/d/large"}},
	{"altered", func(t *testing.T, path string, _ func(string) string) {
		for _, name := range []string{"/d/large", "/d/file"} {
			f, err := os.OpenFile(path+name, os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt([]byte("damage"), 3)
			must(t, err)
			must(t, f.Close())
		}
	}, []string{"/d/large", "/d/file"}},
	{"index lost", func(t *testing.T, path string, id func(string) string) {
		must(t, os.Remove(id("file")))
		must(t, os.Remove(id("link")))
	}, nil}, // looking at a name mends it
	{"removed for good", func(t *testing.T, path string, id func(string) string) {
		must(t, os.Remove(path+"/d/file"))
		must(t, os.Remove(id("file")))
		must(t, os.Remove(path+"/d/link"))
		must(t, os.Remove(id("link")))
	}, []string{"/d/file", "/d/link"}},
	{"tree removed", func(t *testing.T, path string, _ func(string) string) { must(t, os.RemoveAll(path+"/d")) }, []string{"/d", "/d/large", "/d/sub", "/d/sub/deep"}},
	{"renamed", func(t *testing.T, path string, _ func(string) string) {
		must(t, os.Rename(path+"/d/file", path+"/d/elsewhere"))
	}, []string{"/d/file", "/d/elsewhere"}},
}

// damagedScene makes a tree that both members have.
func damagedScene(t *testing.T) (s *scene, dir volume.ID, ids map[string]volume.ID) {
	s = newScene(t)
	d := s.mkdir(volume.Root, "d")
	ids = map[string]volume.ID{}
	ids["file"] = s.create(d, "file", []byte("the contents of a file"))
	ids["large"] = s.create(d, "large", bytes.Repeat([]byte("0123456789abcdef"), 100<<10))
	ids["link"] = volume.NewID(testSet)
	s.must(&change{kind: doMake, dir: d, name: "link", node: volume.Node{ID: ids["link"], Mode: 0o120777, Target: "to"}})
	s.create(s.mkdir(d, "sub"), "deep", []byte("deep"))
	s.heal()
	s.files.close()
	s.peer.files.close()
	return s, d, ids
}

// TestDamage damages the target, and has everything compared.
func TestDamage(t *testing.T) {
	for _, c := range damages {
		t.Run(c.name, func(t *testing.T) {
			s, _, ids := damagedScene(t)
			c.do(t, s.path, func(n string) string { return indexOf(s.path, ids[n]) })
			if c.name == "renamed" { // names that others made are seen after a start
				must(t, s.target.(*brick.Store).Close())
				s.target = openMember(t, s.path)
				s.connect()
			}
			must(t, s.keys.Add([]Key{{Kind: FullKey}}))
			s.heal()
			s.repaired(c.says)
		})
	}
}

func indexOf(path string, id volume.ID) string {
	return filepath.Join(path, ".mortar/id", id.String()[:2], id.String())
}

// repaired fails unless these names were said to have been repaired.
func (s *scene) repaired(names []string) {
	s.t.Helper()
	got := s.h.Progress().Repaired
	s.t.Logf("%s", join(got))
	for _, n := range names {
		if !slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, n+": ") }) {
			s.t.Errorf("%s is not said to have been repaired", n)
		}
	}
}

// TestDamageAtThePrimary damages the source, while the target is in sync: what
// was damaged is given back.
func TestDamageAtThePrimary(t *testing.T) {
	for _, c := range damages {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "renamed" {
				return // the name is given back, the other one is a second name of it from the next start on
			}
			s, _, ids := damagedScene(t)
			before := snapshot(s.ctx, s.target)
			c.do(t, s.sourcePath, func(n string) string { return indexOf(s.sourcePath, ids[n]) })
			s.h.partial, s.h.mutual = true, true
			must(t, s.keys.Add([]Key{{Kind: FullKey}}))
			s.heal()
			s.repaired(c.says)
			after := snapshot(s.ctx, s.source)
			for k, v := range before {
				if strings.HasSuffix(k, " contents") && after[k] != v {
					t.Errorf("%s are lost", k)
				}
			}
		})
	}
}

// TestLevelIsOneWay compares a member that lacks changes which the source has, as after a loss of power: neither
// comes back what was removed, nor goes what was written, though the source's mtime is the later one.
func TestLevelIsOneWay(t *testing.T) {
	s, d, ids := damagedScene(t)
	s.write(ids["file"], 0, []byte("acknowledged"))
	s.must(&change{kind: doUnlink, id: ids["link"], dir: d, name: "link"})
	s.create(d, "new", []byte("new"))
	s.keys = newTestKeys()
	s.connect()
	s.h.partial = true
	before := snapshot(s.ctx, s.source)
	must(t, s.keys.Add([]Key{{Kind: FullKey}}))
	s.heal()
	for k, v := range snapshot(s.ctx, s.source) {
		if before[k] != v {
			t.Errorf("at the source %s was %q, is %q", k, before[k], v)
		}
		delete(before, k)
	}
	for k := range before {
		t.Errorf("the source has %s no more", k)
	}
}

// TestCompareInSync compares members that are in sync, and one of which is
// damaged, while changes go on at both.
func TestCompareInSync(t *testing.T) {
	s, d, _ := damagedScene(t)
	must(t, os.Truncate(s.path+"/d/large", 12345))
	must(t, os.Remove(s.path+"/d/file"))
	s.h.partial, s.h.mutual = true, true
	s.both = true
	must(t, s.keys.Add([]Key{{Kind: FullKey}}))
	var wg sync.WaitGroup
	var stop atomic.Bool
	began := make(chan struct{})
	wg.Go(func() {
		for i := 0; !stop.Load(); i++ {
			name := fmt.Sprint("new", i%50)
			id := s.create(d, name, []byte("new"))
			old, _ := s.source.Lookup(s.ctx, d, name+"-renamed")
			s.rename(id, d, name, d, name+"-renamed", old.ID, 0)
			if i > 20 {
				s.must(&change{kind: doUnlink, id: id, dir: d, name: name + "-renamed"})
			}
			if i == 25 {
				close(began)
			}
		}
	})
	<-began
	for range 3 {
		if _, err := s.h.Drain(s.ctx); err != nil {
			t.Error(err)
		}
		must(t, s.keys.Add([]Key{{Kind: FullKey}}))
	}
	stop.Store(true)
	wg.Wait()
	s.heal()
	s.repaired([]string{"/d/large", "/d/file"})
	if n := s.h.Progress().Repairs; n > 3 {
		t.Errorf("%d repairs, though only two files were damaged", n)
	}
}

// TestRate limits how fast a file is copied, and changes the limit.
func TestRate(t *testing.T) {
	s := modelScene(t)
	var r healRate
	r.set(8 << 20)
	s.h.rate = &r
	s.create(volume.Root, "f", bytes.Repeat([]byte("x"), 6<<20))
	begin := time.Now()
	s.heal()
	if took := time.Since(begin); took < 500*time.Millisecond || took > 20*time.Second {
		t.Errorf("6 MiB took %v at 8 MiB/s", took)
	}
	r.set(0)
	s.create(volume.Root, "g", bytes.Repeat([]byte("x"), 6<<20))
	s.heal()
}
