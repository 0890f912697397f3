package linear

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// machine does what a file system does with one group, or fails to in one way.
type machine struct {
	sync.Mutex
	register uint64
	before   uint64 // what the register was before
	list     []uint64
	names    [Names]uint64
	files    uint64

	fault string
	dice  *rand.Rand
}

// faults are ways to be broken, each with the kind of group that shows it.
var faults = map[string]Kind{
	"lost write":            Write,
	"stale read":            Write,
	"lost append":           Append,
	"double append":         Append,
	"appends change places": Append,
	"two creators":          Create,
	"unlink comes back":     Create,
	"rename leaves both":    Create,
	"rename loses":          Create,
	"create says it exists": Create,
	"link raises the dead":  Create,
}

// strikes says whether the fault is the machine's and shows this time.
func (m *machine) strikes(fault string) bool { return m.fault == fault && m.dice.IntN(4) == 0 }

// do executes op.
func (m *machine) do(op Op) Outcome {
	m.Lock()
	defer m.Unlock()
	switch op.Kind {
	case Write:
		if !m.strikes("lost write") {
			m.before, m.register = m.register, op.Value
		}
	case Read:
		if m.strikes("stale read") {
			return Outcome{Value: m.before}
		}
		return Outcome{Value: m.register}
	case Append:
		m.append(op.Value)
	case List:
		return Outcome{List: slices.Clone(m.list)}
	case Look:
		if m.names[op.Name] == 0 {
			return Outcome{Result: Missing}
		}
		return Outcome{Value: m.names[op.Name]}
	case Link:
		if m.names[op.Name] != 0 {
			return Outcome{Result: Exists}
		}
		if !slices.Contains(m.names[:], op.Value) && !m.strikes("link raises the dead") {
			return Outcome{Result: Missing}
		}
		m.names[op.Name] = op.Value
	case Create:
		return m.create(op)
	case Unlink, Rename:
		return m.move(op)
	}
	return Outcome{}
}

func (m *machine) append(v uint64) {
	if m.strikes("lost append") {
		return
	}
	m.list = append(m.list, v)
	if m.strikes("double append") {
		m.list = append(m.list, v)
	}
	if n := len(m.list); n > 2 && m.strikes("appends change places") {
		m.list[n-1], m.list[n-3] = m.list[n-3], m.list[n-1]
	}
}

func (m *machine) create(op Op) Outcome {
	if m.names[op.Name] != 0 && !m.strikes("two creators") {
		return Outcome{Result: Exists}
	}
	m.files++
	m.names[op.Name] = m.files
	if m.strikes("create says it exists") {
		return Outcome{Result: Exists}
	}
	return Outcome{Value: m.files}
}

func (m *machine) move(op Op) Outcome {
	at := &m.names[op.Name]
	if *at == 0 {
		return Outcome{Result: Missing}
	}
	if op.Kind == Unlink {
		if !m.strikes("unlink comes back") {
			*at = 0
		}
		return Outcome{}
	}
	if *at == m.names[op.To] {
		return Outcome{}
	}
	if !m.strikes("rename loses") {
		m.names[op.To] = *at
	}
	if !m.strikes("rename leaves both") {
		*at = 0
	}
	return Outcome{}
}

// record lets some clients work on a machine for a while, and has every so
// many operations end without an answer: they have happened, never do, or do later.
func record(h *History, group string, kind Kind, m *machine, seed uint64) {
	const clients, each, lost = 4, 40, 15
	var work, later sync.WaitGroup
	defer later.Wait()
	defer work.Wait()
	for client := range clients {
		work.Go(func() {
			dice := rand.New(rand.NewPCG(seed, uint64(client)))
			var mine uint64
			unknown := 0
			for i := range each {
				op := random(kind, group, dice, uint64(client*each+i+1), mine)
				p := h.Begin(client, op)
				if dice.IntN(lost) == 0 && unknown < 2 {
					unknown++
					switch dice.IntN(3) {
					case 0:
						m.do(op)
					case 1:
						wait := time.Duration(dice.IntN(2)) * time.Millisecond
						later.Go(func() {
							<-time.After(wait)
							m.do(op)
						})
					}
					if dice.IntN(2) == 0 {
						p.End(Outcome{Unknown: true})
					}
					continue
				}
				out := m.do(op)
				if op.Kind == Create && out.Result == Done {
					mine = out.Value
				}
				<-time.After(time.Duration(dice.IntN(20)) * time.Microsecond)
				p.End(out)
			}
		})
	}
}

