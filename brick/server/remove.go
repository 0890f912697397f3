package server

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// A program that removes a tree asks for one name after the other, and waits each time for all members of the
// set. So a name may be removed a little later than it is answered (OpRemove): its session is recorded and the name reserved, as
// for a file that is to be made, until the Backend has removed it. Whoever asks meanwhile waits, about the name, its directory
// (whose times change, and which may be removed when it is empty), or the object; its own client too. So nobody can
// tell the difference as long as this server lives. If another one takes its place, the client says once more what
// of that it has not heard to be made (Await); everybody else's requests wait until then, or for volume.ReserveTime.
//
// What is lost is a name's removal that was answered, and not synced (Sync of its directory waits), if the server and the client
// end at the same moment: as on a disk.
//
// An object that has more than one name is another matter: the others lead to its attributes, which tell how many. Of directories see rmdir.go.

// goingMax bounds the names of a session that go at a time.
const goingMax = 64

func remove(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.RemoveArgs
	if !a.Parse(args) {
		return nil, false
	}
	var err error
	if a.Going.Object.IsZero() {
		err = r.remove(&a)
	} else {
		err = r.removeAgain(&a)
	}
	if b = wire.AppendStatus(b, err); err == nil {
		b = wire.AppendGoing(b, r.going)
	}
	return b, true
}

// remove removes a name, or has it removed later: then it notes so in r.going.
func (r *request) remove(a *wire.RemoveArgs) error {
	of := r.sess.role
	at := func() error { return of.set.Unlink(r, a.Dir, a.Name) }
	if a.Directory {
		at = func() error { return r.rmdirNow(a) }
	}
	date, dated := volume.PresentOf(of.set)
	if !dated || r.sess.becomeNamer(r) != nil {
		return at()
	}
	v := of.names.goes(r.sess.id, wire.DirName{Dir: a.Dir, Name: a.Name}, false)
	if v == nil {
		return at()
	}
	late, err := r.later(v, a.Directory)
	if late && r.sess.srv.removeLater(of, &goer{v: v, sess: r.sess, of: volume.WithDate(r, date)}) {
		r.going = wire.Going{Object: v.id, At: date}
		return nil
	}
	if a.Directory { // who waits for what goes in it must not be waited for
		of.names.end(v)
	} else {
		defer of.names.end(v)
	}
	if err != nil {
		return err
	}
	return at()
}

// later reports whether a name, which is reserved, may go later than that is answered. An error is the answer.
func (r *request) later(v *reservation, directory bool) (yes bool, err error) {
	of := r.sess.role
	if !directory && r.sess.srv.concerned(of, r, v.name) {
		return false, nil
	}
	a, err := of.set.Lookup(r, v.name.Dir, v.name.Name)
	switch {
	case err != nil:
		return false, err
	case a.IsDir() != directory, a.Held != 0, !directory && a.Nlink > 1, !of.names.leads(v, a.ID, directory, goingMax):
		return false, nil
	case directory && !r.emptied(v):
		return false, nil
	}
	of.names.answers(v)
	return true, nil
}

// goer is a name that was answered for.
type goer struct {
	v    *reservation
	sess *session
	of   context.Context // the request
}

// goers are a role's names that go. One goroutine removes them while there are any, many together, which costs less than each by
// itself: when there are enough, somebody waits for one, or the first has waited for goingFor.
type goers struct {
	hurry chan struct{} // has one when they are to be removed now
	work  sync.WaitGroup
	mu    struct {
		sync.Mutex
		waiting []*goer
		at      bool // somebody removes
	}
}

const (
	goingFor    = 2 * time.Millisecond
	togetherMin = 8  // names that are enough
	togetherMax = 32 // names that are removed together
)

// now has what waits removed.
func (g *goers) now() {
	select {
	case g.hurry <- struct{}{}:
	default: // it is known
	}
}

// removeLater has a name removed; false: the server stops.
func (s *Server) removeLater(of *role, g *goer) bool {
	of.goers.mu.Lock()
	defer of.goers.mu.Unlock()
	if !of.goers.mu.at {
		of.goers.work.Add(1)
		if !s.goes(func() { defer of.goers.work.Done(); s.removeAll(of) }) {
			of.goers.work.Done()
			return false
		}
		of.goers.mu.at = true
	}
	of.goers.mu.waiting = append(of.goers.mu.waiting, g)
	if len(of.goers.mu.waiting) == togetherMin {
		of.goers.now()
	}
	return true
}

