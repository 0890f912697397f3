package linear

import (
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/anishathalye/porcupine"
)

// state is what a group holds. Of a list only what equal lists have in common is kept.
type state struct {
	register uint64
	list     digest
	names    [Names]uint64 // 0: no such name; from stranger on: a file that nobody has seen yet
	bound    [4]uint64     // strangers that have been seen
}

// stranger is where the values begin of files that unknown creations have made.
// Who looks at one first tells what it really is.
const stranger = 1 << 63

// digest stands for a list: as good as the list itself for telling two apart.
type digest struct {
	length int
	sum    uint64
}

var seed = maphash.MakeSeed()

func (d digest) with(value uint64) digest {
	return digest{d.length + 1, maphash.Comparable(seed, [2]uint64{d.sum, value})}
}

func digestOf(list []uint64) (d digest) {
	for _, v := range list {
		d = d.with(v)
	}
	return d
}

// told is an Outcome as the model wants it.
type told struct {
	Outcome
	list   digest
	orphan bool // Value is that of a file that no creation is known to have made
	wooed  bool // of a Lock that another has: somebody else was just getting it
}

// model is what a file system does, one operation after the other.
var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, in, out any) (bool, any) { return step(s.(state), in.(Op), out.(told)) },
	Hash: func(s any) uint64 { return maphash.Comparable(seed, s.(state)) },
	DescribeOperation: func(in, out any) string {
		return describe(in.(Op), out.(told).Outcome)
	},
	DescribeState: func(s any) string {
		at := s.(state)
		return fmt.Sprintf("register %d, %d in the list, names %v", at.register, at.list.length, at.names)
	},
}

// step says whether op can end so in state s, and what is then.
func step(s state, op Op, out told) (bool, state) {
	switch op.Kind {
	case Write:
		s.register = op.Value
		return true, s
	case Read:
		return s.register == out.Value, s
	case Append:
		s.list = s.list.with(op.Value)
		return true, s
	case List:
		return s.list == out.list, s
	case Lock: // who is getting one may have it, lose it with the server before he hears of it, and ask again
		free := s.register == 0 || s.register == op.Value
		switch {
		case out.Result == Exists:
			return !free || out.wooed, s
		case free:
			s.register = op.Value
		}
		return free || out.Unknown, s
	case Unlock:
		if s.register == op.Value {
			s.register = 0
		}
		return true, s
	}
	return stepNames(s, op, out)
}

func stepNames(s state, op Op, out told) (bool, state) {
	at := &s.names[op.Name]
	there := *at != 0
	switch op.Kind {
	case Look:
		if out.Result == Missing {
			return !there, s
		}
		return look(s, op, out)
	case Create:
		switch {
		case out.Result == Exists:
			return there, s
		case out.Unknown && !there:
			*at = op.Value
		case !out.Unknown:
			*at = out.Value
		}
		return out.Unknown || !there, s
	case Link:
		switch {
		case out.Result == Exists:
			return there, s
		case there || !slices.Contains(s.names[:], op.Value): // a file without a name gets none again
			return out.Unknown, s
		}
		*at = op.Value
		return true, s
	case Unlink:
		*at = 0
		return out.Unknown || there == (out.Result == Done), s
	case Rename:
		return stepRename(s, op, out)
	}
	return false, s
}

// look sees a file under a name: that one, or a stranger, who has a face from then on.
func look(s state, op Op, out told) (bool, state) {
	at := s.names[op.Name]
	if at < stranger || !out.orphan {
		return at != 0 && at == out.Value, s
	}
	if slices.Contains(s.bound[:], out.Value) {
		return false, s
	}
	if free := slices.Index(s.bound[:], 0); free >= 0 {
		s.bound[free] = out.Value
	}
	for i, n := range s.names {
		if n == at {
			s.names[i] = out.Value
		}
	}
	return true, s
}

// stepRename lets a rename succeed that finds nothing under its old name if
// there is something under the new one. The kernel looks both names up, one after the
// other, and has nothing to do when they lead to the same file: as they
// do when another mount's rename of the same names comes between.
func stepRename(s state, op Op, out told) (bool, state) {
	there := s.names[op.Name] != 0
	switch {
	case there && (out.Unknown || out.Result == Done):
		if s.names[op.Name] != s.names[op.To] { // of two names of one file, both stay
			s.names[op.To], s.names[op.Name] = s.names[op.Name], 0
		}
		return true, s
	case out.Unknown:
		return true, s
	case out.Result == Done:
		return s.names[op.To] != 0, s
	}
	return !there, s
}

func describe(op Op, out Outcome) string {
	text := op.Kind.String()
	switch op.Kind {
	case Write, Append:
		text += fmt.Sprintf(" %d", op.Value)
	case Rename:
		text += fmt.Sprintf(" %c to %c", 'a'+rune(op.Name), 'a'+rune(op.To))
	case Link:
		text += fmt.Sprintf(" %d as %c", op.Value, 'a'+rune(op.Name))
	case Create, Unlink, Look:
		text += fmt.Sprintf(" %c", 'a'+rune(op.Name))
	}
	switch {
	case out.Unknown:
		return text + ": unknown"
	case out.Result == Exists:
		return text + ": exists"
	case out.Result == Missing:
		return text + ": missing"
	case op.Kind == List:
		return fmt.Sprintf("%s: %d %v", text, len(out.List), out.List[max(0, len(out.List)-4):])
	case op.Kind == Read || op.Kind == Look || op.Kind == Create:
		return fmt.Sprintf("%s: %d", text, out.Value)
	}
	return text + ": done"
}
