// Package linear judges what many clients saw of one file system: whether all of
// it can have happened in one order that agrees with the order in time
// (linearizability), however servers died meanwhile. The clients record what
// they asked and were told:
//
//	var h linear.History
//	p := h.Begin(client, linear.Op{Kind: linear.Write, Group: "r7", Value: 42})
//	_, err := f.WriteAt(…)
//	p.End(linear.Outcome{Unknown: err != nil})
//	…
//	v := h.Check(time.Minute)
//
// The judge is porcupine (github.com/anishathalye/porcupine), which searches for
// such an order; this package gives it the model, the state of what a group
// is about, and splits the history so that the search stays short:
//
//   - Operations belong to groups that have nothing to do with each other, and each group is judged by itself:
//     a register (a block of a file, Write and Read), a list (a file that is appended
//     to, Append and List), a lock (Lock and Unlock), or up to Names names of one directory (Create, Unlink, Rename, Link, Look).
//   - An operation whose outcome is unknown (EIO, ETIMEDOUT, a client that died) may happen at any time
//     after it was asked, or never: it ends at infinity. Each of them doubles the
//     search, in the worst case; so what it wrote, which nobody else writes, is looked for in what was
//     read: seen nowhere, it is left out, and seen, it had happened by the end of the first reading.
//     Of a creation that is unknown it is not known either which file it made: any that nobody else did.
//     Clients should give a group up when it has a dozen of them that make or move names.
//
// Every value is written once in a group (locks excepted, whose values are their owners): a judge that can't tell two writes apart sees little.
package linear

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Kind is what an operation does.
type Kind uint8

// The kinds. What a group holds is told by the first operation in it.
const (
	Write  Kind = iota + 1 // a register becomes Value
	Read                   // a register is Outcome.Value; 0: never written
	Append                 // Value is put at the end of the list
	List                   // the whole list is Outcome.List
	Create                 // Name comes into being, leads to Outcome.Value (which nothing else is), or Exists
	Unlink                 // Name is no more, or Missing
	Rename                 // To leads where Name led, which is no more, or Missing
	Link                   // Name leads to Value, a file with a name, or Exists, or Missing
	Look                   // Name leads to Outcome.Value, or Missing
	Lock                   // the lock is Value's, the owner, or Exists: another one has it
	Unlock                 // it is not Value's any more
)

var kindNames = map[Kind]string{Write: "write", Read: "read", Append: "append", List: "list",
	Create: "create", Unlink: "unlink", Rename: "rename", Link: "link", Look: "look", Lock: "lock", Unlock: "unlock"}

func (k Kind) String() string { return kindNames[k] }

// Names is how many names a group has: 0 … Names-1.
const Names = 3

// Op is what a client asks for.
type Op struct {
	Kind     Kind
	Group    string
	Name, To int
	Value    uint64 // of Write, Append, Link, Lock and Unlock; not 0
}

// Result is how an operation ended that is known to have ended.
type Result uint8

// The results.
const (
	Done    Result = iota
	Exists         // EEXIST: nothing has changed
	Missing        // ENOENT: nothing has changed
)

// Outcome is what the client was told.
type Outcome struct {
	Unknown bool // nothing that says whether it has happened, or will
	Result  Result
	Value   uint64
	List    []uint64
}

// History is what all clients asked and were told. The zero value is empty and ready.
type History struct {
	once  sync.Once
	begin time.Time

	mu struct {
		sync.Mutex
		groups map[string][]*Pending
	}
}

// Pending is an operation that may still be under way.
type Pending struct {
	h      *History
	client int
	op     Op
	call   int64

	// Guarded by h.mu.
	ended int64 // 0: has not
	out   Outcome
}

// now is the time since the history's begin, which is never 0.
func (h *History) now() int64 {
	h.once.Do(func() { h.begin = time.Now().Add(-1) })
	return int64(time.Since(h.begin))
}

// Begin records that a client asks for op. It is called before the request is sent.
// An operation without End counts as unknown.
func (h *History) Begin(client int, op Op) *Pending {
	p := &Pending{h: h, client: client, op: op}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.groups == nil {
		h.mu.groups = map[string][]*Pending{}
	}
	p.call = h.now()
	h.mu.groups[op.Group] = append(h.mu.groups[op.Group], p)
	return p
}

// End records what the client was told. It is called after the answer has come.
func (p *Pending) End(out Outcome) {
	now := p.h.now()
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	p.ended, p.out = now, out
}

// Unknown counts the operations of a group that are known to have an unknown outcome.
func (h *History) Unknown(group string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, p := range h.mu.groups[group] {
		if p.ended != 0 && p.out.Unknown {
			n++
		}
	}
	return n
}

// Verdict is what the judge says.
type Verdict struct {
	Groups     int
	Operations int
	Unknown    int      // of them
	Bad        []string // groups that no order explains, a few lines each
	Undecided  []string // groups whose search took too long
	Pictures   []string // files to look at in a browser, one for each group that is bad
}

func (v Verdict) String() string {
	return fmt.Sprintf("%d operations in %d groups, %d with an unknown outcome: %d groups are not linearizable, %d undecided",
		v.Operations, v.Groups, v.Unknown, len(v.Bad), len(v.Undecided))
}

// snapshot returns the groups by name, each with copies of its operations.
func (h *History) snapshot() (names []string, groups map[string][]Pending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	groups = map[string][]Pending{}
	for name, all := range h.mu.groups {
		names = append(names, name)
		for _, p := range all {
			groups[name] = append(groups[name], Pending{client: p.client, op: p.op, call: p.call, ended: p.ended, out: p.out})
		}
	}
	slices.Sort(names)
	return names, groups
}
