package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// A client that makes small files reserves each name first, and then makes the file with all that is
// in it: one change of the set, not two. A reservation is in the server's memory only. For everyone else
// the file is there from then on, and what would tell the difference waits until it really is:
//
//   - A reservation is entered first; then all requests that run are looked at, and if any that changes something
//     concerns the name it is taken back, and the client makes the file as ever; then it is seen that the Backend has no
//     such name. Requests that come after it was entered, and concern it, wait until it is over. So no change
//     runs beside it; and a question that does was asked before the name was said to be there.
//   - It is over when the Make of its client and object has been executed, or after volume.ReserveTime, of which
//     the client counts from before. A Make that comes later has to find the name free like any other.
//   - The answer is the Backend's (Lookup), so a primary that has lost its set without knowing answers none.
//
// When the server changes, the next one knows of no reservation; but it has the record (Lockers), into which a
// client's session comes before its first one. It holds back what concerns any name until each
// session of the record has said that nothing of it is to come any more (Settle), but not for longer than ReserveTime:
// whatever was reserved before is over then. (The earlier server, perhaps cut off by now, can't have granted any later: it
// served by a lease, which had run out before there was another one.) What is made under a reservation
// is not held back.
//
// A name that is removed is reserved likewise while that is done, so its client can have the answer before: see remove.
type names struct {
	busy atomic.Int32  // reservations, and 1 while the gate is closed: 0 costs requests nothing
	gate chan struct{} // closed when all concerned have settled
	some atomic.Bool   // something is held
	mu   struct {
		sync.Mutex
		by       map[wire.DirName]*reservation
		unsettle map[wire.SessionID]bool    // of the record, which have not settled
		until    time.Time                  // that the gate is closed
		open     bool                       // it is not
		objects  map[volume.ID]*reservation // those that go, by what they lead to
		turn     uint64                     // grows when one is answered for, begins to go, or is gone
		held     []held                     // in the order in which they were born
		over     bool                       // the role is
	}
}

// reservation is a name that is kept. Its fields are guarded by names.mu.
type reservation struct {
	name   wire.DirName
	id     volume.ID // of the file to be made, or that loses the name
	sess   wire.SessionID
	until  time.Time
	making bool // that is under way: it is over when that is
	going  bool // the name goes
	over   chan struct{}

	// Of a name that goes.
	answered bool  // or about to be: it has its place among the goers
	dir      bool  // it leads to a directory
	stage    stage // of a directory
	spoilt   error // why a name in it could not be removed, so that it can't be either
}

// reservedMax bounds the reservations of a role: there are as many as files that have just been made.
const reservedMax = 1 << 14

// newNames returns the names of a role; before it the sessions of the record may have reserved some.
func newNames(record []wire.SessionID) *names {
	n := &names{gate: make(chan struct{})}
	n.mu.by, n.mu.objects = map[wire.DirName]*reservation{}, map[volume.ID]*reservation{}
	n.mu.unsettle = map[wire.SessionID]bool{}
	for _, id := range record {
		n.mu.unsettle[id] = true
	}
	n.mu.until = time.Now().Add(volume.ReserveTime)
	n.busy.Store(1)
	n.openLocked(len(record) == 0) // nobody else knows of it yet
	return n
}

// openLocked opens the gate, if it is time.
func (n *names) openLocked(now bool) {
	if !now || n.mu.open {
		return
	}
	n.mu.open = true
	n.busy.Add(-1)
	close(n.gate)
}

// settled notes that of a session nothing is to come.
func (n *names) settled(id wire.SessionID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.mu.unsettle, id)
	n.openLocked(len(n.mu.unsettle) == 0)
}

// reserve enters a reservation; nil: there is one, or too many, or the gate is closed.
func (n *names) reserve(sess wire.SessionID, name wire.DirName, id volume.ID, now time.Time) *reservation {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.mu.open {
		return nil
	}
	return n.enterLocked(&reservation{name: name, id: id, sess: sess, until: now.Add(volume.ReserveTime)})
}

// goes enters a name that goes, until end; nil: it is reserved, or there are too many, or the gate is closed, which does
// not matter for what was answered by another server (again).
func (n *names) goes(sess wire.SessionID, name wire.DirName, again bool) *reservation {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.mu.open && !again {
		return nil
	}
	return n.enterLocked(&reservation{name: name, sess: sess, making: true, going: true})
}

