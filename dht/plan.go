package dht

import (
	"slices"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// actKind is a kind of action.
type actKind uint8

const (
	actPut     actKind = iota // dir/name leads to id from now on, instead of old
	actDiscard                // dir/name no longer leads to id
	actPlace                  // the directory id lies at dir/name
	actSwap                   // the directory id lies at dir/name, the directory old at dir2/name2
	actGone                   // the directory id does not exist any more
	actLast    = actGone
)

// allSets in an action's set means every set of the volume.
const allSets volume.SetID = 0

// partMax is the highest part of an action; undoing uses the numbers above it.
const (
	partMax  = 0x7f
	undoPart = 0x80
	partsMax = 8 // planNames uses 4 a name
	linkPart = 1 // the data set's link of the coordinator's own name
)

// action is a change of one set's store as part of an intent. Each can be
// repeated: it says what it expects to find, and finds it only once.
type action struct {
	kind    actKind
	set     volume.SetID
	part    uint8 // of the discard's Key
	dir     volume.ID
	name    string
	id      volume.ID
	mode    uint32       // type bits of id
	held    volume.SetID // actPut: 0 a link, else a pointer
	old     volume.ID    // actPut: what is replaced; zero: the name is free
	oldMode uint32
	dir2    volume.ID // actSwap
	name2   string
}

// object is what a name leads to, and the set that holds it. The zero object is none.
type object struct {
	id   volume.ID
	mode uint32
	set  volume.SetID
}

func (o object) isDir() bool { return o.mode&syscall.S_IFMT == syscall.S_IFDIR }

// rename of one name: what it led to and will lead to.
type nameChange struct {
	name          nameKey
	owner         volume.SetID
	before, after object
}

// decision is an intent's plan in the order of carrying out: links are data
// sets' entries, that no one looks up there, made before the decision and undone
// if it is against; commit is the coordinator's own entry, by which the
// operation has happened; rest follows.
type decision struct {
	links  []action
	commit action
	rest   []action
}

// planNames says what must change where so that each name leads to what it
// should. The first name is the coordinator's own. Files only.
//
// For a name n with owner O and an object that lies on D, the entries are: at O
// n itself if O = D, else a pointer to D; at D n itself. So the changes are, set
// by set, the difference of the entries before and after.
func planNames(changes []nameChange) decision {
	var d decision
	for i, c := range changes {
		for _, set := range setsOf(c) {
			before, after := entryAt(set, c.owner, c.before), entryAt(set, c.owner, c.after)
			if before == after {
				continue
			}
			a := action{set: set, part: uint8(i) * 4, dir: c.name.dir, name: c.name.name}
			switch set {
			case c.owner:
			case c.after.set:
				a.part += linkPart
			default:
				a.part += 2
			}
			if after.ID.IsZero() {
				a.kind, a.id, a.mode, a.held = actDiscard, before.ID, before.Mode, before.Held
			} else {
				a.id, a.mode, a.held, a.old, a.oldMode = after.ID, after.Mode, after.Held, before.ID, before.Mode
			}
			switch {
			case i == 0 && set == c.owner:
				d.commit = a
			case a.kind == actPut && set != c.owner:
				d.links = append(d.links, a)
			default:
				d.rest = append(d.rest, a)
			}
		}
	}
	return d
}

func entryAt(set, owner volume.SetID, o object) volume.Pointer {
	switch {
	case o.id.IsZero():
		return volume.Pointer{}
	case set == o.set:
		return volume.Pointer{ID: o.id, Mode: o.mode & syscall.S_IFMT}
	case set == owner:
		return volume.Pointer{ID: o.id, Mode: o.mode & syscall.S_IFMT, Held: o.set}
	}
	return volume.Pointer{}
}

// setsOf returns the sets that have an entry for the name before or after.
func setsOf(c nameChange) []volume.SetID {
	sets := []volume.SetID{c.owner}
	for _, o := range []object{c.before, c.after} {
		if o.id.IsZero() || o.set == c.owner || len(sets) > 1 && sets[1] == o.set {
			continue
		}
		sets = append(sets, o.set)
	}
	return sets
}

// planCross plans the EXCHANGE of a file with a directory. The directory's copy
// moves on every set; where the file itself lies the two switch places in one
// step, and elsewhere the file's pointer goes, or comes, beside it. No reader
// sees any of it, for both names stay hidden until all sets concerned are done.
func planCross(self volume.SetID, dirTo nameChange, fileTo nameChange) decision {
	x, f := dirTo.after, fileTo.after
	swap := action{
		kind: actSwap, id: x.id, mode: x.mode, dir: dirTo.name.dir, name: dirTo.name.name,
		old: f.id, oldMode: f.mode, dir2: fileTo.name.dir, name2: fileTo.name.name,
	}
	at := func(set volume.SetID) action {
		a := swap
		a.set = set
		return a
	}
	d := decision{commit: at(self)}
	if dirTo.owner != f.set { // a pointer is in the directory's new place
		gone := action{
			kind: actDiscard, set: dirTo.owner, dir: dirTo.name.dir, name: dirTo.name.name, id: f.id, mode: f.mode, held: f.set,
		}
		if dirTo.owner == self {
			d.commit, gone = gone, at(self)
		}
		d.rest = append(d.rest, gone)
	}
	d.rest = append(d.rest, at(f.set), at(dirTo.owner), at(fileTo.owner), at(allSets))
	if fileTo.owner != f.set {
		d.rest = append(d.rest, action{
			kind: actPut, set: fileTo.owner, part: 1, dir: fileTo.name.dir, name: fileTo.name.name, id: f.id, mode: f.mode & syscall.S_IFMT, held: f.set,
		})
	}
	return d
}

// forSet returns the actions that concern a set.
func forSet(list []action, set volume.SetID) []action {
	var mine []action
	for _, a := range list {
		if a.set == set || a.set == allSets {
			mine = append(mine, a)
		}
	}
	return mine
}

// moved returns the directories that the intent moves.
func (it *intent) moved() []volume.ID {
	var list []volume.ID
	add := func(id volume.ID) {
		if !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	for _, a := range append([]action{it.commit}, it.actions...) {
		if a.kind == actPlace || a.kind == actSwap {
			add(a.id)
		}
		if a.kind == actSwap && a.oldMode&syscall.S_IFMT == syscall.S_IFDIR {
			add(a.old)
		}
	}
	return list
}
