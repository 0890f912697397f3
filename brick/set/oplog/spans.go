package oplog

import (
	"math"
	"slices"
)

// span is a range of a file's contents: from off to before end, which is math.MaxInt64
// for the end of the file.
type span struct {
	off, end int64
	stamp    Stamp // of the change that last wrote it
}

// spans are disjoint, do not touch, and lie in order.
type spans []span

// grain is what extents in a key set are rounded to, outwards: a file that is written from
// front to back is noted once for each of these, not for each write.
const grain = 1 << 20

// spansMax is the number of ranges kept of one file; with more of them, what lies between counts too.
const spansMax = 64

// spanOf is the span of an extent, rounded.
func spanOf(k Key) span {
	s := span{off: k.Off &^ (grain - 1), end: k.end()}
	if s.end > math.MaxInt64-grain {
		s.end = math.MaxInt64
	} else {
		s.end = (s.end + grain - 1) &^ (grain - 1)
	}
	return s
}

// key is the span as an extent of the object that k names.
func (s span) key(k Key) Key {
	k.Kind, k.Name, k.Off, k.Len = ExtentKey, "", s.off, s.end-s.off
	if s.end == math.MaxInt64 {
		k.Len = 0
	}
	return k
}

// reach returns the part of ss that overlaps or touches s: ss[i:j].
func (ss spans) reach(s span) (i, j int) {
	i = 0
	for i < len(ss) && ss[i].end < s.off {
		i++
	}
	for j = i; j < len(ss) && ss[j].off <= s.end; j++ {
	}
	return i, j
}

// covers reports whether one span of ss contains s, and that one's stamp.
func (ss spans) covers(s span) (Stamp, bool) {
	for _, t := range ss {
		if t.off <= s.off && s.end <= t.end {
			return t.stamp, true
		}
	}
	return 0, false
}

// overlaps reports whether ss and s have anything in common.
func (ss spans) overlaps(s span) bool {
	for _, t := range ss {
		if t.off < s.end && s.off < t.end {
			return true
		}
	}
	return false
}

// add unites ss with s, and returns the span that s became part of. What has
// grown together has the latest stamp.
func (ss spans) add(s span) (spans, span) {
	i, j := ss.reach(s)
	for _, t := range ss[i:j] {
		s.off, s.end, s.stamp = min(s.off, t.off), max(s.end, t.end), max(s.stamp, t.stamp)
	}
	ss = slices.Replace(ss, i, j, s)
	if len(ss) <= spansMax {
		return ss, s
	}
	for _, t := range ss {
		s.off, s.end, s.stamp = min(s.off, t.off), max(s.end, t.end), max(s.stamp, t.stamp)
	}
	return append(ss[:0], s), s
}

// without returns ss less s.
func (ss spans) without(s span) spans {
	var rest spans
	for _, t := range ss {
		if t.end <= s.off || s.end <= t.off {
			rest = append(rest, t)
			continue
		}
		if t.off < s.off {
			rest = append(rest, span{t.off, s.off, t.stamp})
		}
		if s.end < t.end {
			rest = append(rest, span{s.end, t.end, t.stamp})
		}
	}
	return rest
}

// less returns ss without any of others.
func (ss spans) less(others spans) spans {
	for _, o := range others {
		ss = ss.without(o)
	}
	return ss
}

// keys returns the spans as extents of the object that k names.
func (ss spans) keys(k Key) []Key {
	var keys []Key
	for _, s := range ss {
		keys = append(keys, s.key(k))
	}
	return keys
}
