package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"
)

func TestMedianAndSpread(t *testing.T) {
	for _, c := range []struct {
		v              []float64
		median, spread float64
	}{
		{nil, 0, 0},
		{[]float64{7}, 7, 0},
		{[]float64{30, 10, 20}, 20, 1},
		{[]float64{4, 1, 3, 2}, 2.5, 1.2},
	} {
		if got := median(c.v); got != c.median {
			t.Errorf("median(%v) = %v, want %v", c.v, got, c.median)
		}
		if got := spread(c.v); got != c.spread {
			t.Errorf("spread(%v) = %v, want %v", c.v, got, c.spread)
		}
	}
}

func TestMedianLeavesItsArgument(t *testing.T) {
	v := []float64{3, 1, 2}
	median(v)
	if !slices.Equal(v, []float64{3, 1, 2}) {
		t.Errorf("median sorted the rounds in place: %v", v)
	}
}

func TestNumber(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 0.1234: "0.123", 7.891: "7.89", 99.95: "100", 511.4: "511",
		9876: "9,880", 12345: "12,300", 999600: "1,000,000", 1234567: "1,230,000",
	} {
		if got := number(x); got != want {
			t.Errorf("number(%v) = %q, want %q", x, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	for only, want := range map[string]string{
		"":                     strings.Join(names(workloads()), ","),
		"mkdir":                "mkdir",
		"unlink":               "mkdir,create-4k,rename,unlink",
		"tree-remove,mkdir":    "mkdir,tree-copy,tree-remove",
		"rand-write-4k-direct": "seq-write-1m,rand-write-4k-direct",
	} {
		got, err := choose(workloads(), only)
		if err != nil || strings.Join(names(got), ",") != want {
			t.Errorf("choose(%q) = %v, %v; want %s", only, names(got), err, want)
		}
	}
	if _, err := choose(workloads(), "mkdri"); err == nil || !strings.Contains(err.Error(), "create-4k") {
		t.Errorf("an unknown workload: %v, want an error that lists those there are", err)
	}
}

// TestNeedsComeFirst: what a workload needs runs before it.
func TestNeedsComeFirst(t *testing.T) {
	seen := map[string]bool{"": true}
	for _, w := range workloads() {
		if !seen[w.needs] {
			t.Errorf("%s needs %s, which has not run by then", w.name, w.needs)
		}
		if seen[w.name] {
			t.Errorf("two workloads are called %s", w.name)
		}
		seen[w.name] = true
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-shape", "rep3", "-rounds", "5"}, io.Discard)
	if err != nil || o.shape != "rep3" || o.rounds != 5 || o.files != 2000 || o.sizeMiB != 512 || o.randomFor != 3*time.Second {
		t.Errorf("parse: %+v, %v", o, err)
	}
	for _, wrong := range [][]string{{"-shape", "ring"}, {"-peers", "ceph"}, {"-rounds", "0"}, {"rounds"}, {"-nonsense"}} {
		if _, err := parse(wrong, io.Discard); err == nil {
			t.Errorf("parse(%v) succeeded", wrong)
		}
	}
}

func TestReport(t *testing.T) {
	r := report{
		shape: "dist3", when: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), machine: "2 CPUs", disk: "a disk", rounds: 3,
		knobs:     knobs{files: 10, threads: 4, sizeMiB: 16, randomFor: time.Second, tree: "/src"},
		workloads: []workload{{name: "mkdir", unit: "dirs"}, {name: "create-4k", unit: "files"}},
		targets:   []target{{name: "mortar", about: "Mortar 1"}, {name: "glusterfs", about: "GlusterFS 10.3"}},
		rates:     rates{},
	}
	for _, x := range []float64{900, 1000, 1100} {
		r.rates.add("mkdir", "mortar", x)
		r.rates.add("mkdir", "glusterfs", x/2)
		r.rates.add("create-4k", "mortar", x)
		r.rates.add("create-4k", "glusterfs", x*2)
	}
	const want = `## dist3

Measured 2026-01-02 03:04 UTC on 2 CPUs; all on a disk. Medians of 3 interleaved rounds, units per second; 10 small files, 4 threads, a large file of 16 MiB, 1s of random blocks, the tree /src.

- mortar: Mortar 1
- glusterfs: GlusterFS 10.3

| workload  | unit  | mortar | glusterfs | mortar ÷ glusterfs | mortar's spread |
|-----------|-------|-------:|----------:|-------------------:|----------------:|
| mkdir     | dirs  |  1,000 |       500 |               2.00 |            20 % |
| create-4k | files |  1,000 |     2,000 |               0.50 |            20 % |

Slower than GlusterFS: create-4k.
`
	if got := r.markdown(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPlace(t *testing.T) {
	const intro = "# Benchmarks\n\nWords.\n"
	one := place(intro, "dist3", "old dist3\n")
	two := place(one, "rep3", "rep3\n")
	three := place(two, "dist3", "new dist3\n")
	want := intro + "\n" + begin("dist3") + "new dist3\n" + end("dist3") + "\n" + begin("rep3") + "rep3\n" + end("rep3")
	if three != want {
		t.Errorf("got\n%s\nwant\n%s", three, want)
	}
	if place(three, "dist3", "new dist3\n") != three {
		t.Error("placing the same again changes the document")
	}
}

func TestMountTypeIn(t *testing.T) {
	const info = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:50 / /mnt/a rw,nosuid shared:9 - fuse.mortar host:/demo rw,user_id=0
41 22 7:0 / /mnt/b rw shared:2 master:3 - ext4 /dev/loop0 rw
42 41 0:51 / /mnt/b rw - fuse.loopback b rw
`
	for dir, want := range map[string]string{"/": "ext4", "/mnt/a": "fuse.mortar", "/mnt/b": "fuse.loopback", "/mnt": "", "/mnt/a/b": ""} {
		if got := mountTypeIn(info, dir); got != want {
			t.Errorf("mountTypeIn(%q) = %q, want %q", dir, got, want)
		}
	}
}

func TestVersions(t *testing.T) {
	if got := glusterVersion("glusterfs 10.3\nRepository revision: git://…\n"); got != "GlusterFS 10.3" {
		t.Errorf("glusterVersion: %q", got)
	}
	for _, out := range []string{"mortar v1.2\ngo1.26\n", "v1.2\n"} {
		if got := mortarVersion(out); got != "Mortar v1.2" {
			t.Errorf("mortarVersion(%q) = %q", out, got)
		}
	}
	const cpuinfo = "processor\t: 0\nmodel name\t: A Processor\n\nprocessor\t: 1\nmodel name\t: A Processor\n"
	if got := describe(2, cpuinfo, "MemTotal:       25165824 kB\nMemFree: 1 kB\n", "6.1.0"); got != "2 CPUs (A Processor), 24 GiB, Linux 6.1.0" {
		t.Errorf("describe: %q", got)
	}
	if got := describe(4, "", "", "6.1.0"); got != "4 CPUs, Linux 6.1.0" {
		t.Errorf("describe: %q", got)
	}
}

func TestAlignedBlock(t *testing.T) {
	for range 100 {
		if b := alignedBlock(4096); len(b) != 4096 || uintptr(unsafe.Pointer(&b[0]))%4096 != 0 {
			t.Fatalf("%d bytes at %p", len(b), &b[0])
		}
	}
}

func TestParallel(t *testing.T) {
	hits := make([]int, 103)
	if err := parallel(t.Context(), 4, len(hits), func(i int) error { hits[i]++; return nil }); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(hits, func(n int) bool { return n != 1 }) {
		t.Errorf("each number once, got %v", hits)
	}
	bad := errors.New("bad")
	if err := parallel(t.Context(), 4, 10, func(i int) error {
		if i == 7 {
			return bad
		}
		return nil
	}); err != bad {
		t.Errorf("got %v, want the error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := parallel(ctx, 2, 10, func(int) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestTakeDown: in reverse, all of it in spite of failures, once.
func TestTakeDown(t *testing.T) {
	var said strings.Builder
	var order []string
	s := &site{out: &said}
	note := func(name string, err error) {
		s.later(name, func(context.Context) error { order = append(order, name); return err })
	}
	note("first", nil)
	note("second", errors.New("stuck"))
	note("third", nil)
	s.takeDown()
	s.takeDown()
	if got := strings.Join(order, " "); got != "third second first" {
		t.Errorf("undone: %s", got)
	}
	if !strings.Contains(said.String(), "could not second: stuck") {
		t.Errorf("the failure is not reported: %q", said.String())
	}
}

// TestServe: a program's end is waited for, and a failing command says why.
func TestServe(t *testing.T) {
	s, err := newSite(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.takeDown)
	if err := s.serve("follower", "tail", "-f", filepath.Join(s.dir, "follower.log")); err != nil {
		t.Fatal(err)
	}
	if got := s.processes("tail"); len(got) != 1 {
		t.Errorf("processes of the site: %v, want the one", got)
	}
	s.takeDown()
	if got := s.processes("tail"); len(got) > 0 {
		t.Errorf("still there: %v", got)
	}
	if _, err := os.Stat(s.dir); err == nil {
		t.Errorf("%s is left", s.dir)
	}
	if err := command(t.Context(), "sh", "-c", "echo the reason >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("got %v", err)
	}
}

// TestWorkloads runs every workload once, small, on a plain directory: each
// finds what it needs, checks what it reads, and leaves what the next one needs.
func TestWorkloads(t *testing.T) {
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "a.go"), []byte("package a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(scratch, "mortar-bench-test-") // O_DIRECT needs a disk
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	k := knobs{files: 40, threads: 3, sizeMiB: 2, randomFor: 20 * time.Millisecond, tree: tree}
	wantUnits := map[string]float64{
		"mkdir": 200, "create-4k": 40, "stat-warm": 40, "ls-l-cold": 1 + 20 + 40, "append-fsync": 300,
		"seq-write-1m": 2, "seq-read-1m-cold": 2, "tree-copy": 2, "tree-remove": 2,
	}
	for _, w := range workloads() {
		units, err := w.run(t.Context(), k, dir)
		if err != nil {
			t.Fatalf("%s: %v", w.name, err)
		}
		if want, ok := wantUnits[w.name]; ok && units != want || units <= 0 {
			t.Errorf("%s did %v units, want %v", w.name, units, want)
		}
	}
}
