package server

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// Where a name can't be reserved, and there is nothing wrong, the answer is one of these: that of no name in the
// directory can, or that this one can't, now.
var (
	errUnreserved = &volume.Error{Op: wire.OpReserve.String(), Errno: syscall.EOPNOTSUPP, Err: errors.New("the file is to be made at once")}
	errBusy       = &volume.Error{Op: wire.OpReserve.String(), Errno: syscall.EAGAIN, Err: errors.New("the file is to be made at once")}
)

func reserve(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.MakeArgs
	if !a.Parse(args) {
		return nil, false
	}
	attr, err := r.reserve(&a)
	return attrReply(b, attr, err)
}

func settle(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	if !args.Done() {
		return nil, false
	}
	r.sess.role.names.settled(r.sess.id)
	return wire.AppendStatus(b, nil), true
}

// reserve keeps a name for a file that the client is about to make, see names.
func (r *request) reserve(a *wire.MakeArgs) (attr volume.Attr, err error) {
	if a.Node.ID.IsZero() || a.Node.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return attr, &volume.Error{Op: r.op.String(), Where: a.Name, Errno: syscall.EINVAL}
	}
	if err := r.sess.becomeNamer(r); err != nil {
		return attr, err
	}
	of, name := r.sess.role, wire.DirName{Dir: a.Dir, Name: a.Name}
	v := of.names.reserve(r.sess.id, name, a.Node.ID, time.Now())
	if v == nil {
		return attr, errBusy
	}
	defer func() {
		if err != nil {
			of.names.end(v)
		}
	}()
	if r.sess.srv.concerned(of, r, name) {
		return attr, errBusy
	}
	dir, err := of.set.Getattr(r, a.Dir)
	switch {
	case err != nil:
		return attr, err
	case !dir.IsDir():
		return attr, &volume.Error{Op: r.op.String(), Where: a.Name, Errno: syscall.ENOTDIR}
	case a.Node.Parent != 0 && a.Node.Parent != dir.Version:
		return attr, errUnreserved
	}
	if _, err := of.set.Getxattr(r, a.Dir, volume.ACLDefault); volume.ErrnoOf(err) != syscall.ENODATA {
		return attr, errUnreserved // what it would inherit is not simple
	}
	switch _, err := of.set.Lookup(r, a.Dir, a.Name); volume.ErrnoOf(err) {
	case syscall.ENOENT:
		return foreseen(a, &dir, volume.CredOf(r), volume.TimeOf(r.start)), nil
	case 0:
		return attr, &volume.Error{Op: r.op.String(), Where: a.Name, Errno: syscall.EEXIST}
	default:
		return attr, err
	}
}

// foreseen returns what the attributes of a new file will be, about.
func foreseen(a *wire.MakeArgs, dir *volume.Attr, cred volume.Cred, now volume.Time) volume.Attr {
	attr := volume.Attr{
		ID: a.Node.ID, Mode: a.Node.Mode &^ (cred.Umask & 0o777), Nlink: 1, UID: cred.UID, GID: cred.GID,
		Atime: now, Mtime: now, Ctime: now, Btime: now,
	}
	if dir.Mode&syscall.S_ISGID != 0 {
		attr.GID = dir.GID
	}
	return attr
}

// A session is in the record twice if it may have both, locks and reserved names: as what it
// is, and marked. IDs of sessions that are recorded end with a byte 0.

// marked is a session that may have reserved names, in the record.
func marked(id wire.SessionID) wire.SessionID {
	id[len(id)-1] = 1
	return id
}

// splitRecord returns the sessions of a record that may have locks, and those that may have names.
func splitRecord(record []wire.SessionID) (lockers, namers []wire.SessionID) {
	for _, id := range record {
		last := len(id) - 1
		if id[last] == 0 {
			lockers = append(lockers, id)
		} else {
			id[last] = 0
			namers = append(namers, id)
		}
	}
	return lockers, namers
}

// becomeNamer records the session before it reserves its first name. errUnreserved: it can't be recorded.
func (s *session) becomeNamer(ctx context.Context) error {
	if s.id[len(s.id)-1] != 0 {
		return errUnreserved
	}
	s.mu.Lock()
	named, ended := s.mu.named, s.mu.ended
	s.mu.Unlock()
	switch {
	case ended:
		return volume.Errorf("reserve", "", syscall.EIO, "the session has ended")
	case named:
		return nil
	}
	rec := s.role.lockers
	if rec == nil {
		return errUnreserved
	}
	if err := rec.AddLocker(ctx, marked(s.id)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.named = true
	if s.mu.ended { // meanwhile, so nobody else takes it out
		return volume.Errorf("reserve", "", syscall.EIO, "the session has ended")
	}
	return nil
}

// tendNames ends reservations that are over by time, and takes out of the record who did not come back.
func (s *Server) tendNames(of *role, now time.Time) {
	of.names.tend(now)
	of.names.release(now)
	if now.Sub(of.began) < s.conf.Grace {
		return
	}
	gone := of.names.absent()
	gone = slices.DeleteFunc(gone, func(id wire.SessionID) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.mu.sessions[id] != nil
	})
	if len(gone) == 0 || of.lockers == nil {
		return
	}
	s.tends(&of.namesTending, func() {
		for _, id := range gone {
			if s.unrecord(of, marked(id)) {
				of.names.settled(id)
			}
		}
	})
}
