package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/test/linear"
)

// client is one client's part in a group.
type client struct {
	w     *Witnesses
	group *group
	id    int
	path  string
	dice  *rand.Rand

	count  uint64
	file   *os.File // written through
	direct *os.File // read through past the kernel's pages
	made   *os.File // the file that it created last
	ino    uint64   // of that
	held   bool     // it may have the lock
}

// value is one that nobody else writes.
func (c *client) value() uint64 {
	c.count++
	return uint64(c.id+1)<<32 | c.count
}

// run does the client's operations.
func (c *client) run() {
	if c.group.kind != linear.Create && !c.open() {
		return
	}
	defer c.close()
	tick := time.NewTicker(witnessPause)
	defer tick.Stop()
	defer func() {
		if c.held {
			c.lock(false)
		}
	}()
	for range groupOps {
		<-tick.C
		if c.w.stopped() || c.unknown() > groupUnknown {
			return
		}
		switch c.group.kind {
		case linear.Write:
			c.register(c.dice.IntN(blocks))
		case linear.Append:
			c.list()
		case linear.Lock:
			c.lock(!c.held)
		default:
			c.names()
		}
	}
}

// unknown is how many operations of the group have an unknown outcome.
func (c *client) unknown() int {
	if c.group.kind != linear.Write {
		return c.w.history.Unknown(c.group.name)
	}
	n := 0
	for b := range blocks {
		n = max(n, c.w.history.Unknown(c.block(b)))
	}
	return n
}

func (c *client) open() bool {
	flags := os.O_RDWR
	if c.group.kind == linear.Append {
		flags = os.O_WRONLY | os.O_APPEND
	}
	begin := time.Now()
	var err error
	if c.file, err = os.OpenFile(c.path, flags, 0); err == nil {
		c.direct, err = os.OpenFile(c.path, os.O_RDONLY|unix.O_DIRECT, 0)
	}
	c.w.note("open", err, time.Since(begin))
	if err != nil {
		c.close()
	}
	return err == nil
}

func (c *client) close() {
	for _, f := range []**os.File{&c.file, &c.direct, &c.made} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
}

// do records an operation; f executes it and says what it was told.
func (c *client) do(op linear.Op, f func() (linear.Outcome, error)) {
	begin := time.Now()
	p := c.w.history.Begin(c.id, op)
	out, err := f()
	if result, ok := known(err); ok {
		out.Result = result
		err = nil
	} else {
		out.Unknown = true
	}
	p.End(out)
	c.w.note(op.Kind.String(), err, time.Since(begin))
}

// block is the name of a register's block.
func (c *client) block(b int) string { return fmt.Sprintf("%s/%d", c.group.name, b) }

// register writes a block full of one value, or reads one: through what has been open
// for long, past the kernel's pages, or through a new opening.
func (c *client) register(block int) {
	off := int64(block * blockSize)
	switch c.dice.IntN(4) {
	case 0, 1:
		v := c.value()
		c.do(linear.Op{Kind: linear.Write, Group: c.block(block), Value: v}, func() (linear.Outcome, error) {
			b := make([]byte, 0, blockSize)
			for len(b) < blockSize {
				b = binary.LittleEndian.AppendUint64(b, v)
			}
			_, err := c.file.WriteAt(b, off)
			return linear.Outcome{}, err
		})
	case 2:
		c.read(block, func() (*os.File, error) { return os.Open(c.path) }, true)
	default:
		c.read(block, func() (*os.File, error) { return c.direct, nil }, false)
	}
}

func (c *client) read(block int, open func() (*os.File, error), closes bool) {
	c.do(linear.Op{Kind: linear.Read, Group: c.block(block)}, func() (linear.Outcome, error) {
		f, err := open()
		if err != nil {
			return linear.Outcome{}, notMissing(err)
		}
		if closes {
			defer f.Close()
		}
		b := make([]byte, blockSize)
		n, err := f.ReadAt(b, int64(block*blockSize))
		if n == 0 && errors.Is(err, io.EOF) {
			return linear.Outcome{}, nil
		}
		if n < blockSize && errors.Is(err, io.EOF) {
			c.w.breaks("%s: a block of %d bytes", c.block(block), n)
		}
		if n < blockSize {
			return linear.Outcome{}, err
		}
		v := binary.LittleEndian.Uint64(b)
		for i := 0; i < blockSize; i += 8 {
			if x := binary.LittleEndian.Uint64(b[i:]); x != v {
				c.w.breaks("%s: a block is %x at first, %x at %d: half written", c.block(block), v, x, i)
				break
			}
		}
		return linear.Outcome{Value: v}, nil
	})
}