func random(kind Kind, group string, dice *rand.Rand, value, mine uint64) Op {
	op := Op{Kind: kind, Group: group, Value: value}
	switch kind {
	case Write, Append:
		op.Kind += Kind(dice.IntN(2))
	default:
		op.Name = dice.IntN(Names)
		op.To = (op.Name + 1) % Names
		op.Kind = []Kind{Create, Unlink, Rename, Look, Look, Link}[dice.IntN(6)]
		if op.Value = mine; op.Kind == Link && mine == 0 {
			op.Kind = Look
		}
	}
	return op
}

// What a correct machine does is accepted.
func TestGood(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var h History
	for i := range uint64(20) {
		for _, kind := range []Kind{Write, Append, Create} {
			record(&h, fmt.Sprint(kind, i), kind, &machine{}, seed+i)
		}
	}
	v := h.Check(time.Minute, "")
	t.Log(v)
	if len(v.Bad) > 0 || len(v.Undecided) > 0 || v.Groups != 60 || v.Unknown == 0 {
		t.Errorf("%v\n%s", v, strings.Join(v.Bad, "\n"))
	}
}

// What a broken one does is not.
func TestBroken(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for fault, kind := range faults {
		t.Run(fault, func(t *testing.T) {
			var h History
			for i := range uint64(10) {
				m := &machine{fault: fault, dice: rand.New(rand.NewPCG(seed, i))}
				record(&h, fmt.Sprint(fault, i), kind, m, seed+i)
			}
			dir := t.TempDir()
			v := h.Check(time.Minute, dir)
			if len(v.Bad) == 0 {
				t.Errorf("%v", v)
			} else if len(v.Pictures) != len(v.Bad) {
				t.Errorf("%d pictures of %d groups", len(v.Pictures), len(v.Bad))
			}
		})
	}
}

// ask is an operation of a history that a test writes down.
type ask struct {
	op  Op
	out Outcome
}

// Small histories, one operation after the other, with the verdict on each.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	lost := Outcome{Unknown: true}
	value := func(v uint64) Outcome { return Outcome{Value: v} }
	for name, c := range map[string]struct {
		asks []ask
		good bool
	}{
		"an unknown write is never seen":        {[]ask{{Op{Kind: Write, Value: 1}, lost}, {Op{Kind: Read}, value(0)}}, true},
		"an unknown write is seen":              {[]ask{{Op{Kind: Write, Value: 1}, lost}, {Op{Kind: Read}, value(1)}}, true},
		"an unknown write comes late":           {[]ask{{Op{Kind: Write, Value: 1}, lost}, {Op{Kind: Read}, value(0)}, {Op{Kind: Read}, value(1)}}, true},
		"an unknown write comes and goes":       {[]ask{{Op{Kind: Write, Value: 1}, lost}, {Op{Kind: Read}, value(1)}, {Op{Kind: Read}, value(0)}}, false},
		"a value from the future":               {[]ask{{Op{Kind: Read}, value(1)}, {Op{Kind: Write, Value: 1}, lost}}, false},
		"an unknown append is in the middle":    {[]ask{{Op{Kind: Append, Value: 1}, lost}, {Op{Kind: Append, Value: 2}, Outcome{}}, {Op{Kind: List}, Outcome{List: []uint64{1, 2}}}}, true},
		"an unknown append is there twice":      {[]ask{{Op{Kind: Append, Value: 1}, lost}, {Op{Kind: List}, Outcome{List: []uint64{1, 1}}}}, false},
		"nobody's append":                       {[]ask{{Op{Kind: List}, Outcome{List: []uint64{7}}}}, false},
		"an unknown creation is seen":           {[]ask{{Op{Kind: Create}, lost}, {Op{Kind: Look}, value(9)}, {Op{Kind: Look}, value(9)}}, true},
		"an unknown creation makes two files":   {[]ask{{Op{Kind: Create}, lost}, {Op{Kind: Look}, value(9)}, {Op{Kind: Look}, value(8)}}, false},
		"an unknown creation is renamed":        {[]ask{{Op{Kind: Create}, lost}, {Op{Kind: Rename, To: 1}, Outcome{}}, {Op{Kind: Look, Name: 1}, value(9)}}, true},
		"a file comes back under another name":  {[]ask{{Op{Kind: Create}, value(9)}, {Op{Kind: Unlink}, Outcome{}}, {Op{Kind: Look, Name: 1}, value(9)}}, false},
		"nobody's file":                         {[]ask{{Op{Kind: Look}, value(9)}}, false},
		"a retried unlink says missing":         {[]ask{{Op{Kind: Create}, value(9)}, {Op{Kind: Unlink}, Outcome{Result: Missing}}, {Op{Kind: Look}, Outcome{Result: Missing}}}, false},
		"a link leads to the file":              {[]ask{{Op{Kind: Create}, value(9)}, {Op{Kind: Link, Name: 1, Value: 9}, Outcome{}}, {Op{Kind: Unlink}, Outcome{}}, {Op{Kind: Look, Name: 1}, value(9)}}, true},
		"a link to a file without a name":       {[]ask{{Op{Kind: Create}, value(9)}, {Op{Kind: Unlink}, Outcome{}}, {Op{Kind: Link, Name: 1, Value: 9}, Outcome{}}}, false},
		"a link over what is there":             {[]ask{{Op{Kind: Create}, value(9)}, {Op{Kind: Create, Name: 1}, value(8)}, {Op{Kind: Link, Name: 1, Value: 9}, Outcome{}}}, false},
		"a rename of nothing":                   {[]ask{{Op{Kind: Rename, To: 1}, Outcome{}}}, false},
		"a rename after the same by another":    {[]ask{{Op{Kind: Create, Name: 1}, value(9)}, {Op{Kind: Rename, To: 1}, Outcome{}}, {Op{Kind: Look, Name: 1}, value(9)}}, true},
		"an unknown unlink, then what is there": {[]ask{{Op{Kind: Create}, value(9)}, {Op{Kind: Unlink}, lost}, {Op{Kind: Look}, value(9)}, {Op{Kind: Create}, Outcome{Result: Exists}}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var h History
			for _, a := range c.asks {
				h.Begin(0, a.op).End(a.out)
			}
			if v := h.Check(time.Minute, ""); (len(v.Bad) == 0) != c.good || len(v.Undecided) > 0 {
				t.Errorf("%v\n%s", v, strings.Join(v.Bad, "\n"))
			}
		})
	}
}