// next waits for names to be removed together and takes them, none: the caller is done.
func (g *goers) next(stop context.Context) (some []*goer) {
	t := time.NewTimer(goingFor)
	defer t.Stop()
	hurried := false
	select {
	case <-g.hurry:
		hurried = true
	case <-t.C:
	case <-stop.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.mu.waiting), togetherMax)
	some, g.mu.waiting = g.mu.waiting[:n:n], g.mu.waiting[n:]
	g.mu.at = n > 0
	if left := len(g.mu.waiting); left >= togetherMin || hurried && left > 0 {
		g.now()
	}
	return some
}

// removeAll removes names until there are none.
func (s *Server) removeAll(of *role) {
	for some := of.goers.next(s.running); len(some) > 0; some = of.goers.next(s.running) {
		all := make([]volume.Removal, len(some))
		for i, g := range some {
			all[i] = of.names.removal(g)
		}
		ctx, cancel := context.WithTimeout(s.running, s.conf.MaxTimeout)
		volume.RemoveAll(ctx, of.set, all)
		cancel()
		for i, g := range some {
			g.sess.removed(g.v, all[i].Err)
		}
	}
}

// removed notes how the removal of a name ended that was answered for. If this server serves no more it is for the next one to
// make it: nobody who waits for the name goes on here, and all sessions end.
func (s *session) removed(v *reservation, err error) {
	switch err = s.role.names.spoils(v, err); {
	case err == nil:
	case s.srv.running.Err() != nil:
		return
	case volume.ReasonOf(err) == volume.NotPrimary:
		s.srv.end(s, "the set is not served here any more", again)
		return
	default:
		s.srv.log.Error("a name could not be removed", "name", v.name.Name, "client", s.name, "err", err)
		s.mu.Lock()
		if len(s.mu.unmade) < wire.UnmadeMax {
			s.mu.unmade = append(s.mu.unmade, wire.Unmade{Dir: v.name.Dir, Errno: volume.ErrnoOf(err)})
		}
		s.mu.Unlock()
	}
	s.role.names.end(v)
}

// removeAgain removes a name that a server before has answered for, if it is there yet.
func (r *request) removeAgain(a *wire.RemoveArgs) error {
	of, name := r.sess.role, wire.DirName{Dir: a.Dir, Name: a.Name}
	v := of.names.goes(r.sess.id, name, true)
	for v == nil {
		in := of.names.inWay(wire.Concern{Name: name})
		if len(in) == 0 { // too many are reserved
			return &volume.Error{Op: r.op.String(), Where: a.Name, Errno: syscall.EAGAIN}
		}
		if err := of.names.await(r, in[0].over); err != nil {
			return err
		}
		v = of.names.goes(r.sess.id, name, true)
	}
	defer of.names.end(v)
	switch at, err := of.set.Lookup(r, a.Dir, a.Name); {
	case volume.ErrnoOf(err) == syscall.ENOENT || volume.ErrnoOf(err) == syscall.ESTALE:
		return nil
	case err != nil:
		return err
	case at.ID != a.Going.Object:
		return nil
	}
	if a.Directory {
		if err := r.await(of.names.inWay(wire.Concern{Dir: a.Going.Object})); err != nil {
			return err
		}
	}
	ctx := context.Context(r)
	if dir, err := of.set.Getattr(r, a.Dir); err != nil || dir.Mtime.Before(a.Going.At) {
		ctx = volume.WithDate(r, a.Going.At)
	} // else something was changed in it later, under the server before, which this Backend may not remember
	if a.Directory {
		return of.set.Rmdir(ctx, a.Dir, a.Name)
	}
	return of.set.Unlink(ctx, a.Dir, a.Name)
}

// await answers when all has been made of what was answered before.
func await(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.AwaitArgs
	if !a.Parse(args) {
		return nil, false
	}
	s := r.sess
	if a.Server != s.role.incarnation {
		return wire.AppendStatus(b, &volume.Error{Op: r.op.String(), Errno: syscall.ESTALE}), true
	}
	for _, v := range s.role.names.going(s.id) {
		if err := s.role.names.await(r, v.over); err != nil {
			return wire.AppendStatus(b, err), true
		}
	}
	s.mu.Lock()
	unmade := s.mu.unmade
	s.mu.unmade = nil
	s.mu.Unlock()
	return wire.AppendUnmade(wire.AppendStatus(b, nil), unmade), true
}