// list appends a record, or reads all of them.
func (c *client) list() {
	if c.dice.IntN(2) == 0 {
		v := c.value()
		c.do(linear.Op{Kind: linear.Append, Group: c.group.name, Value: v}, func() (linear.Outcome, error) {
			_, err := c.file.Write(binary.LittleEndian.AppendUint64(nil, v))
			return linear.Outcome{}, err
		})
		return
	}
	c.readList()
}

func (c *client) readList() {
	c.do(linear.Op{Kind: linear.List, Group: c.group.name}, func() (linear.Outcome, error) {
		b, err := os.ReadFile(c.path)
		if err != nil {
			return linear.Outcome{}, notMissing(err)
		}
		if len(b)%8 != 0 {
			c.w.breaks("%s: %d bytes, of records of 8", c.group.name, len(b))
		}
		var out linear.Outcome
		for ; len(b) >= 8; b = b[8:] {
			out.List = append(out.List, binary.LittleEndian.Uint64(b))
		}
		return out, nil
	})
}

// names creates, removes, renames, links or looks at one of the directory's names.
func (c *client) names() {
	op := linear.Op{Group: c.group.name, Name: c.dice.IntN(linear.Names)}
	op.To = (op.Name + 1 + c.dice.IntN(linear.Names-1)) % linear.Names
	path := c.nameOf(op.Name)
	switch kind := c.dice.IntN(8); {
	case kind < 2:
		c.create(op, path)
	case kind == 2:
		op.Kind = linear.Unlink
		c.do(op, func() (linear.Outcome, error) { return linear.Outcome{}, unlink(path) })
	case kind == 3:
		op.Kind = linear.Rename
		c.do(op, func() (linear.Outcome, error) { return linear.Outcome{}, os.Rename(path, c.nameOf(op.To)) })
	case kind == 4 && c.made != nil:
		op.Kind, op.Value = linear.Link, c.ino
		c.do(op, func() (linear.Outcome, error) {
			// By its descriptor: a link by name looks the name up first, which is an operation of its own.
			err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/thread-self/fd/%d", c.made.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
			if errors.Is(err, unix.ESTALE) {
				err = unix.ENOENT
			}
			return linear.Outcome{}, err
		})
	default:
		c.look(op)
	}
}

func (c *client) nameOf(i int) string { return filepath.Join(c.path, string(rune('a'+i))) }

func (c *client) create(op linear.Op, path string) {
	op.Kind = linear.Create
	c.do(op, func() (linear.Outcome, error) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		if err != nil {
			return linear.Outcome{}, err
		}
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return linear.Outcome{}, notMissing(err)
		}
		if c.made != nil {
			c.made.Close()
		}
		c.made, c.ino = f, info.Sys().(*syscall.Stat_t).Ino
		return linear.Outcome{Value: c.ino}, nil
	})
}

func (c *client) look(op linear.Op) {
	op.Kind = linear.Look
	c.do(op, func() (linear.Outcome, error) {
		var st unix.Stat_t
		err := unix.Lstat(c.nameOf(op.Name), &st)
		return linear.Outcome{Value: st.Ino}, err
	})
}

// conclude looks at all of the group once more.
func (c *client) conclude() {
	switch c.group.kind {
	case linear.Write:
		for b := range blocks {
			c.read(b, func() (*os.File, error) { return os.Open(c.path) }, true)
		}
	case linear.Append:
		c.readList()
	case linear.Lock:
	default:
		for i := range linear.Names {
			c.look(linear.Op{Group: c.group.name, Name: i})
		}
	}
}

// lock sets an OFD lock, waiting for it or not, or gives it up.
func (c *client) lock(set bool) {
	op := linear.Op{Kind: linear.Lock, Group: c.group.name, Value: uint64(c.id + 1)}
	typ, wait := int16(unix.F_WRLCK), c.dice.IntN(3) == 0
	if !set {
		op.Kind, typ, wait = linear.Unlock, unix.F_UNLCK, false
	}
	c.do(op, func() (linear.Outcome, error) {
		err := lockFile(int(c.file.Fd()), "ofd", typ, wait)
		c.held = set && err != unix.EAGAIN
		if err == unix.EAGAIN {
			err = os.ErrExist
		}
		return linear.Outcome{}, err
	})
}

// notMissing keeps an ENOENT, where there can be none, from counting as an answer.
func notMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("gone: %v", err)
	}
	return err
}
