package explore

import (
	"fmt"
	"hash/maphash"
	"strings"
)

// setup is what is explored.
type setup struct {
	members int
	arbiter bool // the last member is one
	quorum  int
	lease   uint8 // ticks; 0: one
	fresh   bool  // the set is new; otherwise A reigns in epoch 1
	budget  budget
	max     int // states; the search ends after the step that comes to more; 0: 60,000
	broken  breakage
}

// breakage names what is broken on purpose, "": nothing.
type breakage string

func (b breakage) is(name breakage) bool { return b == name }

// step tells what happened.
type step struct {
	what string
	a, b int // members, -1: none
	n    int
}

func (s step) String() string {
	var b strings.Builder
	for _, i := range []int{s.a, s.b} {
		if i >= 0 {
			fmt.Fprintf(&b, "%s ", names[i])
		}
	}
	b.WriteString(s.what)
	if s.n > 0 {
		fmt.Fprintf(&b, " %d", s.n)
	}
	return b.String()
}

// found is the outcome of a search.
type found struct {
	states    int
	depth     int  // of the last state
	all       bool // there is no state beyond
	violation string
	trace     []string
}

// search explores breadth first.
func search(s setup) found {
	r := &rules{
		setup: s, verdicts: map[facts]verdict{}, needs: map[[3]mask]mask{},
		tenures: map[tenure]bool{}, vacant: map[vacancy]bool{},
	}
	if s.lease == 0 {
		r.lease = 1
	}
	if s.max == 0 {
		s.max = 60_000
	}
	seed := maphash.MakeSeed()
	type origin struct {
		parent int32
		nth    int32 // successor of parent
	}
	first := r.begin()
	origins := []origin{{-1, 0}}
	seen := map[uint64]struct{}{maphash.Comparable(seed, first): {}}
	frontier := []world{first}
	base := 0 // index of frontier[0] in origins
	var f found
	for f.depth = 0; len(frontier) > 0 && len(origins) < s.max; f.depth++ {
		var next []world
		for i := range frontier {
			nth, parent := int32(0), int32(base+i)
			r.steps(&frontier[i], func(w *world, _ step, violation string) bool {
				nth++
				h := maphash.Comparable(seed, *w)
				if _, ok := seen[h]; ok && violation == "" {
					return true
				}
				seen[h] = struct{}{}
				origins = append(origins, origin{parent, nth})
				next = append(next, *w)
				f.violation = violation
				return violation == ""
			})
			if f.violation != "" {
				break
			}
		}
		base += len(frontier)
		if f.violation != "" {
			var path []int32
			for at := int32(len(origins) - 1); at > 0; at = origins[at].parent {
				path = append(path, origins[at].nth)
			}
			f.trace = r.replay(first, path)
			break
		}
		frontier = next
	}
	f.states, f.all = len(origins), len(frontier) == 0
	return f
}

// replay tells the steps of a path, which is given from its end.
func (r *rules) replay(w world, path []int32) []string {
	trace := []string{"          " + w.String()}
	for i := len(path) - 1; i >= 0; i-- {
		nth, at := int32(0), w
		r.steps(&at, func(next *world, s step, _ string) bool {
			if nth++; nth == path[i] {
				trace = append(trace, s.String(), "          "+next.String())
				w = *next
				return false
			}
			return true
		})
	}
	return trace
}

func (f found) String() string {
	if f.all {
		return fmt.Sprintf("%d states, all there are, the last after %d steps", f.states, f.depth-1)
	}
	return fmt.Sprintf("%d states, all within %d steps", f.states, f.depth)
}
