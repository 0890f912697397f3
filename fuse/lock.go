package fuse

import (
	"context"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mortarfs/mortar/volume"
)

// Locks of fcntl and flock are the volume's: the kernel keeps none of its own, and
// asks for each. An owner is a number that the kernel makes of a process's table of
// descriptors, or of an open file description (OFD locks and flock); it does not say which.
//
//   - fcntl's locks of a process end with the close of any descriptor of the file. The kernel
//     tells of each close by FLUSH, with the owner.
//   - OFD locks and flocks end with the last close of an open file, which it tells
//     by RELEASE. So the front knows whose locks were set through each openFile (grants), and what is left of them
//     goes then.
//
// A file that is opened just for reading needs no FLUSH (see handle), which spares a
// request for each file of a tree that is read. From the first lock on a file on, FLUSH is asked for at
// every opening of it. So one thing is not as on a disk: a descriptor that was opened just for reading before this
// mount had any lock on the file gives up, when it is closed, only those
// locks of its process that were set through it.
//
// # Data follow locks
//
// Before a lock is granted the kernel drops the file's pages and attributes, so that
// what is read under it is what the last holder has written. Before one is given up
// the kernel writes back what is dirty in mappings (before a FLUSH it does by itself). Both are one
// notice (InodeNotify), which waits for the pages; so it is sent by the goroutine that answers the lock, whose
// caller holds none of them. What was written is then in the FS, which hands on what it delays before
// it gives the lock up (volume.File.Lock).
//
// The kernel may be wrong about where a file ends, for the notice says that it has changed and not how. Then it
// keeps what is appended in the wrong pages; a read asks for the attributes before it looks at them
// (AUTO_INVAL_DATA), and drops them because of another size.
//
// # Names
//
// Who shares files under locks mostly has more of them beside the one that is
// locked, whose coming and going it looks at (a database's journal). So the kernel is told to ask anew for each
// name in a directory where a file was locked or unlocked in the last strictFor.

const strictFor = 10 * time.Second

// beStrict has the names in a file's directory asked for anew.
func (f *front) beStrict(n *node) {
	if dir := n.dir.Load(); dir != nil {
		dir.strict.Store(f.now() + int64(strictFor))
	}
}

// believed returns for how long the kernel may believe a name in dir that it hears of, or that it is none.
func (f *front) believed(dir *node, timeout time.Duration) (sec uint64, nsec uint32) {
	if dir != nil && f.now() < dir.strict.Load() {
		return 0, 0
	}
	return seconds(timeout)
}

// lockOf reads a lock that the kernel asks for.
func lockOf(in *gofuse.LkIn) (l volume.Lock, s gofuse.Status) {
	l = volume.Lock{
		Owner: volume.LockOwner{Number: in.Owner}, Flock: in.LkFlags&gofuse.LK_FLOCK != 0,
		Start: int64(in.Lk.Start), End: int64(in.Lk.End), PID: in.Lk.Pid,
	}
	switch in.Lk.Typ {
	case syscall.F_RDLCK:
		l.Type = volume.SharedLock
	case syscall.F_WRLCK:
		l.Type = volume.ExclusiveLock
	case syscall.F_UNLCK:
	default:
		return l, gofuse.EINVAL
	}
	if l.Flock {
		l.Start, l.End = 0, volume.LockEnd
	}
	if !l.Valid() {
		return l, gofuse.EINVAL
	}
	return l, gofuse.OK
}

