package server

import (
	"context"
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
// An object that has more than one name is another matter: the others lead to its attributes, which tell how many.

// goingMax bounds the names of a session that go at a time.
const goingMax = 64

func remove(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.RemoveArgs
	if !a.Parse(args) {
		return nil, false
	}
	var later volume.ID
	var err error
	if a.Object.IsZero() {
		later, err = r.remove(a.Dir, a.Name)
	} else {
		err = r.removeAgain(&a)
	}
	if b = wire.AppendStatus(b, err); err == nil {
		b = wire.AppendRemoved(b, later)
	}
	return b, true
}

// remove removes a name, or has it removed later: then it returns the object.
func (r *request) remove(dir volume.ID, name string) (later volume.ID, err error) {
	of := r.sess.role
	at := func() (volume.ID, error) { return volume.ID{}, of.set.Unlink(r, dir, name) }
	if r.sess.id[len(r.sess.id)-1] != 0 || r.sess.becomeNamer(r) != nil {
		return at()
	}
	v := of.names.goes(r.sess.id, wire.DirName{Dir: dir, Name: name}, false)
	if v == nil {
		return at()
	}
	here := true
	defer func() {
		if here {
			of.names.end(v)
		}
	}()
	if r.sess.srv.concerned(of, r, v.name) {
		return at()
	}
	a, err := of.set.Lookup(r, dir, name)
	switch {
	case err != nil:
		return later, err
	case a.IsDir(), a.Held != 0, a.Nlink > 1, !of.names.leads(v, a.ID, goingMax):
		return at()
	}
	whole := r.detached()
	if !r.sess.srv.goes(func() { r.sess.removes(whole, v) }) {
		return at()
	}
	here = false
	return a.ID, nil
}

// detached returns a request like r that does not end with it: the one under which what it asks for is done later.
func (r *request) detached() *request {
	return &request{Context: r.Context, sess: r.sess, op: r.op, number: r.number, deadline: time.Now().Add(r.sess.srv.conf.MaxTimeout), start: r.start, ident: r.ident}
}

// removes removes a name that was answered for.
func (s *session) removes(ctx context.Context, v *reservation) {
	ctx, cancel := context.WithTimeout(ctx, s.srv.conf.MaxTimeout)
	defer cancel()
	defer context.AfterFunc(s.srv.running, cancel)()
	err := s.role.set.Unlink(ctx, v.name.Dir, v.name.Name)
	if err != nil && volume.ReasonOf(err) != volume.NotPrimary && s.srv.running.Err() == nil {
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
	case at.ID != a.Object:
		return nil
	}
	return of.set.Unlink(r, a.Dir, a.Name)
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
