package posixtest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// exerciseMax is how large the exerciser's file gets, in bytes.
const exerciseMax = 256 << 10

var exerciseTests = []test{
	{"one file, random operations", func(e *env) {
		seed := rand.Uint64N(1e9)
		if s := os.Getenv("MORTAR_SEED"); s != "" {
			n, err := strconv.ParseUint(s, 10, 64)
			e.ok(err)
			seed = n
		}
		e.Logf("MORTAR_SEED=%d", seed)
		n := e.opts.Exercises
		if n == 0 {
			n = 3000
		}
		x := &exerciser{env: e, rng: rand.New(rand.NewPCG(seed, 1)), path: e.path("f")}
		x.reopen()
		for i := range n {
			if err := x.step(); err != nil {
				e.Errorf("MORTAR_SEED=%d operation %d: %v\nthe last operations:\n%s", seed, i, err, strings.Join(x.log[max(0, len(x.log)-40):], "\n"))
				break
			}
		}
		e.ok(unix.Close(x.fd))
		if !e.Failed() {
			e.holds(x.path, string(x.want))
		}
	}},
}

// exerciser does random operations on one file and on bytes in memory.
type exerciser struct {
	*env
	rng  *rand.Rand
	path string
	fd   int // 0: not open yet
	want []byte
	log  []string
}

func (x *exerciser) note(format string, a ...any) {
	x.log = append(x.log, fmt.Sprintf(format, a...))
}

// step does one operation and checks what it can see.
func (x *exerciser) step() error {
	off, n := x.rng.IntN(exerciseMax), 1+x.rng.IntN(exerciseMax/4)
	n = min(n, exerciseMax-off)
	switch op := x.rng.IntN(100); {
	case op < 25:
		return x.write(off, n)
	case op < 50:
		return x.read(off, n)
	case op < 62:
		return x.mapWrite(off, n)
	case op < 72:
		return x.mapRead(off, n)
	case op < 80:
		return x.truncate(off)
	case op < 86:
		return x.punch(off, n)
	case op < 89:
		return x.zero(off, n)
	case op < 92:
		return x.allocate(off, n)
	case op < 95:
		return x.copy(off, n, x.rng.IntN(exerciseMax))
	case op < 98:
		x.note("reopen")
		x.reopen()
		return nil
	default:
		x.note("fsync")
		return unix.Fsync(x.fd)
	}
}

// reopen closes the file and opens it again.
func (x *exerciser) reopen() {
	if x.fd != 0 {
		x.ok(unix.Close(x.fd))
	}
	fd, err := openRetry(x.path, unix.O_CREAT|unix.O_RDWR, 0o644)
	x.ok(err)
	x.fd = fd
}

// grow makes the wanted content at least size bytes long.
func (x *exerciser) grow(size int) {
	if size > len(x.want) {
		x.want = append(x.want, make([]byte, size-len(x.want))...)
	}
}

// bytes returns n random bytes, alike so that a difference can be read.
func (x *exerciser) bytes(n int) []byte {
	return bytes.Repeat([]byte{byte('a' + x.rng.IntN(26)), byte(x.rng.IntN(256)), '.'}, n/3+1)[:n]
}

func (x *exerciser) write(off, n int) error {
	x.note("write %d at %d", n, off)
	p := x.bytes(n)
	x.grow(off + n)
	copy(x.want[off:], p)
	got, err := unix.Pwrite(x.fd, p, int64(off))
	if err == nil && got != n {
		err = fmt.Errorf("wrote %d of %d", got, n)
	}
	return firstError(err, x.size())
}

func (x *exerciser) read(off, n int) error {
	x.note("read %d at %d", n, off)
	p := make([]byte, n)
	got, err := unix.Pread(x.fd, p, int64(off))
	if err != nil {
		return err
	}
	return x.equal(p[:got], off, n)
}

// equal compares what was read with what is wanted.
func (x *exerciser) equal(got []byte, off, n int) error {
	want := x.want[min(off, len(x.want)):min(off+n, len(x.want))]
	if len(got) != len(want) {
		return fmt.Errorf("read %d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d is %#x, want %#x", off+i, got[i], want[i])
		}
	}
	return nil
}

// mapped gives f a shared mapping of what lies in the file of a range.
func (x *exerciser) mapped(off, n int, f func(m []byte) error) error {
	n = min(n, len(x.want)-off)
	if n <= 0 || x.opts.NoMmap {
		return nil
	}
	from := off &^ (os.Getpagesize() - 1)
	m, err := unix.Mmap(x.fd, int64(from), off+n-from, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	err = f(m[off-from:])
	if x.rng.IntN(2) == 0 {
		err = firstError(err, unix.Msync(m, unix.MS_SYNC))
	}
	return firstError(err, unix.Munmap(m))
}

func (x *exerciser) mapWrite(off, n int) error {
	x.note("write %d at %d through a mapping", n, off)
	return x.mapped(off, n, func(m []byte) error {
		copy(x.want[off:], x.bytes(len(m)))
		copy(m, x.want[off:])
		return nil
	})
}

func (x *exerciser) mapRead(off, n int) error {
	x.note("read %d at %d through a mapping", n, off)
	return x.mapped(off, n, func(m []byte) error { return x.equal(m, off, len(m)) })
}

func (x *exerciser) truncate(size int) error {
	x.note("truncate to %d", size)
	x.grow(size)
	x.want = x.want[:size]
	if x.rng.IntN(2) == 0 {
		return firstError(unix.Truncate(x.path, int64(size)), x.size())
	}
	return firstError(unix.Ftruncate(x.fd, int64(size)), x.size())
}

func (x *exerciser) punch(off, n int) error {
	if x.opts.NoAllocate {
		return nil
	}
	x.note("punch %d at %d", n, off)
	if off < len(x.want) {
		clear(x.want[off:min(off+n, len(x.want))])
	}
	return firstError(unix.Fallocate(x.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)), x.size())
}

func (x *exerciser) zero(off, n int) error {
	if x.opts.NoAllocate {
		return nil
	}
	x.note("zero %d at %d", n, off)
	x.grow(off + n)
	clear(x.want[off : off+n])
	return firstError(unix.Fallocate(x.fd, unix.FALLOC_FL_ZERO_RANGE, int64(off), int64(n)), x.size())
}

func (x *exerciser) allocate(off, n int) error {
	if x.opts.NoAllocate {
		return nil
	}
	x.note("allocate %d at %d", n, off)
	x.grow(off + n)
	return firstError(unix.Fallocate(x.fd, 0, int64(off), int64(n)), x.size())
}

// copy copies within the file, where the ranges do not overlap.
func (x *exerciser) copy(from, n, to int) error {
	n = min(n, len(x.want)-from, exerciseMax-to)
	if n <= 0 || from < to+n && to < from+n {
		return nil
	}
	x.note("copy %d from %d to %d", n, from, to)
	x.grow(to + n)
	copy(x.want[to:to+n], x.want[from:from+n])
	a, b := int64(from), int64(to)
	for n > 0 {
		got, err := unix.CopyFileRange(x.fd, &a, x.fd, &b, n, 0)
		if err != nil {
			return err
		}
		if got == 0 {
			return fmt.Errorf("copied nothing, %d bytes are left", n)
		}
		n -= got
	}
	return x.size()
}

// size compares the file's size.
func (x *exerciser) size() error {
	var st unix.Stat_t
	if err := unix.Fstat(x.fd, &st); err != nil {
		return err
	}
	if st.Size != int64(len(x.want)) {
		return fmt.Errorf("size %d, want %d", st.Size, len(x.want))
	}
	return nil
}
