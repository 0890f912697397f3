package oplog

import (
	"fmt"
	"sync/atomic"
	"testing"
)

// BenchmarkAppend appends records as a write or a create has them, to a real file.
func BenchmarkAppend(b *testing.B) {
	for _, body := range []int{100, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(body), func(b *testing.B) {
			l := must(Open(b.TempDir(), Options{}))
			defer l.Close()
			r := Record{Keys: []Key{{Kind: EntryKey, ID: id(1), Name: "some-name.txt"}, objectKey(2)}, Request: req(1), Body: make([]byte, body)}
			b.SetBytes(int64(body))
			b.ReportAllocs()
			for b.Loop() {
				r.Seq++
				if err := l.Append(r); err != nil {
					b.Fatal(err)
				}
				l.Finished(r.Point)
			}
		})
	}
}

func BenchmarkAmend(b *testing.B) {
	l := must(Open(b.TempDir(), Options{}))
	defer l.Close()
	outcome := make([]byte, 150)
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Amend(Point{1, 1}, outcome); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkKnown adds what is in the set already, as repeated writes to a file do.
func BenchmarkKnown(b *testing.B) {
	d := must(OpenDirty(b.TempDir(), DirtyOptions{}))
	defer d.Close()
	keys := []Key{objectKey(1), {Kind: ExtentKey, ID: id(1)}}
	changeOf(b, d, d.Add(keys...))
	b.ReportAllocs()
	for b.Loop() {
		h := d.Add(keys...)
		if err := d.Sync(ctx, h); err != nil {
			b.Fatal(err)
		}
		d.Release(h)
	}
}

// BenchmarkBorn makes files in one directory.
func BenchmarkBorn(b *testing.B) {
	d := must(OpenDirty(b.TempDir(), DirtyOptions{Born: 1 << 30}))
	defer d.Close()
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		f := id(n)
		f[5], f[6] = byte(n>>16), byte(n>>24)
		h := d.Born(f, id(1), Key{Kind: EntryKey, ID: id(1), Name: "x"}, objectKey(1), Key{Kind: ObjectKey, ID: f})
		if err := d.Sync(ctx, h); err != nil {
			b.Fatal(err)
		}
		d.Release(h)
	}
}

// BenchmarkNew adds keys that are new, from 1 and from 64 callers: fdatasyncs, shared.
func BenchmarkNew(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			s := must(OpenKeySet(b.TempDir(), "queue", SetOptions{}))
			defer s.Close()
			var n atomic.Int64
			b.SetParallelism(callers)
			b.ReportAllocs()
			add := func() {
				i := n.Add(1)
				k := objectKey(int(i))
				k.ID[5], k.ID[6] = byte(i>>16), byte(i>>24)
				if err := s.Sync(ctx, s.Add(k)); err != nil {
					b.Error(err)
				}
			}
			if callers == 1 {
				for b.Loop() {
					add()
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					add()
				}
			})
		})
	}
}

// BenchmarkOpen reads a queue of 100,000 keys.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s := must(OpenKeySet(dir, "queue", SetOptions{}))
	for n := range 100_000 {
		k := entryKey(n, "a-name-as-they-are")
		k.ID[5] = byte(n >> 16)
		s.Add(k)
	}
	check(b, s.Close())
	b.ReportAllocs()
	for b.Loop() {
		must(OpenKeySet(dir, "queue", SetOptions{})).Close()
	}
}
