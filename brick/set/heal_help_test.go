package set

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// testKeys are healKeys in memory.
type testKeys struct {
	mu    sync.Mutex
	gen   uint64
	gens  map[Key]uint64
	order []Key // may hold keys that are done
}

func newTestKeys() *testKeys { return &testKeys{gens: map[Key]uint64{}} }

func (k *testKeys) Add(keys []Key) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range keys {
		k.gen++
		if _, ok := k.gens[key]; !ok {
			k.order = append(k.order, key)
		}
		k.gens[key] = k.gen
	}
	return nil
}

func (k *testKeys) Take(n int) (out []queuedKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.order = slices.DeleteFunc(k.order, func(key Key) bool { return k.gens[key] == 0 })
	for _, key := range k.order[:min(n, len(k.order))] {
		out = append(out, queuedKey{key, k.gens[key]})
	}
	return out
}

func (k *testKeys) Done(keys []queuedKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, q := range keys {
		if k.gens[q.Key] == q.gen {
			delete(k.gens, q.Key)
		}
	}
	return nil
}

func (k *testKeys) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.gens)
}

// shuffle puts the keys into another order.
func (k *testKeys) shuffle(rng *rand.Rand) {
	rng.Shuffle(len(k.order), func(i, j int) { k.order[i], k.order[j] = k.order[j], k.order[i] })
}

const testSet volume.SetID = 1

// newBrick makes a brick.
func newBrick(t testing.TB) (path string) {
	t.Helper()
	path = t.TempDir()
	must(t, os.Chmod(path, 0o755))
	must(t, brick.Init(t.Context(), path, brick.Identity{
		VolumeID: "3f0c8a52-6f6e-4d0e-9c5b-0d9a3a9f1c11", Volume: "demo", Set: testSet, BrickID: "9b1d40ce-2f3f-4f7e-8a34-55d3a1a0a2b7",
	}))
	return path
}

func openMember(t testing.TB, path string) *brick.Store {
	t.Helper()
	s, err := brick.Open(path, brick.Options{})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// loop is a Peer that serves a member in this process. fail, if set, is asked
// before each call and its error returned instead.
type loop struct {
	m     volume.Member
	files *files
	fail  func() error
	mu    sync.Mutex
	calls map[uint8]int
}

func newLoop(m volume.Member) *loop { return &loop{m: m, files: newFiles(), calls: map[uint8]int{}} }

func (l *loop) Up() bool { return true }

func (l *loop) Call(ctx context.Context, msg, data []byte) ([]byte, error) {
	l.mu.Lock()
	l.calls[msg[0]]++
	fail := l.fail
	l.mu.Unlock()
	if fail != nil {
		if err := fail(); err != nil {
			return nil, err
		}
	}
	if e, err := distantEpoch(msg); err != nil || e != 7 {
		return nil, fmt.Errorf("epoch %d: %v", e, err)
	}
	if len(msg) > MessageMax || len(data) > volume.IOMax {
		return nil, fmt.Errorf("a message of %d bytes with %d of data", len(msg), len(data))
	}
	return serveDistant(ctx, near{m: l.m, files: l.files}, msg, data)
}

func (l *loop) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.calls {
		n += c
	}
	return n
}

// scene is a source, on which changes are made, and a target that misses them.
type scene struct {
	t      testing.TB
	ctx    context.Context
	source volume.Member
	target volume.Member
	path   string // of the target, if it is a brick
	both   bool   // the target is in sync: changes are made there too

	sourcePath string
	peer       *loop
	keys       *testKeys
	gate       sync.Mutex // held by changes, and as the engine's lock
	files      *files
	now        int64
	h          *healer
}

func newScene(t testing.TB) *scene {
	path := newBrick(t)
	source := newBrick(t)
	s := sceneOf(t, openMember(t, source), openMember(t, path))
	s.path, s.sourcePath = path, source
	return s
}

// modelScene is a scene whose members are in memory.
func modelScene(t testing.TB) *scene {
	return sceneOf(t, model.NewStore(testSet), model.NewStore(testSet))
}

func sceneOf(t testing.TB, source, target volume.Member) *scene {
	s := &scene{t: t, ctx: t.Context(), source: source, target: target, keys: newTestKeys(), files: newFiles(), now: 1_600_000_000}
	t.Cleanup(s.files.close)
	s.connect()
	must(t, s.keys.Add([]Key{{Kind: ObjectKey, ID: volume.Root}}))
	return s
}

// connect makes a healer anew, as after a restart.
func (s *scene) connect() {
	s.peer = newLoop(s.target)
	s.t.Cleanup(s.peer.files.close)
	s.h = newHealer(healConfig{
		source: s.source, target: distant{peer: s.peer, epoch: func() Epoch { return 7 }}, keys: s.keys,
		lock: func(context.Context, ...Key) (func(), error) {
			s.gate.Lock()
			return s.gate.Unlock, nil
		},
	})
}

// do makes a change at the source and queues its keys.
func (s *scene) do(c *change) (Outcome, error) {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.now++
	c.now = volume.Time{Sec: s.now, Nsec: 7}
	o, err := apply(s.ctx, s.source, s.files, c)
	if s.both {
		if _, e := apply(s.ctx, s.target, s.peer.files, c); volume.ErrnoOf(e) != volume.ErrnoOf(err) {
			s.t.Errorf("%v: %v at the source, %v at the target", c, err, e)
		}
	} else if err == nil {
		must(s.t, s.keys.Add(c.touches()))
	}
	return o, err
}