func (n *names) enterLocked(v *reservation) *reservation {
	if n.mu.by[v.name] != nil || len(n.mu.by) >= reservedMax {
		return nil
	}
	v.over = make(chan struct{})
	n.mu.by[v.name] = v
	n.busy.Add(1)
	return v
}

// leads notes which object loses the name, and reports whether the session has no more than so many such names. Who asks
// about the object, or what is in it, waits from then on.
func (n *names) leads(v *reservation, id volume.ID, dir bool, most int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	v.id, v.dir = id, dir
	if n.mu.objects[id] == nil {
		n.mu.objects[id] = v
	}
	for _, o := range n.mu.by {
		if o.going && o.sess == v.sess {
			most--
		}
	}
	return most >= 0
}

// those returns the reservations that are so.
func (n *names) those(so func(v *reservation) bool) (all []*reservation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, v := range n.mu.by {
		if so(v) {
			all = append(all, v)
		}
	}
	return all
}

// going returns the names of a session that go.
func (n *names) going(sess wire.SessionID) []*reservation {
	return n.those(func(v *reservation) bool { return v.going && v.sess == sess })
}

// end ends a reservation.
func (n *names) end(v *reservation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.endLocked(v)
}

func (n *names) endLocked(v *reservation) {
	if n.mu.by[v.name] == v {
		delete(n.mu.by, v.name)
		if n.mu.objects[v.id] == v {
			delete(n.mu.objects, v.id)
		}
		n.busy.Add(-1)
		close(v.over)
	}
}

// tend ends what is over by time.
func (n *names) tend(now time.Time) {
	if n.busy.Load() == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.openLocked(!now.Before(n.mu.until))
	for _, v := range n.mu.by {
		if !v.making && !now.Before(v.until) {
			n.endLocked(v)
		}
	}
}

// drop ends the reservations of a session that has ended for good, and of which nothing is to come.
func (n *names) drop(id wire.SessionID) {
	n.settled(id)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, v := range n.mu.by {
		if v.sess == id && !v.making {
			n.endLocked(v)
		}
	}
}

// absent returns the sessions of the record that have not settled.
func (n *names) absent() (ids []wire.SessionID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range n.mu.unsettle {
		ids = append(ids, id)
	}
	return ids
}

// inWay returns the reservations that a request about all this has to wait for, those that there are now.
func (n *names) inWay(about ...wire.Concern) (all []*reservation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range about {
		c := &about[i]
		for _, id := range [...]volume.ID{c.Name.Dir, c.Dir, c.Of} {
			if v := n.mu.objects[id]; v != nil {
				all = append(all, v)
			}
		}
		if c.Dir.IsZero() && c.Of.IsZero() && !c.All {
			if v := n.mu.by[c.Name]; v != nil {
				all = append(all, v)
			}
			continue
		}
		for name, v := range n.mu.by {
			if c.Touches(name) {
				all = append(all, v)
			}
		}
	}
	return all
}

// narrowed returns what a request is about, if that can be told by asking the Backend: the names of a Rmdir or Rename, and what is in
// the directory that goes. Nothing comes to be reserved in one that is about to go, for who reserves looks at what runs.
func (r *request) narrowed(c *wire.Concern) (about []wire.Concern) {
	var names []wire.DirName
	args := wire.NewReader(r.body)
	switch r.op {
	case wire.OpRmdir:
		var a wire.NameArgs
		if a.Parse(&args) {
			names = []wire.DirName{{Dir: a.Dir, Name: a.Name}}
		}
	case wire.OpRemove:
		var a wire.RemoveArgs
		if a.Parse(&args) {
			names = []wire.DirName{{Dir: a.Dir, Name: a.Name}}
		}
	case wire.OpRename:
		var a wire.RenameArgs
		if a.Parse(&args) {
			names = []wire.DirName{{Dir: a.NewDir, Name: a.NewName}, {Dir: a.OldDir, Name: a.OldName}}
		}
	}
	if len(names) == 0 || !c.All {
		return []wire.Concern{*c}
	}
	for _, name := range names {
		about = append(about, wire.Concern{Name: name})
	}
	switch a, err := r.sess.role.set.Lookup(r, names[0].Dir, names[0].Name); {
	case volume.ErrnoOf(err) == syscall.ENOENT:
	case err != nil:
		return []wire.Concern{*c}
	case a.IsDir():
		about = append(about, wire.Concern{Dir: a.ID})
	}
	return about
}

