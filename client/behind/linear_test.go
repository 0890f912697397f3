package behind

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/linear"
	"github.com/mortarfs/mortar/volume"
)

// crowd are clients of one layer that create, look up, list, link, rename and unlink the same few names, and note what
// they were told.
type crowd struct {
	t       *testing.T
	f       *FS
	dir     volume.ID
	group   string
	history *linear.History
	written sync.Map // ID → when its two bytes were written
}

func number(id volume.ID) uint64 { return binary.LittleEndian.Uint64(id[:8])>>1 | 1 }

// result is what an error tells of a name.
func result(err error) linear.Outcome {
	switch volume.ErrnoOf(err) {
	case 0:
		return linear.Outcome{}
	case syscall.EEXIST:
		return linear.Outcome{Result: linear.Exists}
	case syscall.ENOENT:
		return linear.Outcome{Result: linear.Missing}
	}
	panic(err)
}

// create creates a file, and keeps it open for a while.
func (c *crowd) create(client int, dice *rand.Rand, name int) volume.File {
	p := c.history.Begin(client, linear.Op{Kind: linear.Create, Group: c.group, Name: name})
	f, a, err := c.f.Create(c.t.Context(), c.dir, strconv.Itoa(name), volume.Node{Mode: 0o644}, volume.Write|volume.Excl)
	out := result(err)
	if err == nil {
		out.Value = number(a.ID)
	}
	p.End(out)
	if err != nil {
		return nil
	}
	if dice.IntN(2) == 0 {
		if _, err := f.WriteAt(c.t.Context(), []byte("ab"), 0, 0); err != nil {
			c.t.Errorf("write: %v", err)
		}
		c.written.Store(a.ID, time.Now())
	}
	return f
}

// look finds a name, in a listing or directly.
func (c *crowd) look(client int, dice *rand.Rand, name int) {
	began := time.Now()
	p := c.history.Begin(client, linear.Op{Kind: linear.Look, Group: c.group, Name: name})
	a, err := volume.Attr{}, error(nil)
	if dice.IntN(3) > 0 {
		a, err = c.f.Lookup(c.t.Context(), c.dir, strconv.Itoa(name))
	} else {
		var entries []volume.Entry
		entries, _, err = c.f.ReadDir(c.t.Context(), c.dir, 0, 100, true)
		if err == nil {
			err = syscall.ENOENT
		}
		for _, e := range entries {
			if e.Name == strconv.Itoa(name) {
				a, err = e.Attr, nil
				if a.ID = e.ID; !e.HasAttr {
					a.Size = 2
				}
			}
		}
	}
	out := result(err)
	if err == nil {
		out.Value = number(a.ID)
		if at, ok := c.written.Load(a.ID); ok && at.(time.Time).Before(began) && a.Size != 2 {
			c.t.Errorf("a file that was written has %d bytes", a.Size)
		}
	}
	p.End(out)
}

// change moves or removes a name.
func (c *crowd) change(client int, kind linear.Kind, name int) {
	to := (name + 1) % linear.Names
	p := c.history.Begin(client, linear.Op{Kind: kind, Group: c.group, Name: name, To: to})
	var err error
	if kind == linear.Unlink {
		err = c.f.Unlink(c.t.Context(), c.dir, strconv.Itoa(name))
	} else {
		err = c.f.Rename(c.t.Context(), c.dir, strconv.Itoa(name), c.dir, strconv.Itoa(to), 0)
	}
	p.End(result(err))
}

// work is what one client does.
func (c *crowd) work(client int, dice *rand.Rand, ops int) {
	var open []volume.File
	closeOne := func() {
		i := dice.IntN(len(open))
		for _, err := range []error{open[i].Flush(c.t.Context()), open[i].Close()} {
			if err != nil {
				c.t.Errorf("close: %v", err)
			}
		}
		open[i] = open[len(open)-1]
		open = open[:len(open)-1]
	}
	for range ops {
		name := dice.IntN(linear.Names)
		switch dice.IntN(10) {
		case 0, 1, 2, 3:
			if f := c.create(client, dice, name); f != nil {
				open = append(open, f)
			}
		case 4, 5, 6:
			c.look(client, dice, name)
		case 7:
			c.change(client, linear.Unlink, name)
		case 8:
			c.change(client, linear.Rename, name)
		default:
			if len(open) > 0 {
				closeOne()
			}
		}
		for len(open) > 3 {
			closeOne()
		}
	}
	for len(open) > 0 {
		closeOne()
	}
}

// TestLinear: whatever several threads do with the same names at the same time, there is an order of it that explains
// what each was told; also if the layer below lets it look while its own names are reserved.
func TestLinear(t *testing.T) {
	const groups, clients, ops = 40, 4, 40
	seed := rand.Uint64N(1e9)
	if s := os.Getenv("MORTAR_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("MORTAR_SEED=%d", seed)
	for _, lax := range []bool{false, true} {
		w := newWard()
		w.quiet, w.lax = true, lax
		f := New(w)
		var h linear.History
		for i := range groups {
			a, err := f.Make(t.Context(), volume.Root, fmt.Sprint("dir", i), volume.Node{Mode: syscall.S_IFDIR | 0o755})
			if err != nil {
				t.Fatal(err)
			}
			c := &crowd{t: t, f: f, dir: a.ID, group: fmt.Sprint(i), history: &h}
			var work sync.WaitGroup
			for client := range clients {
				work.Go(func() { c.work(client, rand.New(rand.NewPCG(seed+uint64(i), uint64(client))), ops) })
			}
			work.Wait()
		}
		f.Close()
		if v := h.Check(time.Minute, ""); len(v.Bad) > 0 || len(v.Undecided) > 0 {
			t.Errorf("lax %v: %v\n%s", lax, v, strings.Join(v.Bad, "\n"))
		}
		w.expectLate(t, 0)
		(&nursery{t: t, fs: f}).over()
	}
}
