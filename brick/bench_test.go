package brick

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

func benchStore(b *testing.B) *Store { return benchStoreWith(b, Options{}) }

func benchStoreWith(b *testing.B, opt Options) *Store {
	path := onImage(b, "ext4", 2048) + "/brick"
	check(b, unix.Mkdir(path, 0o755))
	check(b, Init(ctx, path, testIdentity))
	return openBrick(b, path, opt)
}

// BenchmarkAppendSync appends 512 bytes to each of some files and syncs them, with and without the log of fsyncs.
func BenchmarkAppendSync(b *testing.B) {
	for name, opt := range map[string]Options{"log": {}, "none": {noLog: true}} {
		for _, files := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/%d", name, files), func(b *testing.B) {
				s := benchStoreWith(b, opt)
				var work sync.WaitGroup
				each := func(n int) {
					for i := range files {
						work.Go(func() {
							h, _, err := s.Create(ctx, volume.Root, fmt.Sprint(i), volume.Node{Mode: unix.S_IFREG | 0o644}, volume.Write)
							check(b, err)
							defer h.Close()
							for range n {
								_, err := h.Append(ctx, make([]byte, 512), 0)
								check(b, err)
								check(b, h.Sync(ctx, false))
							}
						})
					}
					work.Wait()
				}
				each(3)
				for !opt.noLog && !s.fsyncs.log.Usable() {
					runtime.Gosched()
				}
				b.ResetTimer()
				each(b.N)
			})
		}
	}
}

func BenchmarkCreate4K(b *testing.B) {
	s := benchStore(b)
	d := mkdir(b, s, volume.Root, "d")
	data := make([]byte, 4096)
	i := 0
	for b.Loop() {
		i++
		h, _, err := s.Create(ctx, d, fmt.Sprint(i), volume.Node{Mode: unix.S_IFREG | 0o644}, volume.Write|volume.Excl)
		check(b, err)
		_, err = h.WriteAt(ctx, data, 0, 0)
		check(b, err)
		h.Close()
	}
}

func BenchmarkBear4K(b *testing.B) {
	s := benchStore(b)
	d := mkdir(b, s, volume.Root, "d")
	n := volume.Node{Mode: unix.S_IFREG | 0o644, Data: make([]byte, 4096)}
	i := 0
	for b.Loop() {
		i++
		_, err := s.Make(ctx, d, fmt.Sprint(i), n)
		check(b, err)
	}
}

func benchFiles(b *testing.B, n int) (*Store, volume.ID, []volume.ID) {
	s := benchStore(b)
	d := mkdir(b, s, volume.Root, "d")
	ids := make([]volume.ID, n)
	for i := range ids {
		ids[i] = create(b, s, d, fmt.Sprint(i), "")
	}
	return s, d, ids
}

func BenchmarkLookup(b *testing.B) {
	s, d, ids := benchFiles(b, 1000)
	i := 0
	for b.Loop() {
		_, err := s.Lookup(ctx, d, fmt.Sprint(i%len(ids)))
		check(b, err)
		i++
	}
}

func BenchmarkLookupMissing(b *testing.B) {
	s, d, _ := benchFiles(b, 1000)
	for b.Loop() {
		_, err := s.Lookup(ctx, d, "missing")
		wants(b, err, unix.ENOENT)
	}
}

func BenchmarkGetattr(b *testing.B) {
	s, _, ids := benchFiles(b, 1000)
	i := 0
	for b.Loop() {
		_, err := s.Getattr(ctx, ids[i%len(ids)])
		check(b, err)
		i++
	}
}

func BenchmarkOpenReadClose4K(b *testing.B) {
	s, d, _ := benchFiles(b, 1)
	id := create(b, s, d, "x", string(make([]byte, 4096)))
	buf := make([]byte, 64<<10)
	for b.Loop() {
		h, err := s.Open(ctx, id, volume.Read)
		check(b, err)
		_, err = h.ReadAt(ctx, buf, 0)
		check(b, err)
		h.Close()
	}
}

func BenchmarkRename(b *testing.B) {
	s, d, _ := benchFiles(b, 1000)
	from, to := "0", "x"
	for b.Loop() {
		check(b, s.Rename(ctx, d, from, d, to, 0))
		from, to = to, from
	}
}

func BenchmarkCreateUnlink(b *testing.B) {
	s, d, _ := benchFiles(b, 1000)
	for b.Loop() {
		create(b, s, d, "x", "")
		check(b, s.Unlink(ctx, d, "x"))
	}
}

func BenchmarkMkdirRmdir(b *testing.B) {
	s, d, _ := benchFiles(b, 1000)
	for b.Loop() {
		mkdir(b, s, d, "x")
		check(b, s.Rmdir(ctx, d, "x"))
	}
}

func BenchmarkReadDirAttrs(b *testing.B) {
	s, d, ids := benchFiles(b, 10000)
	for b.Loop() {
		var after volume.Cookie
		n := 0
		for end := false; !end; {
			var ents []volume.Entry
			var err error
			ents, end, err = s.ReadDir(ctx, d, after, 1000, true)
			check(b, err)
			n += len(ents)
			after = ents[len(ents)-1].Cookie
		}
		if n != len(ids) {
			b.Fatal(n)
		}
	}
}
