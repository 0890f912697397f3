package cluster

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Programs on mounts without options, while members of a set of three, and of two such sets, are killed, stopped and cut
// off at random. Not soaking: a set of three, for a moment.
func TestSoakProgramsUnderFaults(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	length, shapes := 8*time.Second, map[string]int{"1x3": 1}
	if soaking() {
		length, shapes["2x3"] = time.Minute, 2
	}
	for name, sets := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newProgramTrial(t, sets)
			end := time.Now().Add(soakFor())
			for n := uint64(0); (n == 0 || time.Now().Before(end)) && !t.Failed(); n++ {
				x.round(seed+n*16+uint64(sets), length, timeouts[n%uint64(len(timeouts))])
				t.Logf("round %d, in all: %d kills, %d of primaries; ledger: %d acknowledged, %d lost; %v", n, x.kills, x.primaries, x.acknowledged, x.lost, x.report)
			}
		})
	}
}

// timeouts are network.timeout of one round after the other: what is usual, which nothing should fail with, and one that
// is over before the faults are, so that it is seen how failures are told.
var timeouts = []time.Duration{10 * time.Second, time.Second}

// programTrial is a volume under faults, and what came of it.
type programTrial struct {
	t      *testing.T
	c      *Cluster
	sets   int
	mounts []string

	kills, primaries   int
	acknowledged, lost int
	report             Report
}

func newProgramTrial(t *testing.T, sets int) *programTrial {
	c := New(t, 3)
	c.Pool()
	c.Replicated("v", sets)
	x := &programTrial{t: t, c: c, sets: sets, report: Report{Did: map[string]int{}, Failed: map[string]int{}}}
	for i := range c.Servers {
		x.mounts = append(x.mounts, c.Mount(i, "v"))
	}
	return x
}

// round has programs at work under faults for a while; then all must be well. The ledger's clients, on the same
// mounts, tell when all are served again.
func (x *programTrial) round(seed uint64, length, timeout time.Duration) {
	x.t.Helper()
	phase := Phases(x.t)
	x.c.Servers[0].Must("volume", "set", "v", "network.timeout", strconv.Itoa(int(timeout.Seconds())))
	ledger := StartLedger(x.t, seed, len(x.mounts), x.mounts...)
	programs := StartPrograms(x.t, seed, timeout, x.mounts...)
	s := &Saboteur{c: x.c, volume: "v", sets: x.sets, dice: rand.New(rand.NewPCG(seed, 99))}
	s.Harass(length, ledger)
	phase("faults: " + s.String())
	x.c.AwaitInSync("v")
	account := ledger.Finish(x.mounts[0])
	report := programs.Finish()
	phase("verdict")
	x.c.AwaitInSync("v")
	x.c.AwaitEqual("v")
	phase("compared")
	for _, d := range []string{programs.dir, ledger.dir} {
		if err := os.RemoveAll(filepath.Join(x.mounts[0], d)); err != nil {
			x.t.Error(err)
		}
	}
	x.kills, x.primaries = x.kills+s.Kills, x.primaries+s.Primary
	x.acknowledged, x.lost = x.acknowledged+account.Acknowledged, x.lost+account.Lost
	x.report.add(report)
	if report.Wrong+len(report.Failed)+len(account.Failures) > 0 {
		keepLogs(x.c.Dir)
	}
}

// What a program may not be told is noticed.
func TestReplacedCurrent(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }
	first, second := version{0, 1}, version{1, 1}
	all := map[version]span{first: {at(0), at(10)}, second: {at(100), at(110)}}
	for _, c := range []struct {
		what             string
		v                version
		mount            int
		opened, believes int
		wrong            bool
	}{
		{"the newest", second, 2, 5000, 5000, false},
		{"replaced, and believed", first, 2, 600, 50, false},
		{"replaced before the kernel was told", first, 2, 1200, 120, true},
		{"replaced on the same mount", first, 1, 120, 50, true},
		{"never written", version{1, 7}, 2, 120, 50, true},
	} {
		r := &newestName{p: &Programs{}}
		r.mu.all = maps.Clone(all)
		r.current(c.v, c.mount, at(c.opened), at(c.believes))
		if got := len(r.p.mu.wrong) > 0; got != c.wrong {
			t.Errorf("%s: wrong is %v: %q", c.what, got, r.p.mu.wrong)
		}
	}
}
