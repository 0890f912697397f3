package dht

import (
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: what must never change has changed:\n%s\nwant\n%s", path, got, want)
	}
}

func TestHashGolden(t *testing.T) {
	var b strings.Builder
	for _, dir := range []volume.ID{volume.Root, {1, 2, 3, 15: 9}} {
		for _, name := range []string{"a", "Makefile", "ä ö", ".Makefile.Xa81bQ", ".profile", "..", ".x.", strings.Repeat("n", 255)} {
			fmt.Fprintf(&b, "%v %.20q %08x\n", dir, name, Hash(dir, name))
		}
	}
	golden(t, "hash.golden", b.String())
}

func TestHashName(t *testing.T) {
	for name, want := range map[string]string{
		"a": "a", "": "", ".a": ".a", ".a.": ".a.", "..a": "..a", ".a.b": "a", ".name.AbC123": "name",
		".tar.gz.q1": "tar.gz", "name.AbC123": "name.AbC123", "...": "...", "..a.b": ".a",
	} {
		if got := HashName(name); got != want {
			t.Errorf("HashName(%q) = %q, want %q", name, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { Hash(volume.Root, ".name.AbC123") }); n != 0 {
		t.Errorf("Hash allocates %v times", n)
	}
}

func randomWeights(rng *rand.Rand) []Weight {
	var ws []Weight
	for i := range 1 + rng.IntN(12) {
		w := rng.Uint64N(1 << (rng.IntN(50) + 1))
		if rng.IntN(5) == 0 {
			w = 0
		}
		ws = append(ws, Weight{volume.SetID(i + 1), w})
	}
	ws[rng.IntN(len(ws))].Weight++
	return ws
}

// sizes returns how much each set owns, by asking the layout, not its maker.
func sizes(l spec.Layout) map[volume.SetID]uint64 {
	m := map[volume.SetID]uint64{}
	for i, r := range l.Ranges {
		m[r.Set] += rangeEnd(l, i) - uint64(r.From)
	}
	return m
}

// TestLayoutProperties: whatever the weights, a layout is valid, its shares are
// exact to one hash value, OwnerOf agrees with a linear search, and a change
// moves exactly what it must.
func TestLayoutProperties(t *testing.T) {
	s := seed(t)
	rng := rand.New(rand.NewPCG(s, 0))
	for range 2000 {
		ws := randomWeights(rng)
		l, err := NewLayout(1, ws)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			checkShares(t, l, ws)
			checkOwner(t, rng, l)
			ws = randomWeights(rng)
			next, err := ChangeLayout(l, ws)
			if err != nil {
				t.Fatal(err)
			}
			if next.Version != l.Version+1 {
				t.Fatalf("version %d after %d", next.Version, l.Version)
			}
			var least uint64
			was, is := sizes(l), sizes(next)
			for set, n := range is {
				least += n - min(n, was[set])
			}
			if got := Moved(l, next); got != least {
				t.Fatalf("%d values moved, %d had to: %v to %v", got, least, l, next)
			}
			l = next
		}
	}
}

func checkShares(t *testing.T, l spec.Layout, ws []Weight) {
	t.Helper()
	if err := CheckLayout(l); err != nil {
		t.Fatalf("%v: %v", err, l)
	}
	total := new(big.Int)
	for _, w := range ws {
		total.Add(total, new(big.Int).SetUint64(w.Weight))
	}
	got := sizes(l)
	for _, w := range ws {
		want := new(big.Int).Mul(new(big.Int).SetUint64(w.Weight), new(big.Int).SetUint64(hashSpace))
		want.Div(want, total)
		if d := int64(got[w.Set]) - want.Int64(); d < -1 || d > 1 {
			t.Fatalf("set %d owns %d values, its share is %v", w.Set, got[w.Set], want)
		}
		delete(got, w.Set)
	}
	if len(got) > 0 {
		t.Fatalf("sets without weight own something: %v", got)
	}
}

func checkOwner(t *testing.T, rng *rand.Rand, l spec.Layout) {
	t.Helper()
	hashes := []uint32{0, 1<<32 - 1, rng.Uint32()}
	for _, r := range l.Ranges {
		hashes = append(hashes, r.From, r.From-1)
	}
	for _, h := range hashes {
		var want volume.SetID
		for _, r := range l.Ranges {
			if r.From <= h {
				want = r.Set
			}
		}
		if got := OwnerOf(&l, h); got != want {
			t.Fatalf("OwnerOf(%d) = %d, want %d: %v", h, got, want, l)
		}
	}
}

func TestLayoutRefuses(t *testing.T) {
	for _, ws := range [][]Weight{nil, {{1, 0}}, {{0, 1}}, {{1, 1}, {1, 1}}, {{1, 1<<63 + 1}, {2, 1 << 63}}} {
		if l, err := NewLayout(1, ws); err == nil {
			t.Errorf("weights %v give %v", ws, l)
		}
	}
	for _, l := range []spec.Layout{
		{}, {Version: 1}, {Version: 1, Ranges: []spec.Range{{From: 1, Set: 1}}}, {Version: 1, Ranges: []spec.Range{{From: 0, Set: 0}}},
		{Version: 1, Ranges: []spec.Range{{From: 0, Set: 1}, {From: 0, Set: 2}}},
		{Ranges: []spec.Range{{From: 0, Set: 1}}},
	} {
		if CheckLayout(l) == nil {
			t.Errorf("layout %v passes", l)
		}
	}
}

func TestFreeLimit(t *testing.T) {
	for s, want := range map[string]freeLimit{
		"": {percent: 10}, "5%": {percent: 5}, "0": {}, "1000": {bytes: 1000}, "1KB": {bytes: 1024}, "2k": {bytes: 2048}, "3MiB": {bytes: 3 << 20},
		"1.5GB": {bytes: 3 << 29}, "x": {}, "101%": {}, "-1": {}, "5XB": {}, "99999PB": {},
	} {
		if got := parseFreeLimit(s); got != want {
			t.Errorf("parseFreeLimit(%q) = %+v, want %+v", s, got, want)
		}
	}
}
