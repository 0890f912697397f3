package dht

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// TestStormWithPowerLoss cuts the power of one set or all in the middle of
// random operations of all kinds but renames of directories, and looks whether
// the volume is whole after it.
func TestStormWithPowerLoss(t *testing.T) {
	s := seed(t)
	for i := range 30 {
		t.Run(strconv.Itoa(i), func(t *testing.T) { stormPower(t, rand.New(rand.NewPCG(s, uint64(i)))) })
	}
}

func stormPower(t *testing.T, rng *rand.Rand) {
	w := newWorldOf(t, newCluster(t, 3, true, model.WithPowerLoss()))
	st := &stormer{t: t, c: w.cluster, fs: w.fs, ctx: w.ctx, rng: rng, dirs: []volume.ID{volume.Root, w.dir, w.sub}, faults: true, files: true}
	for range 3 {
		for range 40 + rng.IntN(60) {
			st.op()
		}
		w.powerOff(rng)
		if wrong := w.check(); len(wrong) > 0 {
			w.tell()
			for _, x := range wrong {
				t.Error(x)
			}
			t.FailNow()
		}
		w.snapshot()
	}
}