// GetLk is F_GETLK.
func (f *front) GetLk(cancel <-chan struct{}, in *gofuse.LkIn, out *gofuse.LkOut) gofuse.Status {
	o := f.files.get(in.Fh)
	if o == nil {
		return gofuse.EBADF
	}
	l, s := lockOf(in)
	if s != gofuse.OK {
		return s
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	found, err := o.file.TestLock(c, l)
	if err != nil {
		return f.fail("getlk", err)
	}
	out.Lk = gofuse.FileLock{Start: uint64(found.Start), End: uint64(found.End), Typ: syscall.F_UNLCK, Pid: found.PID}
	switch found.Type {
	case volume.SharedLock:
		out.Lk.Typ = syscall.F_RDLCK
	case volume.ExclusiveLock:
		out.Lk.Typ = syscall.F_WRLCK
	}
	return gofuse.OK
}

// SetLk is F_SETLK, F_OFD_SETLK and flock with LOCK_NB, and all unlocking.
func (f *front) SetLk(cancel <-chan struct{}, in *gofuse.LkIn) gofuse.Status {
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	return f.setLock(c, in, false)
}

// SetLkw is F_SETLKW, F_OFD_SETLKW and flock. Unlike all else it ends with any signal:
// the kernel begins it anew if the signal's handler says so.
func (f *front) SetLkw(cancel <-chan struct{}, in *gofuse.LkIn) gofuse.Status {
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	return f.setLock(&patient{c}, in, true)
}

// patient is the context of a call that waits for what any signal ends.
type patient struct{ call *call }

func (p *patient) Deadline() (time.Time, bool) { return time.Time{}, false }
func (p *patient) Done() <-chan struct{}       { return p.call.interrupt }
func (p *patient) Value(key any) any           { return p.call.Value(key) }
func (p *patient) Err() error {
	if p.call.interrupted() {
		return context.Canceled
	}
	return nil
}

func (f *front) setLock(ctx context.Context, in *gofuse.LkIn, wait bool) gofuse.Status {
	o := f.files.get(in.Fh)
	if o == nil {
		return gofuse.EBADF
	}
	l, s := lockOf(in)
	if s != gofuse.OK {
		return s
	}
	f.beStrict(o.node)
	if l.Type == volume.Unlocked {
		f.refresh(o.node)
		if l.Flock {
			_, over := o.node.grants.gives(o, flocks)
			defer over()
		}
		return f.fail("unlock", o.file.Lock(ctx, l, false))
	}
	o.node.locked.Store(true)
	k := lockKey{l.Owner.Number, l.Flock}
	f.inherit(ctx, o, k)
	var err error
	if l.Flock && !wait {
		err = f.tryFlock(ctx, o, l)
	} else {
		err = o.file.Lock(ctx, l, wait)
	}
	switch volume.ErrnoOf(err) {
	case syscall.EAGAIN, syscall.EDEADLK, syscall.EINTR:
	default: // perhaps not got, which nobody minds
		o.node.grants.took(o, k)
	}
	switch errno := volume.ErrnoOf(err); errno {
	case 0:
		f.refresh(o.node)
	case syscall.EAGAIN, syscall.EDEADLK:
		return gofuse.Status(errno)
	case syscall.EOPNOTSUPP:
		f.grumble.line("lock", err) // it says what is to be updated
	}
	return f.fail("lock", err)
}

// refresh has the kernel write back and drop what it keeps of a file.
func (f *front) refresh(n *node) {
	if s := f.notify.Load(); s != nil {
		s.InodeNotify(n.number, 0, 0)
	}
}

// unlockAll gives up all that an owner has on a file.
func (f *front) unlockAll(ctx context.Context, o *openFile, k lockKey) gofuse.Status {
	l := volume.Lock{Owner: volume.LockOwner{Number: k.owner}, Flock: k.flock, End: volume.LockEnd}
	return f.fail("unlock", o.file.Lock(ctx, l, false))
}

// releaseLocks gives up what is left of the locks that were set through a file, by whom. Of its closing nothing
// was told if it was opened before there were locks, and what is dirty may be so by another one.
func (f *front) releaseLocks(ctx context.Context, o *openFile, whose []lockKey) {
	if len(whose) > 0 {
		f.refresh(o.node)
	}
	for _, k := range whose {
		if o.node.grants.alone(o, k) {
			f.unlockAll(ctx, o, k)
		}
	}
}
