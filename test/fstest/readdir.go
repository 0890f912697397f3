package fstest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var readdirTests = []test{
	{"empty", func(e *env) {
		es, end, err := e.fs.ReadDir(e.ctx, e.dir, 0, 100, true)
		e.ok(err)
		if len(es) != 0 || !end {
			e.Errorf("%d entries, end %v", len(es), end)
		}
	}},
	{"pages", func(e *env) {
		want := map[string]volume.ID{}
		for i := range e.count(300) {
			name := fmt.Sprint("name-", i)
			want[name] = e.file(e.dir, name, "")
		}
		for _, page := range []int{1, 2, 7, 100, len(want), len(want) + 1, volume.ReadDirMax} {
			got := e.list(e.dir, page, page%2 == 0)
			if len(got) != len(want) {
				e.Errorf("pages of %d: %d entries, want %d", page, len(got), len(want))
			}
			seen := map[string]bool{}
			for _, x := range got {
				if seen[x.Name] || x.ID != want[x.Name] || x.Mode&syscall.S_IFMT != syscall.S_IFREG {
					e.Errorf("pages of %d: entry %+v, want ID %v once", page, x, want[x.Name])
				}
				seen[x.Name] = true
			}
		}
	}},
	{"types and attributes", func(e *env) {
		for i, n := range nodes() {
			e.make(e.dir, fmt.Sprint("n", i), n)
		}
		for _, attrs := range []bool{false, true} {
			for _, x := range e.list(e.dir, 100, attrs) {
				a, err := e.fs.Lookup(e.ctx, e.dir, x.Name)
				e.ok(err)
				if x.ID != a.ID || x.Mode&syscall.S_IFMT != a.Type() || x.Held != 0 {
					e.Errorf("entry %+v of %+v", x, a)
				}
				if x.HasAttr && !same(x.Attr, a) {
					e.Errorf("readdir says %+v, lookup %+v", x.Attr, a)
				}
			}
		}
	}},
	{"after a cookie whose name has gone", func(e *env) {
		for i := range 50 {
			e.file(e.dir, fmt.Sprint("f", i), "")
		}
		all := e.list(e.dir, 100, false)
		for _, i := range []int{0, 20, 48} {
			e.ok(e.fs.Unlink(e.ctx, e.dir, all[i].Name))
			es, _, err := e.fs.ReadDir(e.ctx, e.dir, all[i].Cookie, 1, false)
			e.ok(err)
			if len(es) != 1 || es[0].Name != all[i+1].Name {
				e.Errorf("after %q: %+v, want %q", all[i].Name, es, all[i+1].Name)
			}
		}
	}},
	{"after any cookie", func(e *env) {
		for i := range 20 {
			e.file(e.dir, fmt.Sprint("f", i), "")
		}
		all := e.list(e.dir, 100, false)
		for i, x := range all {
			es, end, err := e.fs.ReadDir(e.ctx, e.dir, x.Cookie-1, 3, false)
			e.ok(err)
			if len(es) != min(3, len(all)-i) || es[0].Name != x.Name || end != (i+3 >= len(all)) && end {
				e.Errorf("before %q: %d entries, end %v", x.Name, len(es), end)
			}
		}
		for _, after := range []volume.Cookie{volume.CookieLast, volume.CookieLast + 1, all[len(all)-1].Cookie} {
			es, end, err := e.fs.ReadDir(e.ctx, e.dir, after, 3, false)
			e.ok(err)
			if len(es) != 0 || !end {
				e.Errorf("after the last cookie: %d entries, end %v", len(es), end)
			}
		}
	}},
	{"after a rename of the directory", func(e *env) {
		d := e.mkdir(e.dir, "d")
		for i := range 30 {
			e.file(d, fmt.Sprint("f", i), "")
		}
		all := e.list(d, 100, false)
		e.ok(e.fs.Rename(e.ctx, e.dir, "d", e.dir, "moved", 0))
		es, end, err := e.fs.ReadDir(e.ctx, d, all[9].Cookie, 100, false)
		e.ok(err)
		if len(es) != 20 || !end || es[0].Name != all[10].Name {
			e.Errorf("%d entries, end %v", len(es), end)
		}
	}},
	{"while others create, rename and unlink", listWhileChanging},
	{"sync", func(e *env) {
		e.file(e.dir, "f", "")
		e.ok(e.fs.Sync(e.ctx, e.dir))
		e.ok(e.fs.Sync(e.ctx, volume.Root))
		a, err := e.fs.Lookup(e.ctx, e.dir, "f")
		e.ok(err)
		e.ok(e.fs.Sync(e.ctx, a.ID))
	}},
	{"statfs", func(e *env) {
		s, err := e.fs.Statfs(e.ctx)
		e.ok(err)
		if s.Total == 0 || s.Free > s.Total || s.Available > s.Free || s.BlockSize == 0 || s.NameMax != volume.NameMax || s.FilesFree > s.Files {
			e.Errorf("%+v", s)
		}
	}},
}

// listWhileChanging lists a directory over and over, while a goroutine makes,
// renames and removes names in it: those that stay must be seen once each.
func listWhileChanging(e *env) {
	stay := map[string]bool{}
	for i := range e.count(200) {
		name := fmt.Sprint("stay-", i)
		stay[name] = true
		e.file(e.dir, name, "")
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop.Store(true)
	for w := range 2 {
		wg.Go(func() {
			for i := 0; !stop.Load() && e.ctx.Err() == nil; i++ {
				a, b := fmt.Sprintf("go-%d-%d", w, i%50), fmt.Sprintf("gone-%d-%d", w, i%50)
				f, _, err := e.fs.Create(e.ctx, e.dir, a, regular, volume.Write)
				if err == nil {
					err = f.Close()
				}
				if err == nil {
					err = e.fs.Rename(e.ctx, e.dir, a, e.dir, b, 0)
				}
				if err == nil && i%3 > 0 {
					err = e.fs.Unlink(e.ctx, e.dir, b)
				}
				if err != nil {
					e.Errorf("worker %d: %v", w, err)
					return
				}
			}
		})
	}
	for round := range e.count(30) {
		seen := map[string]int{}
		for _, x := range e.list(e.dir, []int{3, 17, 64}[round%3], round%2 == 0) {
			seen[x.Name]++
		}
		for name := range stay {
			if seen[name] != 1 {
				e.Fatalf("round %d: %q was listed %d times", round, name, seen[name])
			}
		}
	}
}