// Locks that several ask for at a time. A server that dies loses a lock of which its owner has not heard; he asks
// again, and others may have been refused because of it, and have got it, before he has it.
func TestLockVerdicts(t *testing.T) {
	t.Parallel()
	refused := Outcome{Result: Exists}
	lock := func(h *History, who int) *Pending { return h.Begin(who, Op{Kind: Lock, Value: uint64(who)}) }
	unlock := func(h *History, who int) { h.Begin(who, Op{Kind: Unlock, Value: uint64(who)}).End(Outcome{}) }
	pass := func(d int64) { // the history's clock is the machine's
		for begin := time.Now(); int64(time.Since(begin)) < d; {
			runtime.Gosched()
		}
	}
	for name, c := range map[string]struct {
		play func(h *History)
		good bool
	}{
		"one has it, another is refused": {func(h *History) { lock(h, 1).End(Outcome{}); lock(h, 2).End(refused) }, true},
		"refused, and nobody has it":     {func(h *History) { lock(h, 1).End(Outcome{}); unlock(h, 1); lock(h, 2).End(refused) }, false},
		"two have it":                    {func(h *History) { lock(h, 1).End(Outcome{}); lock(h, 2).End(Outcome{}) }, false},
		"lost before it was heard of": {func(h *History) {
			first := lock(h, 1)
			lock(h, 2).End(refused)
			lock(h, 2).End(Outcome{})
			unlock(h, 2)
			first.End(Outcome{})
			lock(h, 2).End(refused)
		}, true},
		"lost, and refused in the end": {func(h *History) {
			first := lock(h, 1)
			lock(h, 2).End(refused)
			lock(h, 2).End(Outcome{})
			pass(2 * failoverMin)
			first.End(refused)
		}, true},
		"refused both": {func(h *History) {
			first := lock(h, 1)
			lock(h, 2).End(refused)
			first.End(refused)
		}, false},
		"lost after it was heard of": {func(h *History) {
			lock(h, 1).End(Outcome{})
			lock(h, 2).End(refused)
			lock(h, 2).End(Outcome{})
		}, false},
	} {
		var h History
		c.play(&h)
		if v := h.Check(time.Minute, ""); (len(v.Bad) == 0) != c.good || len(v.Undecided) > 0 {
			t.Errorf("%s: %v\n%s", name, v, strings.Join(v.Bad, "\n"))
		}
	}
}

// Operations that never ended are counted, as are those that told nothing.
func TestUnknown(t *testing.T) {
	t.Parallel()
	var h History
	h.Begin(1, Op{Kind: Write, Value: 1})
	h.Begin(2, Op{Kind: Write, Value: 2}).End(Outcome{Unknown: true})
	h.Begin(2, Op{Kind: Write, Value: 3}).End(Outcome{})
	if v := h.Check(time.Minute, ""); v.Unknown != 2 || v.Operations != 3 || len(v.Bad) > 0 {
		t.Error(v)
	}
	if n := h.Unknown(""); n != 1 {
		t.Errorf("%d are known to be unknown, want 1", n)
	}
}