// takeNames waits until nothing is in a request's way; done is to be called when it has been executed.
func (r *request) takeNames() (done func(), err error) {
	n := r.sess.role.names
	if (r.op == wire.OpUnlink || r.op == wire.OpRemove) && n.some.Load() {
		n.parts(r.sess.id, wire.ConcernOf(r.op, r.body).Name)
	}
	if n.busy.Load() == 0 && r.op != wire.OpBear {
		return func() {}, nil
	}
	c := r.concern()
	if c.None() || r.op == wire.OpRemove && !c.Of.IsZero() { // this is what the gate is closed for
		return func() {}, nil
	}
	if id, reserved := r.bearsReserved(); reserved {
		return n.bears(r.sess.id, c.Name, id)
	}
	// Reserve finds the gate closed by itself, and files are opened anew before their client has settled.
	if r.op != wire.OpReserve && r.op != wire.OpOpen && r.op != wire.OpReadlink {
		if err := n.await(r, n.gate); err != nil {
			return nil, err
		}
	}
	if err := r.await(n.inWay(r.narrowed(&c)...)); err != nil {
		return nil, err
	}
	return func() {}, nil
}

// await waits until reservations are over.
func (r *request) await(all []*reservation) error {
	of := r.sess.role
	for _, v := range all {
		if v.going {
			of.goers.now()
		}
		if err := of.names.await(r, v.over); err != nil {
			return err
		}
	}
	return nil
}

// concern returns what a request is about.
func (r *request) concern() wire.Concern {
	c := wire.ConcernOf(r.op, r.body)
	if r.op == wire.OpFileGetattr || r.op == wire.OpFileSetattr {
		args := wire.NewReader(r.body)
		c.Of = r.sess.fileID(args.U64())
	}
	return c
}

// bearsReserved reports whether a request makes a file whose name is said to be reserved, and which.
func (r *request) bearsReserved() (id volume.ID, reserved bool) {
	if r.op != wire.OpBear {
		return id, false
	}
	var a wire.BearArgs
	args := wire.NewReader(r.body)
	ok := a.Parse(&args)
	return a.Node.ID, ok && a.Reserved
}

// bears lets a file be made whose name is reserved here, or may have been before this server was.
func (n *names) bears(sess wire.SessionID, name wire.DirName, id volume.ID) (done func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v := n.mu.by[name]
	switch {
	case v != nil && v.sess == sess && v.id == id:
		v.making = true
		return func() { n.end(v) }, nil
	case !n.mu.open:
		return func() {}, nil
	}
	return nil, errOver
}

// errOver is the answer to a Bear whose reservation is over. It has done nothing.
var errOver = &volume.Error{Op: wire.OpBear.String(), Errno: syscall.EOPNOTSUPP, Err: errors.New("the name is not reserved any more")}

// await waits for what tend closes at the latest, unless somebody does before.
func (n *names) await(r *request, over <-chan struct{}) error {
	select {
	case <-over:
		return nil
	default:
	}
	select {
	case <-over:
		return nil
	case <-r.Done():
		errno := syscall.EINTR
		if errors.Is(r.Err(), context.DeadlineExceeded) {
			errno = syscall.ETIMEDOUT
		}
		return &volume.Error{Op: r.op.String(), Errno: errno, Err: r.Err()}
	}
}

// concerned reports whether a request of a client that runs, other than own, concerns a name, or what is in a directory.
func (s *Server) concerned(of *role, own *request, name wire.DirName, in ...volume.ID) bool {
	s.mu.Lock()
	all := make([]*session, 0, len(s.mu.sessions)+len(s.mu.leaving))
	for _, there := range []map[wire.SessionID]*session{s.mu.sessions, s.mu.leaving} {
		for _, sess := range there {
			if sess.role == of {
				all = append(all, sess)
			}
		}
	}
	s.mu.Unlock()
	for _, sess := range all {
		if sess.runs(own, name, in) {
			return true
		}
	}
	return false
}

// runs reports whether a request of the session that runs, other than own, concerns a name, or what is in some directories.
func (s *session) runs(own *request, name wire.DirName, in []volume.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.mu.requests {
		if r == own || r.reply != nil || r.op != wire.OpStep && !wire.Changes(r.op, r.body) {
			continue
		}
		c := wire.ConcernOf(r.op, r.body)
		if c.Touches(name) || slices.Contains(in, c.Name.Dir) || slices.Contains(in, c.Dir) {
			return true
		}
	}
	return false
}