func (s *scene) must(c *change) Outcome {
	s.t.Helper()
	o, err := s.do(c)
	must(s.t, err)
	return o
}

func (s *scene) mkdir(dir volume.ID, name string) volume.ID {
	s.t.Helper()
	id := volume.NewID(testSet)
	s.must(&change{kind: doMake, dir: dir, name: name, node: volume.Node{ID: id, Mode: syscall.S_IFDIR | 0o755}})
	return id
}

func (s *scene) create(dir volume.ID, name string, contents []byte) volume.ID {
	s.t.Helper()
	id := volume.NewID(testSet)
	s.must(&change{kind: doMake, dir: dir, name: name, node: volume.Node{ID: id, Mode: syscall.S_IFREG | 0o644}})
	if len(contents) > 0 {
		s.write(id, 0, contents)
	}
	return id
}

func (s *scene) write(id volume.ID, off int64, p []byte) {
	s.t.Helper()
	for len(p) > 0 {
		n := min(len(p), volume.IOMax)
		s.must(&change{kind: doWrite, id: id, off: off, len: int64(n), data: p[:n]})
		p, off = p[n:], off+int64(n)
	}
}

func (s *scene) rename(id, dir volume.ID, name string, dir2 volume.ID, name2 string, old volume.ID, flags volume.RenameFlags) {
	s.t.Helper()
	s.must(&change{kind: doRename, id: id, old: old, dir: dir, name: name, dir2: dir2, name2: name2, flags: uint32(flags)})
}

// heal drains the keys and fails unless that makes both members equal.
func (s *scene) heal() {
	s.t.Helper()
	left, err := s.h.Drain(s.ctx)
	if err != nil || left != 0 {
		s.t.Fatalf("%d keys are left: %v", left, err)
	}
	s.equal()
}

// equal fails unless both members are equal.
func (s *scene) equal() {
	s.t.Helper()
	s.files.close()
	if d := differences(s.ctx, s.source, s.target); len(d) > 0 {
		s.t.Fatalf("%d differences, the first:\n%s", len(d), join(d[:min(len(d), 20)]))
	}
}

func join(lines []string) string {
	var b bytes.Buffer
	for _, l := range lines {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}

// snapshot tells all that there is of a member, line by line.
func snapshot(ctx context.Context, m volume.Member) map[string]string {
	lines := map[string]string{}
	object := func(path string, id volume.ID) (dir bool) {
		o, err := m.Describe(ctx, id)
		if err != nil {
			lines[path+" object"] = err.Error()
			return false
		}
		nlink := o.Attr.Nlink
		s := settled(o)
		if !o.Attr.IsDir() {
			s.Attr.Nlink = nlink
		}
		lines[path+" object"] = fmt.Sprintf("%+v %q %q", s.Attr, s.Target, s.Xattrs)
		if o.Attr.IsRegular() {
			sums, err := m.Sums(ctx, id, 0, 1<<12, 4096)
			lines[path+" contents"] = fmt.Sprint(len(sums), sums, err)
		}
		return o.Attr.IsDir()
	}
	var walk func(path string, dir volume.ID)
	walk = func(path string, dir volume.ID) {
		object(path, dir)
		for after, end := volume.CookieStart, false; !end; {
			var entries []volume.Entry
			var err error
			entries, end, err = m.List(ctx, dir, after, volume.ReadDirMax, false, func(string) bool { return true })
			if err != nil {
				lines[path+" list"] = err.Error()
				return
			}
			for _, e := range entries {
				after = e.Cookie
				at := path + "/" + e.Name
				lines[at] = fmt.Sprint(e.ID, e.Mode&syscall.S_IFMT, e.Held, " in ", dir)
				switch {
				case e.Held != 0:
				case e.Mode&syscall.S_IFMT == syscall.S_IFDIR:
					walk(at, e.ID)
				default:
					object(at, e.ID)
				}
			}
		}
	}
	walk("", volume.Root)
	ids, err := m.Nameless(ctx)
	lines["nameless"] = fmt.Sprint(len(ids), err)
	for _, id := range ids {
		object("nameless "+id.String(), id)
	}
	ds, err := m.Discards(ctx)
	lines["discards"] = fmt.Sprint(len(ds), err)
	for _, d := range ds {
		d.Pointer.Mode = 0
		lines[fmt.Sprint("discard ", d.Key)] = fmt.Sprint(d)
	}
	n, sum, err := near{m: m}.journal(ctx, 1<<30)
	lines["journal"] = fmt.Sprint(n, sum, err)
	return lines
}

// differences lists in what two members differ.
func differences(ctx context.Context, a, b volume.Member) (out []string) {
	x, y := snapshot(ctx, a), snapshot(ctx, b)
	for k, v := range x {
		if y[k] != v {
			out = append(out, fmt.Sprintf("%s\n\tsource %.300s\n\ttarget %.300s", k, v, y[k]))
		}
	}
	for k, v := range y {
		if _, ok := x[k]; !ok {
			out = append(out, fmt.Sprintf("%s\n\tsource has none\n\ttarget %.300s", k, v))
		}
	}
	slices.Sort(out)
	return out
}

// testSeed returns MORTAR_SEED or a new seed, and prints it.
func testSeed(t testing.TB) uint64 {
	seed := rand.Uint64N(1e9)
	if s := os.Getenv("MORTAR_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		must(t, err)
		seed = n
	}
	t.Logf("MORTAR_SEED=%d", seed)
	return seed
}

// noise returns n bytes that are not zero.
func noise(rng *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rng.Uint32()) | 1
	}
	return p
}
