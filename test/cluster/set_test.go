package cluster

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/test/treecmp"
)

// seedOf returns MORTAR_SEED, or a new seed, and prints it.
func seedOf(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64); err == nil {
		seed = s
	}
	t.Logf("%s=%d", seedVariable, seed)
	return seed
}

// strict are mounts whose kernel believes nothing.
const strict = "entry-timeout=0,attribute-timeout=0"

// soakKills is how many processes a soak kills at least, if it is given the time.
const soakKills = 1000

// Clients of replicated volumes while members are killed, stopped and cut off at random: a set of three, two such
// sets, and a set of two with a third daemon that only votes. One round, or as many as a soak has time for, each with
// new clients and a verdict of its own.
func TestSoakSetUnderFaults(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	length := 10 * time.Second
	if soaking() {
		length = time.Minute
	}
	for i, shape := range []struct {
		name          string
		sets, members int
		near          bool
	}{{"1x3", 1, 3, false}, {"2x3", 2, 3, false}, {"1x2", 1, 2, false}, {"near", 1, 3, true}} {
		t.Run(shape.name, func(t *testing.T) {
			t.Parallel()
			x := newTrial(t, shape.sets, shape.members, shape.near)
			end := time.Now().Add(soakFor())
			for n := uint64(0); (n == 0 || time.Now().Before(end)) && !t.Failed(); n++ {
				x.round(seed+n*16+uint64(i), length)
				t.Logf("round %d, in all: %s", n, x)
			}
			if soaking() && x.kills < soakKills {
				t.Logf("only %d kills, a longer soak has %d", x.kills, soakKills)
			}
		})
	}
}

// trial is a volume under faults, and what came of it.
type trial struct {
	t      *testing.T
	c      *Cluster
	sets   int
	mounts []string // the same for all rounds

	kills, primaries, failovers int
	rests                       int // how often all clients were served again in between
	operations, unknown, groups int
	undecided                   int
	acknowledged, synced, lost  int
	errors                      map[string]int
	longest                     time.Duration // that a client waited for one operation
}

func newTrial(t *testing.T, sets, members int, near bool) *trial {
	c := New(t, 3)
	c.Pool()
	c.Replicated("v", sets, c.Servers[:members]...)
	x := &trial{t: t, c: c, sets: sets, errors: map[string]int{}}
	for i, s := range c.Servers {
		if near {
			x.mounts = append(x.mounts, c.Guest(i).Mount(s.Name+":/v", strict))
		} else {
			x.mounts = append(x.mounts, c.Mount(i, "v", strict))
		}
	}
	if near {
		x.borrows()
	}
	return x
}

// borrows makes sure that a mount beside the primary reads by itself.
func (x *trial) borrows() {
	x.t.Helper()
	path := filepath.Join(x.mounts[0], "borrowed")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		x.t.Fatal(err)
	}
	defer os.Remove(path)
	Eventually(x.t, "a mount reads by itself", func() error {
		for _, dir := range x.mounts {
			f, err := os.OpenFile(filepath.Join(dir, "borrowed"), os.O_RDONLY|unix.O_DIRECT, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			b := make([]byte, 8192)
			b = b[4096-int(uintptr(unsafe.Pointer(&b[0]))%4096):][:4096]
			for range 10 {
				if _, err := f.ReadAt(b, 0); err != nil {
					return err
				}
			}
			if borrowed(x.c.Client.MountPID(dir)) > 0 {
				return nil
			}
		}
		return errors.New("no mount has a descriptor of a brick's file")
	})
}

// borrowed counts the descriptors that a process has of bricks' files.
func borrowed(pid int) (n int) {
	all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range all {
		if to, err := os.Readlink(fd); err == nil && strings.Contains(to, "/.mortar/") {
			n++
		}
	}
	return n
}

func (x *trial) String() string {
	var errs []string
	for _, what := range slices.Sorted(maps.Keys(x.errors)) {
		errs = append(errs, fmt.Sprintf("%s × %d", what, x.errors[what]))
	}
	return fmt.Sprintf("%d kills, %d of primaries; %d failovers; all served in between %d times; %d operations in %d groups, %d with unknown outcome, %d groups undecided; "+
		"%d changes acknowledged in the ledger, %d synced, %d lost; longest wait %v; errors seen: %s", x.kills, x.primaries, x.failovers, x.rests,
		x.operations, x.groups, x.unknown, x.undecided, x.acknowledged, x.synced, x.lost, x.longest.Round(time.Millisecond), strings.Join(errs, ", "))
}

