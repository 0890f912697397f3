package remote_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/volume"
)

// still is a backend that does nothing, so that what is measured is the way to it.
type still struct{ volume.FS }

func (still) Step(context.Context, []byte) ([]byte, error) { return nil, nil }

func (still) Lookup(_ context.Context, _ volume.ID, name string) (volume.Attr, error) {
	return volume.Attr{ID: volume.Root, Mode: 0o40755, Nlink: 2}, nil
}

func (still) Open(context.Context, volume.ID, volume.Flags) (volume.File, error) {
	return stillFile{}, nil
}

type stillFile struct{ volume.File }

func (stillFile) ReadAt(_ context.Context, p []byte, _ int64) (int, error) { return len(p), nil }

func (stillFile) WriteAt(_ context.Context, p []byte, _ int64, _ volume.WriteFlags) (int, error) {
	return len(p), nil
}

func (stillFile) Close() error { return nil }

func benchRemote(b *testing.B) *remote.Remote {
	_, addr := serve(b, still{}, nil)
	r := connect(b, addr, nil)
	if err := r.Await(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { // says more than the time does where others use the machine too
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
		cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
		b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
	})
	return r
}

func BenchmarkLookup(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			r := benchRemote(b)
			b.SetParallelism(max(1, callers/2))
			lookup := func() {
				if _, err := r.Lookup(context.Background(), volume.Root, "a-name-like-any"); err != nil {
					b.Error(err)
				}
			}
			if callers == 1 {
				for b.Loop() {
					lookup()
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					lookup()
				}
			})
		})
	}
}

func BenchmarkData(b *testing.B) {
	for _, size := range []int{4 << 10, 16 << 10, 128 << 10, 1 << 20} {
		for _, what := range []string{"read", "write"} {
			for _, callers := range []int{1, 4} {
				b.Run(fmt.Sprintf("%s/size=%dK/callers=%d", what, size>>10, callers), func(b *testing.B) {
					r := benchRemote(b)
					f, err := r.Open(context.Background(), volume.Root, volume.Read|volume.Write)
					if err != nil {
						b.Fatal(err)
					}
					b.SetBytes(int64(size))
					b.SetParallelism(max(1, callers/2))
					one := func(p []byte) {
						var err error
						if what == "read" {
							_, err = f.ReadAt(context.Background(), p, 0)
						} else {
							_, err = f.WriteAt(context.Background(), p, 0, 0)
						}
						if err != nil {
							b.Error(err)
						}
					}
					if callers == 1 {
						p := make([]byte, size)
						for b.Loop() {
							one(p)
						}
						return
					}
					b.RunParallel(func(pb *testing.PB) {
						p := make([]byte, size)
						for pb.Next() {
							one(p)
						}
					})
				})
			}
		}
	}
}
