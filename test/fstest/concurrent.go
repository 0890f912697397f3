package fstest

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// workers is how many goroutines a concurrent test uses.
const workers = 6

var concurrentTests = []test{
	{"one exclusive create wins", func(e *env) {
		for round := range e.count(40) {
			name := fmt.Sprint("f", round)
			e.oneWins(syscall.EEXIST, func() error {
				f, _, err := e.fs.Create(e.ctx, e.dir, name, regular, volume.Write|volume.Excl)
				if err == nil {
					err = f.Close()
				}
				return err
			})
		}
	}},
	{"a create without exclusive always gets the one file", func(e *env) {
		for round := range e.count(40) {
			name := fmt.Sprint("f", round)
			var ids sync.Map
			e.parallel(func(int) {
				f, a, err := e.fs.Create(e.ctx, e.dir, name, regular, volume.Write)
				if err != nil {
					e.Errorf("create: %v", err)
					return
				}
				ids.Store(a.ID, true)
				if err := f.Close(); err != nil {
					e.Errorf("close: %v", err)
				}
			})
			n := 0
			ids.Range(func(any, any) bool { n++; return true })
			if n != 1 {
				e.Fatalf("%d files were made under one name", n)
			}
		}
	}},
	{"one mkdir wins", func(e *env) {
		for round := range e.count(40) {
			e.oneWins(syscall.EEXIST, func() error {
				_, err := e.fs.Make(e.ctx, e.dir, fmt.Sprint("d", round), volume.Node{Mode: syscall.S_IFDIR | 0o755})
				return err
			})
			e.nlink(e.dir, uint32(round)+3)
		}
	}},
	{"one unlink wins", func(e *env) {
		for round := range e.count(40) {
			e.file(e.dir, fmt.Sprint("f", round), "")
			e.oneWins(syscall.ENOENT, func() error { return e.fs.Unlink(e.ctx, e.dir, fmt.Sprint("f", round)) })
		}
		e.lists(e.dir)
	}},
	{"one rmdir wins", func(e *env) {
		for round := range e.count(40) {
			e.mkdir(e.dir, fmt.Sprint("d", round))
			e.oneWins(syscall.ENOENT, func() error { return e.fs.Rmdir(e.ctx, e.dir, fmt.Sprint("d", round)) })
		}
		e.nlink(e.dir, 2)
	}},
	{"one link wins", func(e *env) {
		id := e.file(e.dir, "f", "")
		for round := range e.count(40) {
			e.oneWins(syscall.EEXIST, func() error {
				_, err := e.fs.Link(e.ctx, id, e.dir, fmt.Sprint("l", round))
				return err
			})
		}
		e.nlink(id, uint32(e.count(40))+1)
	}},
	{"one rename away wins", func(e *env) {
		for round := range e.count(40) {
			id := e.file(e.dir, fmt.Sprint("f", round), "")
			var n atomic.Int64
			e.oneWins(syscall.ENOENT, func() error {
				return e.fs.Rename(e.ctx, e.dir, fmt.Sprint("f", round), e.dir, fmt.Sprintf("g%d-%d", round, n.Add(1)), 0)
			})
			if got := e.namesOf(id); len(got) != 1 {
				e.Fatalf("the file has the names %q", got)
			}
		}
	}},
	{"one rename without replacing wins", func(e *env) {
		for round := range e.count(30) {
			for w := range workers {
				e.file(e.dir, fmt.Sprintf("f%d-%d", round, w), "")
			}
			var n atomic.Int64
			e.oneWins(syscall.EEXIST, func() error {
				return e.fs.Rename(e.ctx, e.dir, fmt.Sprintf("f%d-%d", round, n.Add(1)-1), e.dir, fmt.Sprint("g", round), volume.RenameNoReplace)
			})
		}
	}},
	{"appends keep whole", appendsKeepWhole},
	{"a replaced name always exists", replacedAlwaysExists},
	{"a renamed object is always somewhere", renamedIsSomewhere},
	{"rmdir against create", rmdirAgainstCreate},
	{"opposing directory renames", opposingRenames},
	{"swaps lose nothing", func(e *env) {
		a, b := e.file(e.dir, "a", ""), e.file(e.dir, "b", "")
		e.parallel(func(int) {
			for range e.count(30) {
				if err := e.fs.Rename(e.ctx, e.dir, "a", e.dir, "b", volume.RenameExchange); err != nil {
					e.Errorf("exchange: %v", err)
				}
			}
		})
		e.lists(e.dir, "a", "b")
		if len(e.namesOf(a)) != 1 || len(e.namesOf(b)) != 1 {
			e.Errorf("names %q and %q", e.namesOf(a), e.namesOf(b))
		}
	}},
	{"links and unlinks count right", func(e *env) {
		id := e.file(e.dir, "f", "")
		e.parallel(func(w int) {
			for i := range e.count(30) {
				name := fmt.Sprintf("l%d-%d", w, i)
				if _, err := e.fs.Link(e.ctx, id, e.dir, name); err != nil {
					e.Errorf("link: %v", err)
				}
				if err := e.fs.Unlink(e.ctx, e.dir, name); err != nil {
					e.Errorf("unlink: %v", err)
				}
			}
		})
		e.nlink(id, 1)
		e.lists(e.dir, "f")
	}},
}

// parallel runs f in several goroutines and waits for them.
func (e *env) parallel(f func(worker int)) {
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { f(w) })
	}
	wg.Wait()
	if e.Failed() {
		e.FailNow()
	}
}

// oneWins runs f in several goroutines: one must succeed, the others fail with errno.
func (e *env) oneWins(errno syscall.Errno, f func() error) {
	e.Helper()
	var won atomic.Int64
	e.parallel(func(int) {
		switch err := f(); volume.ErrnoOf(err) {
		case 0:
			won.Add(1)
		case errno:
		default:
			e.Errorf("%v, want success or %v", err, errno)
		}
	})
	if won.Load() != 1 {
		e.Fatalf("%d of %d succeeded", won.Load(), workers)
	}
}