// round has clients at work under faults for a while; then all must be well.
func (x *trial) round(seed uint64, length time.Duration) {
	x.t.Helper()
	phase := Phases(x.t)
	before := x.epochs()
	ledger := StartLedger(x.t, seed, 3, x.mounts...)
	witnesses := StartWitnesses(x.t, seed, 1, x.mounts...)
	s := &Saboteur{c: x.c, volume: "v", sets: x.sets, dice: rand.New(rand.NewPCG(seed, 99))}
	s.Harass(length, ledger)
	phase("faults: " + s.String())
	x.c.AwaitInSync("v")
	phase("heal")
	account := ledger.Finish(x.mounts[0])
	said := witnesses.Finish(os.Getenv("MORTAR_PICTURES"))
	phase("verdict")
	x.t.Log(said.Verdict)
	for set, epoch := range x.epochs() {
		x.failovers += int(epoch - before[set])
	}
	x.c.AwaitInSync("v")
	x.c.AwaitEqual("v")
	phase("compared")
	// The next round begins with little on the bricks, so that it is compared as fast.
	for _, d := range []string{"witness", ledger.dir} {
		if err := os.RemoveAll(filepath.Join(x.mounts[0], d)); err != nil {
			x.t.Error(err)
		}
	}
	x.add(s, account, said)
	if len(account.Failures)+len(said.Errors) > 0 {
		keepLogs(x.c.Dir)
	}
}

func (x *trial) add(s *Saboteur, a Account, said Testimony) {
	x.kills, x.primaries = x.kills+s.Kills, x.primaries+s.Primary
	x.rests += s.Rests
	x.operations, x.unknown, x.groups = x.operations+said.Operations, x.unknown+said.Unknown, x.groups+said.Groups
	x.undecided += len(said.Undecided)
	x.acknowledged, x.synced, x.lost = x.acknowledged+a.Acknowledged, x.synced+a.Synced, x.lost+a.Lost
	x.longest = max(x.longest, a.Slowest, said.Slowest)
	for _, errs := range []map[string]int{a.Failures, said.Errors} {
		for what, n := range errs {
			x.errors[what] += n
		}
	}
}

// epochs returns the sets' epochs.
func (x *trial) epochs() map[int]uint64 {
	members, err := x.c.Members("v")
	if err != nil {
		x.t.Fatal(err)
	}
	epochs := map[int]uint64{}
	for _, m := range members {
		epochs[m.Set] = max(epochs[m.Set], m.Epoch)
	}
	return epochs
}

// AwaitEqual waits until the members of each set of a volume hold the same on
// their disks, behind Mortar's back; nobody may change anything.
func (c *Cluster) AwaitEqual(name string) {
	c.t.Helper()
	for set, bricks := range c.bricksOf(name) {
		Eventually(c.t, fmt.Sprintf("the members of set %d are equal", set), func() error {
			return equal(bricks)
		})
	}
}

// equal says in what bricks differ or contradict themselves.
func equal(bricks []string) error {
	var wrong []string
	for i, b := range bricks {
		lines, err := treecmp.Check(b)
		if err != nil {
			return err
		}
		for _, l := range lines {
			wrong = append(wrong, filepath.Base(filepath.Dir(b))+": "+l)
		}
		if i == 0 {
			continue
		}
		if lines, err = treecmp.Compare(bricks[0], b, treecmp.Options{Mtime: true}); err != nil {
			return err
		}
		for _, l := range lines {
			// The root of a brick is as old as that; in sets that are nobody's home it may never change.
			if strings.HasPrefix(l, ".: mtime") {
				continue
			}
			wrong = append(wrong, fmt.Sprintf("members 1 and %d: %s", i+1, l))
		}
	}
	if len(wrong) > 0 {
		return errors.New(fmt.Sprint(len(wrong), " differences:\n", strings.Join(wrong[:min(len(wrong), 20)], "\n")))
	}
	return nil
}
