package linear

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// forever is when an operation returns whose outcome is unknown.
const forever = math.MaxInt64

// Check judges all that has been recorded, group by group, each within the limit.
// Pictures of bad groups are written into dir, unless that is "".
func (h *History) Check(limit time.Duration, dir string) Verdict {
	names, groups := h.snapshot()
	v := Verdict{Groups: len(names)}
	for _, g := range groups {
		v.Operations += len(g)
		for _, p := range g {
			if p.ended == 0 || p.out.Unknown {
				v.Unknown++
			}
		}
	}
	var (
		mu    sync.Mutex
		work  sync.WaitGroup
		queue = make(chan string)
	)
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for name := range queue {
				ops := settle(groups[name])
				result, info := porcupine.CheckOperationsTimeout(model, ops, limit), porcupine.LinearizationInfo{}
				if result == porcupine.Illegal { // once more, to see where: that needs more memory
					result, info = porcupine.CheckOperationsVerbose(model, ops, 0)
				}
				mu.Lock()
				v.judge(name, ops, result, info, dir)
				mu.Unlock()
			}
		})
	}
	for _, name := range names {
		queue <- name
	}
	close(queue)
	work.Wait()
	slices.Sort(v.Bad)
	return v
}

// judge adds a group's result.
func (v *Verdict) judge(name string, ops []porcupine.Operation, result porcupine.CheckResult, info porcupine.LinearizationInfo, dir string) {
	switch result {
	case porcupine.Ok:
		return
	case porcupine.Unknown:
		v.Undecided = append(v.Undecided, name)
		return
	}
	v.Bad = append(v.Bad, name+":\n"+stuck(ops, info))
	if dir == "" {
		return
	}
	path := filepath.Join(dir, "linear-"+strings.ReplaceAll(name, "/", "-")+".html")
	f, err := os.Create(path)
	if err != nil {
		return
	}
	defer f.Close()
	if porcupine.Visualize(model, info, f) == nil {
		v.Pictures = append(v.Pictures, path)
	}
}

// shown is how many operations are shown before and after the place where no order goes on.
const shown = 10

// stuck shows the operations around the first to end that the longest order
// which was found does not explain.
func stuck(ops []porcupine.Operation, info porcupine.LinearizationInfo) string {
	type mark struct {
		client int
		call   int64
	}
	longest := map[mark]bool{}
	for _, partial := range info.PartialLinearizationsOperations() {
		for _, order := range partial {
			if len(order) > len(longest) {
				clear(longest)
				for _, o := range order {
					longest[mark{o.ClientId, o.Call}] = true
				}
			}
		}
	}
	ordered := slices.Clone(ops)
	slices.SortFunc(ordered, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	first := slices.IndexFunc(ordered, func(o porcupine.Operation) bool { return !longest[mark{o.ClientId, o.Call}] })
	var b strings.Builder
	fmt.Fprintf(&b, "  %d operations, of which an order explains %d; in order of their end, ! marks one that it does not:\n", len(ops), len(longest))
	for _, o := range ordered[max(0, first-shown):min(first+shown, len(ordered))] {
		end, sign := "never", ' '
		if o.Return != forever {
			end = time.Duration(o.Return).String()
		}
		if !longest[mark{o.ClientId, o.Call}] {
			sign = '!'
		}
		fmt.Fprintf(&b, "  %c client %d, %v to %s: %s\n", sign, o.ClientId, time.Duration(o.Call), end, describe(o.Input.(Op), o.Output.(told).Outcome))
	}
	return b.String()
}

// settle makes a group's operations porcupine's: what says nothing is left
// out, and what is unknown ends as early as can be said.
func settle(group []Pending) []porcupine.Operation {
	number(group)
	seen := firstSeen(group)
	made := map[uint64]bool{}
	for _, p := range group {
		if p.op.Kind == Create && p.ended != 0 && !p.out.Unknown && p.out.Result == Done {
			made[p.out.Value] = true
		}
	}
	var ops []porcupine.Operation
	for i, p := range group {
		out := told{Outcome: p.out, list: digestOf(p.out.List)}
		if p.ended == 0 {
			out.Unknown = true
		}
		end := p.ended
		if out.Unknown {
			out.Result, end = Done, forever
			switch p.op.Kind {
			case Read, List, Look:
				continue
			case Write, Append:
				var ok bool
				if end, ok = seen[p.op.Value]; !ok {
					continue
				}
				end = max(end, p.call)
			case Create:
				p.op.Value = stranger + uint64(i)
			}
		}
		if p.op.Kind == Link && out.Result == Missing {
			continue // the kernel says so of a file that it believes to have no name; it may believe what was
		}
		out.wooed = p.op.Kind == Lock && out.Result == Exists && wooed(group, p)
		out.orphan = p.op.Kind == Look && !made[out.Value]
		ops = append(ops, porcupine.Operation{ClientId: p.client, Input: p.op, Call: p.call, Output: out, Return: end})
	}
	return ops
}

// failoverMin is the least time that a request takes which outlives the server that executed it first.
const failoverMin = int64(10 * time.Millisecond)

// wooed reports whether another owner may have been getting the lock while p, which asks for it, was under way: he got it in the
// end, or lost it with a server, asked the next one, and was refused by that.
func wooed(group []Pending, p Pending) bool {
	return slices.ContainsFunc(group, func(o Pending) bool {
		got := o.ended == 0 || o.out.Unknown || o.out.Result == Done || o.ended-o.call > failoverMin
		return o.op.Kind == Lock && o.op.Value != p.op.Value && got && o.call < p.ended && (o.ended == 0 || o.ended > p.call)
	})
}

// number gives files the numbers 1, 2, 3 … of a group, in the place of those that the clients saw.
func number(group []Pending) {
	numbers := map[uint64]uint64{0: 0}
	of := func(v *uint64) {
		if _, ok := numbers[*v]; !ok {
			numbers[*v] = uint64(len(numbers))
		}
		*v = numbers[*v]
	}
	for i := range group {
		p := &group[i]
		switch p.op.Kind {
		case Create, Look:
			of(&p.out.Value)
		case Link:
			of(&p.op.Value)
		}
	}
}

// firstSeen says when those who read each value first had it.
func firstSeen(group []Pending) map[uint64]int64 {
	first := map[uint64]int64{}
	note := func(value uint64, at int64) {
		if was, ok := first[value]; !ok || at < was {
			first[value] = at
		}
	}
	for _, p := range group {
		if p.ended == 0 || p.out.Unknown {
			continue
		}
		switch p.op.Kind {
		case Read:
			note(p.out.Value, p.ended)
		case List:
			for _, v := range p.out.List {
				note(v, p.ended)
			}
		}
	}
	return first
}
