package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// keeper is a program that makes files of its own and changes them, each time in another way, and knows
// how they must be when the last call has succeeded.
type keeper struct {
	p     *Programs
	id    int // its mount
	dice  *rand.Rand
	mine  []string
	count int
}

// kept is how a file must be.
type kept struct {
	data  []byte
	mode  uint32
	mtime time.Time
}

const (
	fileMax   = 48 << 10 // bytes of a new file
	keptFiles = 200      // of a keeper; more, and one goes
)

// step makes a file or changes one.
func (k *keeper) step() {
	k.count++
	if len(k.mine) == 0 || len(k.mine) < keptFiles && k.dice.IntN(2) == 0 {
		k.make(fmt.Sprintf("%d-%d", k.id, k.count))
		return
	}
	at := k.dice.IntN(len(k.mine))
	name := k.mine[at]
	k.mine = slices.Delete(k.mine, at, at+1) // until it is known how it is
	k.p.mu.Lock()
	is := k.p.mu.kept[name]
	delete(k.p.mu.kept, name)
	k.p.mu.Unlock()
	k.change(name, is)
}

func (k *keeper) bytes(n int) []byte {
	line := fmt.Appendf(nil, "%d %d %x\n", k.id, k.count, k.dice.Uint32())
	return bytes.Repeat(line, n/len(line)+1)[:n]
}

// time is one that a file may have had elsewhere.
func (k *keeper) time() time.Time {
	return time.Unix(1_000_000_000+k.dice.Int64N(700_000_000), k.dice.Int64N(1_000_000_000))
}

func setTimes(fd int, mtime time.Time) error {
	ts, err := unix.TimeToTimespec(mtime)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{ts, ts}, unix.AT_EMPTY_PATH)
}