// appendsKeepWhole appends records from several handles: each must be there
// once, unbroken, where Append said, and those of one writer in their order.
func appendsKeepWhole(e *env) {
	id := e.file(e.dir, "f", "")
	var places sync.Map // offset → record
	n := e.count(60)
	e.parallel(func(w int) {
		f, err := e.fs.Open(e.ctx, id, volume.Write|volume.Append)
		if err != nil {
			e.Errorf("open: %v", err)
			return
		}
		for i := range n {
			rec := fmt.Sprintf("[%d:%d:%s]", w, i, strings.Repeat("x", i*37%2000))
			off, err := f.Append(e.ctx, []byte(rec), 0)
			if err != nil {
				e.Errorf("append: %v", err)
			}
			places.Store(off, rec)
		}
		if err := f.Close(); err != nil {
			e.Errorf("close: %v", err)
		}
	})
	content, at, next := e.content(id), 0, map[int]int{}
	for at < len(content) {
		v, ok := places.Load(int64(at))
		if !ok || !strings.HasPrefix(content[at:], v.(string)) {
			e.Fatalf("at %d: %.60q, want %.60q", at, content[at:], v)
		}
		var w, i int
		if _, err := fmt.Sscanf(v.(string), "[%d:%d:", &w, &i); err != nil || next[w] != i {
			e.Fatalf("record %.20q out of order: %v", v, err)
		}
		next[w] = i + 1
		at += len(v.(string))
	}
	for w := range workers {
		if next[w] != n {
			e.Errorf("writer %d has %d of %d records", w, next[w], n)
		}
	}
}

// replacedAlwaysExists renames files onto one name, which must never be missing.
func replacedAlwaysExists(e *env) {
	e.file(e.dir, "target", "0")
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !done.Load() {
			if _, err := e.fs.Lookup(e.ctx, e.dir, "target"); err != nil {
				e.Errorf("lookup: %v", err)
				return
			}
		}
	})
	e.parallel(func(w int) {
		for i := range e.count(30) {
			name := fmt.Sprintf("temp%d-%d", w, i)
			f, _, err := e.fs.Create(e.ctx, e.dir, name, regular, volume.Write)
			if err == nil {
				err = f.Close()
			}
			if err == nil {
				err = e.fs.Rename(e.ctx, e.dir, name, e.dir, "target", 0)
			}
			if err != nil {
				e.Errorf("replace: %v", err)
				return
			}
		}
	})
	done.Store(true)
	wg.Wait()
	e.lists(e.dir, "target")
}

// renamedIsSomewhere looks for a file under its old name and then under its new
// one while it is renamed: one of them must be there.
func renamedIsSomewhere(e *env) {
	for round := range e.count(100) {
		a, b := fmt.Sprint("a", round), fmt.Sprint("b", round)
		e.file(e.dir, a, "")
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := e.fs.Rename(e.ctx, e.dir, a, e.dir, b, 0); err != nil {
				e.Errorf("rename: %v", err)
			}
		})
		for {
			if _, err := e.fs.Lookup(e.ctx, e.dir, a); err == nil {
				continue
			}
			_, err := e.fs.Lookup(e.ctx, e.dir, b)
			if err != nil {
				e.Errorf("the file is under neither name: %v", err)
			}
			break
		}
		wg.Wait()
		e.missing(e.dir, a)
	}
}

// rmdirAgainstCreate lets a create in a directory and its removal meet: one fails.
func rmdirAgainstCreate(e *env) {
	for round := range e.count(60) {
		name := fmt.Sprint("d", round)
		d := e.mkdir(e.dir, name)
		var made, removed error
		var wg sync.WaitGroup
		wg.Go(func() {
			var f volume.File
			if f, _, made = e.fs.Create(e.ctx, d, fmt.Sprint("f", round), regular, volume.Write); made == nil {
				made = f.Close()
			}
		})
		wg.Go(func() { removed = e.fs.Rmdir(e.ctx, e.dir, name) })
		wg.Wait()
		switch {
		case made == nil && removed == nil:
			e.Fatal("a file was made in a directory that was removed")
		case made == nil:
			e.fails(removed, syscall.ENOTEMPTY)
			e.holds(e.dir, name, d)
			e.lists(d, fmt.Sprint("f", round))
		case removed == nil:
			e.fails(made, syscall.ESTALE, syscall.ENOENT)
			e.missing(e.dir, name)
		default:
			e.Fatalf("both failed, which no order explains: create: %v; rmdir: %v", made, removed)
		}
	}
}

// opposingRenames moves a into b and b into a: no more than one can work.
func opposingRenames(e *env) {
	for round := range e.count(40) {
		top := e.mkdir(e.dir, fmt.Sprint("t", round))
		a, b := e.mkdir(top, "a"), e.mkdir(top, "b")
		var first, second error
		var wg sync.WaitGroup
		wg.Go(func() { first = e.fs.Rename(e.ctx, top, "a", b, "x", 0) })
		wg.Go(func() { second = e.fs.Rename(e.ctx, top, "b", a, "x", 0) })
		wg.Wait()
		switch {
		case first == nil && second == nil:
			e.Fatal("two directories lie in each other")
		case first == nil:
			e.fails(second, syscall.EINVAL)
			e.lists(top, "b")
			e.holds(b, "x", a)
		case second == nil:
			e.fails(first, syscall.EINVAL)
			e.lists(top, "a")
			e.holds(a, "x", b)
		default:
			e.Fatalf("both failed: %v; %v", first, second)
		}
	}
}
