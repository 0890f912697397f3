package cluster

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Programs are clients of one volume as most are: on mounts without options, whose kernels believe names and attributes for a
// second, and which hand small writes, and the attributes of files that are being made, on a little later (client/behind).
// The witnesses see none of that, for their mounts are strict. What is judged here is not each request, but what a
// program may rely on when its file is closed:
//
//	files     contents, size, mode and times as they were set, on the mount at once, on another when it opens the file, and in the end (programs_files.go)
//	contests  of two mounts that create, rename or remove the same name one wins (programs_names.go)
//	replaced  a name that is renamed over leads to one of the complete versions, whenever it is opened (programs_names.go)
//	appended  records of two mounts, each there once and whole (programs_append.go)
//	trees     cp -a, tar -x, diff -r, rm -rf (programs_trees.go)
//
// An EIO leaves open what has happened; it is counted, and an error if nobody in the same round had to wait for as long as a mount waits.
type Programs struct {
	t       testing.TB
	dir     string // below each mount
	mounts  []string
	seed    uint64
	timeout time.Duration // for which a mount waits before EIO (network.timeout)
	stop    chan struct{}
	work    sync.WaitGroup

	mu struct {
		sync.Mutex
		did     map[string]int
		failed  map[string]int
		short   int
		slowest time.Duration // of those that are not other programs
		wrong   []string
		kept    map[string]kept // files as they must be in the end
	}
}

const (
	// believed is for how long a mount's kernel believes names and attributes without an option.
	believed = time.Second
	// believedSlack is what a directory's attributes are believed longer, and a busy machine adds.
	believedSlack = 2 * time.Second

	programPause = 2 * time.Millisecond
	wrongMax     = 20 // sentences that are printed
)

// StartPrograms begins all kinds, each through all of the mounts, in a new directory; timeout is the volume's network.timeout.
func StartPrograms(t testing.TB, seed uint64, timeout time.Duration, mounts ...string) *Programs {
	t.Helper()
	dir, err := os.MkdirTemp(mounts[0], "programs-")
	if err != nil {
		t.Fatal(err)
	}
	p := &Programs{t: t, dir: filepath.Base(dir), mounts: mounts, seed: seed, timeout: timeout, stop: make(chan struct{})}
	p.mu.did, p.mu.failed, p.mu.kept = map[string]int{}, map[string]int{}, map[string]kept{}
	t.Cleanup(p.end)
	for i := range mounts {
		p.lane(uint64(i), func(dice *rand.Rand) func() { return (&keeper{p: p, id: i, dice: dice}).step })
	}
	source := newSource(t)
	p.work.Go(func() { p.trees(source) })
	p.work.Go(p.contests)
	p.work.Go(p.appends)
	p.replaces()
	return p
}

// lane repeats the steps of one client until all is to stop.
func (p *Programs) lane(number uint64, begin func(dice *rand.Rand) func()) {
	p.work.Go(func() {
		err := apart(func() {
			step := begin(rand.New(rand.NewPCG(p.seed, number)))
			tick := time.NewTicker(programPause)
			defer tick.Stop()
			for !p.stopped() {
				<-tick.C
				step()
			}
		})
		if err != nil {
			p.wrong("a client can't begin: %v", err)
		}
	})
}

func (p *Programs) stopped() bool {
	select {
	case <-p.stop:
		return true
	default:
		return false
	}
}

func (p *Programs) end() {
	if !p.stopped() {
		close(p.stop)
	}
	p.work.Wait()
}

func (p *Programs) path(mount int, name string) string {
	return filepath.Join(p.mounts[mount%len(p.mounts)], p.dir, name)
}

// did notes how what a program does to a file, and began then, has ended, and reports whether it was done. Of errors only EIO leaves
// that open; the others say something that is not so, unless they are among those that are expected.
func (p *Programs) did(what string, begin time.Time, err error, expected ...error) bool {
	took := time.Since(begin)
	p.mu.Lock()
	p.mu.slowest = max(p.mu.slowest, took)
	p.mu.Unlock()
	return p.note(what, took, err, expected...)
}

func (p *Programs) note(what string, took time.Duration, err error, expected ...error) bool {
	if err != nil && !errors.Is(err, syscall.EIO) && !slices.ContainsFunc(expected, func(e error) bool { return errors.Is(err, e) }) {
		p.wrong("%s: %v", what, err)
	}
	if errors.Is(err, syscall.EIO) { // whoever tries without end takes the processors from who should come back
		<-time.After(retryPause)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.did[what]++
	if errors.Is(err, syscall.EIO) {
		if p.mu.failed[what]++; p.mu.failed[what] <= 3 {
			p.t.Logf("%s %s, after %v: %v", time.Now().Format(clockFormat), what, took.Round(time.Millisecond), err)
		}
	}
	return err == nil
}

// wrong records what must not be.
func (p *Programs) wrong(format string, a ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.wrong = append(p.mu.wrong, time.Now().Format(clockFormat)+" "+fmt.Sprintf(format, a...))
}

// both has the first two mounts do something at the same time.
func (p *Programs) both(f func(i int) error) (errs [2]error) {
	var work sync.WaitGroup
	for i := range errs {
		work.Go(func() {
			if err := apart(func() { errs[i] = f(i) }); err != nil {
				p.wrong("a client can't begin: %v", err)
			}
		})
	}
	work.Wait()
	return errs
}

// Report is what became of programs.
type Report struct {
	Did, Failed map[string]int
	Wrong       int
	Short       int // files of which a mount read as much as there was when it last looked
	Slowest     time.Duration
}

func (r Report) String() string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(r.Did)) {
		parts = append(parts, fmt.Sprintf("%s × %d (%d failed)", what, r.Did[what], r.Failed[what]))
	}
	return fmt.Sprintf("%s; %d cut off at a size of before; longest wait %v", strings.Join(parts, ", "), r.Short, r.Slowest.Round(time.Millisecond))
}

// add adds another round's.
func (r *Report) add(o Report) {
	for what, n := range o.Did {
		r.Did[what] += n
	}
	for what, n := range o.Failed {
		r.Failed[what] += n
	}
	r.Wrong, r.Short = r.Wrong+o.Wrong, r.Short+o.Short
	r.Slowest = max(r.Slowest, o.Slowest)
}

// Finish stops the programs and looks at all files once more. All faults must have been mended.
func (p *Programs) Finish() Report {
	p.t.Helper()
	p.end()
	for _, name := range slices.Sorted(maps.Keys(p.mu.kept)) {
		for i := range p.mounts {
			p.seen(i, name, p.mu.kept[name], "in the end", patient)
		}
	}
	r := Report{Did: p.mu.did, Failed: p.mu.failed, Short: p.mu.short, Slowest: p.mu.slowest}
	failed := 0
	for _, n := range p.mu.failed {
		failed += n
	}
	if failed > 0 && p.mu.slowest < p.timeout*9/10 { // a mount counts from when it last heard of the set
		p.wrong("%d operations failed, and none waited for longer than %v", failed, p.mu.slowest)
	}
	r.Wrong = len(p.mu.wrong)
	for _, w := range p.mu.wrong[:min(len(p.mu.wrong), wrongMax)] {
		p.t.Errorf("%s", w)
	}
	if r.Wrong > wrongMax {
		p.t.Errorf("and %d more", r.Wrong-wrongMax)
	}
	return r
}