// writeIn writes bytes in pieces.
func (k *keeper) writeIn(f *os.File, b []byte, at int64) error {
	for len(b) > 0 {
		n := min(len(b), 1+k.dice.IntN(fileMax/3))
		if _, err := f.WriteAt(b[:n], at); err != nil {
			return err
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// make makes a file: plainly, synced, as cp -a does it, or as tar with names.
func (k *keeper) make(name string) {
	is := kept{data: k.bytes(k.dice.IntN(fileMax)), mode: 0o644}
	kind, begin := k.dice.IntN(4), time.Now()
	what := []string{"make", "make and sync", "make as cp", "make as tar"}[kind]
	f, err := os.OpenFile(k.p.path(k.id, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err == nil {
		err = k.writeIn(f, is.data, 0)
		if kind >= 2 && err == nil {
			is.mtime, is.mode = k.time(), []uint32{0o600, 0o444, 0o755, 0o640}[k.dice.IntN(4)]
			if err = setTimes(int(f.Fd()), is.mtime); err == nil {
				err = unix.Fchmod(int(f.Fd()), is.mode)
			}
		}
		if kind == 1 && err == nil {
			if err = f.Sync(); err == nil && k.dice.IntN(2) == 0 {
				k.p.seen(k.id+1, name, is, "synced and not closed", exact) // by another mount
			}
		}
		err = errors.Join(err, f.Close())
		if kind == 3 && err == nil { // of some files tar sets these afterwards
			is.mtime = k.time()
			ts, _ := unix.TimeToTimespec(is.mtime)
			err = unix.UtimesNanoAt(unix.AT_FDCWD, k.p.path(k.id, name), []unix.Timespec{ts, ts}, 0)
		}
	}
	k.settle(what, begin, err, name, is, exact)
}

// change overwrites a file in place or anew, appends to it, sets its times and mode, renames or removes it.
func (k *keeper) change(name string, is kept) {
	kind, begin, path := k.dice.IntN(6), time.Now(), k.p.path(k.id, name)
	what := []string{"overwrite", "truncate", "append", "set", "rename", "remove"}[kind]
	var err error
	switch kind {
	case 0:
		b := k.bytes(1 + k.dice.IntN(8192))
		at := k.dice.IntN(len(is.data) + 1)
		is.data = append(slices.Clone(is.data[:at]), append(b, is.data[min(len(is.data), at+len(b)):]...)...)
		is.mtime, err = time.Time{}, k.write(path, 0, b, int64(at))
	case 1:
		is.data, is.mtime = k.bytes(k.dice.IntN(fileMax)), time.Time{}
		err = k.write(path, os.O_TRUNC, is.data, 0)
	case 2:
		b := k.bytes(1 + k.dice.IntN(8192))
		is.mtime, err = time.Time{}, k.write(path, os.O_APPEND, b, 0)
		is.data = append(slices.Clone(is.data), b...)
	case 3:
		is.mtime, is.mode = k.time(), 0o600|uint32(k.dice.IntN(0o100))
		if err = os.Chmod(path, os.FileMode(is.mode)); err == nil {
			err = os.Chtimes(path, is.mtime, is.mtime)
		}
	case 4:
		name = fmt.Sprintf("%d-%d", k.id, k.count)
		err = os.Rename(path, k.p.path(k.id, name))
	default:
		if k.p.did(what, begin, unlink(path)) {
			k.p.missing(k.id, name)
		}
		return
	}
	how := glance
	if k.dice.IntN(4) == 0 { // waiting takes most of a keeper's time
		how = patient
	}
	k.settle(what, begin, err, name, is, how)
}

// write opens a file and writes, in pieces unless it is appended.
func (k *keeper) write(path string, flags int, b []byte, at int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|flags, 0)
	if err != nil {
		return err
	}
	if flags&os.O_APPEND != 0 {
		_, err = f.Write(b)
	} else {
		err = k.writeIn(f, b, at)
	}
	if err == nil && k.dice.IntN(4) == 0 {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// settle looks at a file that is closed, on its own mount and on another, in either order, and enters how it is; how is what the other
// mount is allowed. A file with a failed operation is not looked at again.
func (k *keeper) settle(what string, begin time.Time, err error, name string, is kept, how patience) {
	if !k.p.did(what, begin, err) {
		return
	}
	sure := true
	first := k.dice.IntN(2) == 0 // nothing may be handed on just because its own mount asks for it
	if first {
		_, sure = k.p.seen(k.id+1, name, is, what+", another mount first", how)
	}
	if sure {
		is.mtime, sure = k.p.seen(k.id, name, is, what+", same mount", exact) // such as it is told once the file is closed it stays
	}
	if sure && !first {
		_, sure = k.p.seen(k.id+1, name, is, what+", another mount", how)
	}
	if !sure {
		return
	}
	k.p.mu.Lock()
	k.p.mu.kept[name] = is
	k.p.mu.Unlock()
	k.mine = append(k.mine, name)
}

// patience is what a look at a file allows its mount.
type patience int

const (
	exact   patience = iota // nothing: the mount has changed the file itself, or never looked at it
	patient                 // to believe what it knows for as long as it says
	glance                  // the same, and nobody waits for the end of that
)

// seen opens a file through a mount and compares all, and returns its time of change, as far as it is known; false: something is wrong.
//
// A mount that has looked at a file before may believe its attributes, and its size with them: so far it reads, and of
// what another mount has added since nothing. What it does read must be right. That it is cut off is counted (Report.Short).
func (p *Programs) seen(mount int, name string, want kept, when string, how patience) (time.Time, bool) {
	begin := time.Now()
	for tries := 0; ; tries++ {
		b, attr, err := look(p.path(mount, name))
		if tries == 0 || err != nil {
			if !p.did("look", begin, err) {
				return want.mtime, errors.Is(err, unix.EIO) // what was acknowledged is so nevertheless
			}
		}
		short := how != exact && len(b) < len(want.data) && bytes.HasPrefix(want.data, b)
		wrong := want.differs(attr)
		if !bytes.Equal(b, want.data) {
			wrong = difference(b, want.data)
		}
		switch {
		case wrong == "":
			return time.Unix(attr.Mtim.Unix()), true
		case !short && !bytes.Equal(b, want.data), how == exact, time.Since(begin) > believed+believedSlack:
			p.wrong("%s, mount %d, %s: %s", name, mount%len(p.mounts), when, wrong)
			return time.Time{}, false
		case short && tries == 0:
			p.cutOff()
		}
		if how == glance {
			return time.Time{}, true
		}
		<-time.After(retryPause)
	}
}

// cutOff counts a file that was read as far as it reached before.
func (p *Programs) cutOff() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.short++
}

// missing tells whether a name leads nowhere when it is opened.
func (p *Programs) missing(mount int, name string) {
	begin := time.Now()
	f, err := os.Open(p.path(mount, name))
	if p.did("look for what is gone", begin, err, os.ErrNotExist) {
		f.Close()
		p.wrong("%s, mount %d: it was removed and can be opened", name, mount%len(p.mounts))
	}
}

// look reads a file and its attributes.
func look(path string) (b []byte, attr unix.Stat_t, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, attr, err
	}
	var data bytes.Buffer
	_, err = data.ReadFrom(f)
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &attr)
	}
	return data.Bytes(), attr, errors.Join(err, f.Close())
}

// differs says in which attribute a file is not as it must be.
func (k kept) differs(is unix.Stat_t) string {
	switch {
	case is.Size != int64(len(k.data)):
		return fmt.Sprintf("size %d, want %d", is.Size, len(k.data))
	case is.Mode&0o7777 != k.mode:
		return fmt.Sprintf("mode %o, want %o", is.Mode&0o7777, k.mode)
	case !k.mtime.IsZero() && !time.Unix(is.Mtim.Unix()).Equal(k.mtime):
		return fmt.Sprintf("mtime %v, want %v", time.Unix(is.Mtim.Unix()), k.mtime)
	}
	return ""
}

// difference says where contents are wrong.
func difference(is, want []byte) string {
	at := 0
	for at < min(len(is), len(want)) && is[at] == want[at] {
		at++
	}
	return fmt.Sprintf("%d bytes, want %d; from %d on %.40q, want %.40q", len(is), len(want), at, is[at:], want[at:])
}
