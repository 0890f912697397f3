package dht

import (
	"context"
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// TestPowerLoss cuts the power of all sets, or of one, in the middle of renames,
// links and removals, and looks whether each file that was synced under a name is
// there under that name or one that it got later, with its content.
func TestPowerLoss(t *testing.T) {
	s := seed(t)
	for i := range 40 {
		t.Run(strconv.Itoa(i), func(t *testing.T) { powerLoss(t, rand.New(rand.NewPCG(s, uint64(i)))) })
	}
}

func powerLoss(t *testing.T, rng *rand.Rand) {
	w := newWorldOf(t, newCluster(t, 3, true, model.WithPowerLoss()))
	w.must(w.fs.Sync(w.ctx, w.dir))
	w.must(w.fs.Sync(w.ctx, w.sub))
	dirs := []volume.ID{w.dir, w.sub}
	type synced struct {
		id    volume.ID
		names []nameKey // synced under the first; the others came later
	}
	var files []*synced
	for i := range 15 {
		d := dirs[rng.IntN(len(dirs))]
		if rng.IntN(4) == 0 {
			stem := "d" + string(rune('a'+i))
			w.mkdir(d, volume.SetID(rng.IntN(3)+1), stem)
			d = w.ids[stem]
			w.must(w.fs.Sync(w.ctx, d))
			dirs = append(dirs, d)
		}
		name := nameKey{d, string(rune('A' + i))}
		f, a, err := w.fs.Create(w.ctx, d, name.name, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Read|volume.Write)
		w.must(err)
		x := &synced{id: a.ID, names: []nameKey{name}}
		if rng.IntN(2) == 0 { // the name that is synced is often one behind a pointer
			to := nameKey{dirs[rng.IntN(len(dirs))], name.name + "x"}
			w.must(w.fs.Rename(w.ctx, name.dir, name.name, to.dir, to.name, 0))
			x.names[0] = to
		}
		if rng.IntN(3) > 0 {
			_, err = f.WriteAt(w.ctx, []byte("content"), 0, 0)
			w.must(err)
			w.must(f.Sync(w.ctx, false))
			files = append(files, x)
		}
		w.must(f.Close())
		if len(files) > 0 && rng.IntN(2) == 0 {
			y := files[rng.IntN(len(files))]
			last := y.names[len(y.names)-1]
			to := nameKey{dirs[rng.IntN(len(dirs))], last.name + "y"}
			w.must(w.fs.Rename(w.ctx, last.dir, last.name, to.dir, to.name, 0))
			y.names = append(y.names, to)
		}
	}
	w.powerOff(rng)
	if wrong := w.check(); len(wrong) > 0 {
		w.tell()
		for _, x := range wrong {
			t.Error(x)
		}
		t.FailNow()
	}
	for _, x := range files {
		found := false
		for _, k := range x.names {
			if a, err := w.fs.Lookup(w.ctx, k.dir, k.name); err == nil && a.ID == x.id {
				found = true
			}
		}
		if !found {
			w.tell()
			t.Fatalf("file %v was synced as %v and is not there", x.id, x.names)
		}
		f, err := w.fs.Open(w.ctx, x.id, volume.Read)
		w.must(err)
		buf := make([]byte, 10)
		if n, err := f.ReadAt(w.ctx, buf, 0); err != nil || string(buf[:n]) != "content" {
			t.Fatalf("file %v: %q, %v", x.id, buf[:n], err)
		}
		w.must(f.Close())
	}
	for _, n := range w.nodes {
		n.halt()
	}
}

// powerOff takes one set's power, or all sets'.
func (w *world) powerOff(rng *rand.Rand) {
	off := w.ids3()
	if rng.IntN(2) == 0 {
		off = off[rng.IntN(3):][:1]
	}
	w.cutPower(rng, off)
	w.quiet()
}

// cutPower takes the power of some sets and gives it back.
func (w *world) cutPower(rng *rand.Rand, off []volume.SetID) {
	for _, id := range off {
		w.nodes[id].halt()
	}
	for _, id := range off {
		w.nodes[id].store.PowerLoss(rng)
		w.nodes[id].boots++
		w.note(id, nil, "power lost")
	}
	for _, id := range off {
		w.nodes[id].start()
	}
}

func (w *world) ids3() []volume.SetID { return []volume.SetID{1, 2, 3} }

// TestStartAlone: an Owner starts, and serves what is its own, with no peer up.
func TestStartAlone(t *testing.T) {
	w := newWorld(t)
	name := w.file(w.dir, 1, "f")
	w.quiet()
	for id := volume.SetID(1); id <= 3; id++ {
		w.nodes[id].halt()
	}
	w.nodes[1].start()
	fs := w.client()
	if _, err := fs.Lookup(w.ctx, w.dir, name); err != nil {
		t.Fatal(err)
	}
	if err := fs.Unlink(w.ctx, w.dir, name); err != nil {
		t.Fatal(err)
	}
	d, err := fs.Make(w.ctx, w.dir, w.owned(w.dir, 1, "d"), volume.Node{Mode: syscall.S_IFDIR | 0o755})
	w.must(err)
	if err := fs.Rmdir(w.ctx, w.dir, w.owned(w.dir, 1, "d")); !isErrno(err, syscall.EIO) {
		t.Fatalf("rmdir with sets away: %v", err)
	}
	w.nodes[2].start()
	w.nodes[3].start()
	for set := volume.SetID(1); set <= 3; set++ { // copies are made where they are missing
		w.file(d.ID, set, "late")
	}
	if list, end, err := w.fs.ReadDir(w.ctx, d.ID, 0, 100, true); err != nil || !end || len(list) != 3 {
		t.Fatal(list, end, err)
	}
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
}

// TestAttributesFollow: a chmod reaches copies that were away when something is
// made under them, and times that are set are set everywhere.
func TestAttributesFollow(t *testing.T) {
	w := newWorld(t)
	home := w.dir.Born()
	away := home%3 + 1
	w.nodes[away].halt()
	if _, err := w.fs.Setattr(w.ctx, w.dir, volume.Change{Mask: volume.SetMode | volume.SetGID, Mode: 0o2750, GID: 77}); err != nil {
		t.Fatal(err)
	}
	w.nodes[away].start()
	name := w.owned(w.dir, away, "f")
	a, err := w.client().Make(w.ctx, w.dir, name, volume.Node{Mode: syscall.S_IFREG | 0o644})
	if err != nil || a.GID != 77 {
		t.Fatalf("made with group %d: %v", a.GID, err)
	}
	old := volume.Time{Sec: 1000}
	if _, err := w.fs.Setattr(w.ctx, w.dir, volume.Change{Mask: volume.SetMtime, Mtime: old}); err != nil {
		t.Fatal(err)
	}
	if a, err := w.client().Getattr(w.ctx, w.dir); err != nil || a.Mtime != old || a.Mode&0o7777 != 0o2750 {
		t.Fatal(a, err)
	}
}

// TestMinFreeDisk: a set that is nearly full gives new data away.
func TestMinFreeDisk(t *testing.T) {
	w := newWorld(t)
	o := w.nodes[1].owner()
	m := *w.m
	m.Version++
	m.Options = map[string]string{"cluster.min-free-disk": "1TB"} // more than the model has: none is better
	if err := o.Update(&m, o.view.Load().sets); err != nil {
		t.Fatal(err)
	}
	o.space.used.Store(true)
	o.measure(w.ctx)
	name := w.file(w.dir, 1, "local")
	if a, err := w.nodes[1].store.Lookup(w.ctx, w.dir, name); err != nil || a.Held != 0 {
		t.Fatal(a, err)
	}
	o.space.mu.Lock()
	o.space.mu.best = 3
	o.space.mu.Unlock()
	if !o.space.low.Load() {
		t.Fatal("a disk below the limit is not low")
	}
	name = w.file(w.dir, 1, "away")
	if a, err := w.nodes[1].store.Lookup(w.ctx, w.dir, name); err != nil || a.Held != 3 {
		t.Fatal(a, err)
	}
	if _, _, err := w.fs.Create(w.ctx, w.dir, name, volume.Node{Mode: syscall.S_IFREG}, volume.Write|volume.Excl); !isErrno(err, syscall.EEXIST) {
		t.Fatal(err)
	}
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
}

// TestUpdate: a client and a set of different layouts refuse each other until
// both have the newer one.
func TestUpdate(t *testing.T) {
	w := newWorld(t)
	m := *w.m
	m.Version++
	l := m.Layouts[0]
	l.Version++
	m.Layouts = append(m.Layouts[:0:0], l)
	name := w.file(w.dir, 1, "f")
	d := w.client()
	sets := d.view.Load().sets
	if err := d.Update(&m, sets); err != nil {
		t.Fatal(err)
	}
	if _, err := w.nodes[1].owner().Lookup(volume.WithLayout(w.ctx, l.Version), w.dir, name); !isOutdated(err) {
		t.Fatalf("a request by another layout: %v", err)
	}
	done := make(chan error, 1)
	go func() { _, err := d.Lookup(w.ctx, w.dir, name); done <- err }()
	for _, n := range w.nodes {
		if err := n.owner().Update(&m, n.owner().view.Load().sets); err != nil {
			t.Error(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := d.Update(w.m, sets); err != nil || d.view.Load().m.Version != m.Version {
		t.Fatal("an older map was taken", err)
	}
}

// TestCompaction: a journal that has grown is rewritten, and says the same.
func TestCompaction(t *testing.T) {
	w := newWorld(t)
	from := w.file(w.dir, 2, "f")
	to := w.owned(w.dir, 1, "g")
	o := w.nodes[1].owner()
	biggest := int64(0)
	for i := 0; i < 20000; i++ {
		w.must(w.fs.Rename(w.ctx, w.dir, from, w.dir, to, 0))
		from, to = to, from
		size := o.store.Journal().Size()
		if size < biggest {
			break
		}
		biggest = size
	}
	if o.store.Journal().Size() >= biggest {
		t.Fatalf("the journal has grown to %d bytes", biggest)
	}
	for _, n := range w.nodes {
		n.restart()
	}
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
}

func BenchmarkOwner(b *testing.B) {
	c := newCluster(b, 3, false)
	ctx := context.Background()
	w := &world{cluster: c, ctx: ctx}
	o := c.nodes[1].owner()
	name := w.owned(volume.Root, 1, "f")
	cycle := func(b *testing.B, fs volume.FS) {
		b.ReportAllocs()
		for range b.N {
			f, _, err := fs.Create(ctx, volume.Root, name, volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o644}, volume.Write)
			if err != nil {
				b.Fatal(err)
			}
			f.Close()
			fs.Lookup(ctx, volume.Root, name)
			if err := fs.Unlink(ctx, volume.Root, name); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("store", func(b *testing.B) { cycle(b, c.nodes[1].store) })
	b.Run("owner", func(b *testing.B) { cycle(b, o) })
	b.Run("distribute", func(b *testing.B) { cycle(b, c.fs) })
	other := w.owned(volume.Root, 2, "g")
	b.Run("rename over two sets", func(b *testing.B) {
		b.ReportAllocs()
		f, _, err := c.fs.Create(ctx, volume.Root, name, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write)
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
		from, to := name, other
		for range b.N {
			if err := c.fs.Rename(ctx, volume.Root, from, volume.Root, to, 0); err != nil {
				b.Fatal(err)
			}
			from, to = to, from
		}
		c.fs.Unlink(ctx, volume.Root, from)
	})
}
