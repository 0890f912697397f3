package server

import (
	"syscall"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// A directory is removed later than it is answered, too, if nothing is in it but names that go, of the same session: whoever removes a tree
// would wait for these else. It is reserved as one that goes before it is looked at, so that
//
//   - requests that come after that, and concern a name in it, its attributes or itself by its ID, wait until it is gone. So nothing comes to be in it,
//     be it made, reserved, linked or renamed;
//   - of those that came before none runs any more that changes anything there (concerned), or it is removed as ever;
//   - what it holds then, and does not go, would be seen (Empty), and so would a name that is reserved for a file (onlyGoing).
//
// What goes in it stands before it among the goers, and RemoveAll keeps that order. So it is empty when it is removed, unless one
// of those names could not be removed, of which that is the consequence (spoils); it can't be that something was made there.
//
// Names of other sessions do not count as going here: if this server fails and the other client with it, they stay, and the
// directory with them, though its removal was answered. A client tells the next server what it was answered in that order (client/remote), so
// of what is in a directory before that. Nobody makes anything there in between: what was answered before the directory was found empty
// was seen then, and all requests that were not answered wait until it has told (names.gate).
//
// The link count of the directory above is told without those that go in it (attrOf).

// stage is how far the removal of a directory is at the member that serves.
type stage uint8

const (
	stays  stage = iota // it is there
	leaves              // or gone, who knows
	left                // it is gone, or could not be removed
)

// rmdirNow removes a directory, after what goes in it.
func (r *request) rmdirNow(a *wire.RemoveArgs) error {
	of := r.sess.role
	if err := r.await(of.names.inWay(r.narrowed(&wire.Concern{All: true})...)); err != nil {
		return err
	}
	return of.set.Rmdir(r, a.Dir, a.Name)
}

// emptied reports whether the directory that is reserved as one that goes is empty when the names have gone that go in it.
func (r *request) emptied(v *reservation) bool {
	of := r.sess.role
	remover, ok := of.set.(volume.Remover)
	if !ok || r.sess.srv.concerned(of, r, v.name, v.id) {
		return false
	}
	if a, err := of.set.Lookup(r, v.name.Dir, v.name.Name); err != nil || a.ID != v.id { // changed by what ran until just now
		return false
	}
	going, only := of.names.onlyGoing(v)
	if !only {
		return false
	}
	// One of them may go while this looks; none comes back.
	empty, err := remover.Empty(r, v.id, func(name string) bool { return going[name] })
	return err == nil && empty
}

// onlyGoing returns the names in a directory of which it was answered to its session that they go; false: others are reserved in it, or another
// reservation of the directory is there.
func (n *names) onlyGoing(v *reservation) (going map[string]bool, only bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.objects[v.id] != v {
		return nil, false
	}
	going = map[string]bool{}
	for name, in := range n.mu.by {
		if name.Dir != v.id {
			continue
		}
		if !in.answered || in.sess != v.sess {
			return nil, false
		}
		going[name.Name] = true
	}
	return going, true
}

// answers notes that it will be answered that a name goes.
func (n *names) answers(v *reservation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v.answered = true
	n.mu.turn++
}

// removal is what removes a name that goes.
func (n *names) removal(g *goer) volume.Removal {
	v := g.v
	m := volume.Removal{Of: g.of, Dir: v.name.Dir, Name: v.name.Name}
	if v.dir {
		m.Object = v.id
		m.Around = func(remove func()) {
			n.comes(v, leaves)
			remove()
			n.comes(v, left)
		}
	}
	return m
}

// comes notes how far the removal of a directory is.
func (n *names) comes(v *reservation, s stage) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v.stage = s
	n.mu.turn++
}

// spoils notes that a name could not be removed, for the directory that it is in; of a directory that could not be because of that it
// returns why that was.
func (n *names) spoils(v *reservation, err error) error {
	if err == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if v.spoilt != nil && volume.ErrnoOf(err) == syscall.ENOTEMPTY {
		err = v.spoilt
	}
	if in := n.mu.objects[v.name.Dir]; in != nil {
		in.spoilt = err
	}
	return err
}

// goingIn is how many directories in one go, and are there yet; turn is another when that may be.
func (n *names) goingIn(dir volume.ID) (some uint32, turn uint64, sure bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sure = true
	for _, v := range n.mu.objects {
		if v.dir && v.name.Dir == dir && v.answered {
			sure = sure && v.stage != leaves
			if v.stage == stays {
				some++
			}
		}
	}
	return some, n.mu.turn, sure
}

// tellTries bounds how often a directory is looked at whose directories are just going.
const tellTries = 3

// attrOf returns the attributes of a directory without the directories in it that go. False: they can't be told now.
func (r *request) attrOf(dir volume.ID) (a volume.Attr, ok bool) {
	of := r.sess.role
	for range tellTries {
		some, turn, sure := of.names.goingIn(dir)
		a, err := of.set.Getattr(r, dir)
		if err != nil {
			return a, false
		}
		if _, after, _ := of.names.goingIn(dir); sure && after == turn {
			if a.Nlink > some+1 { // else the file system does not count them
				a.Nlink -= some
			}
			return a, true
		}
	}
	return a, false
}

// settled waits for the names that go in a directory of which attributes were told, and reports whether there were any.
func (r *request) settled(dir *volume.Attr) (some bool, err error) {
	n := r.sess.role.names
	if !dir.IsDir() || n.busy.Load() == 0 {
		return false, nil
	}
	going := n.those(func(v *reservation) bool { return v.answered && v.name.Dir == dir.ID })
	return len(going) > 0, r.await(going)
}

// settledOnly takes the attributes out of entries of directories in which names go. Who wants them asks, and waits.
func (n *names) settledOnly(entries []volume.Entry) {
	if n.busy.Load() == 0 {
		return
	}
	in := map[volume.ID]bool{}
	for _, v := range n.those(func(v *reservation) bool { return v.answered }) {
		in[v.name.Dir] = true
	}
	for i := range entries {
		if e := &entries[i]; e.HasAttr && in[e.ID] {
			e.HasAttr, e.Attr = false, volume.Attr{}
		}
	}
}
