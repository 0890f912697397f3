package set

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

var rewriteSet = flag.Bool("rewrite-set", false, "write testdata/changes and testdata/member-messages anew")

// sampleChanges has a change of each kind, with all fields that such a one has.
func sampleChanges() []*change {
	id, id2, dir := volume.ID{1, 2, 15: 3}, volume.ID{4, 15: 5}, volume.ID{6, 15: 7}
	q := volume.Request{Session: [16]byte{8, 15: 9}, Number: 10}
	now := volume.Time{Sec: 11, Nsec: 12}
	k := volume.Key{Set: 13, Intent: 14, Part: 15}
	cp := volume.Copy{ID: id, Mode: syscall.S_IFDIR | 0o750, UID: 1, GID: 2, Version: 3, ACL: []byte{}, Default: []byte("acl"), Home: 4, BirthTime: now}
	list := []*change{
		{kind: doSetattr, id: id, set: volume.Change{Mask: volume.SetSize | volume.SetMtime, Mode: 0o644, UID: 1, GID: 2, Size: 3, Atime: now, Mtime: now, Ctime: now}},
		{kind: doMake, dir: dir, name: "a", node: volume.Node{ID: id, Mode: syscall.S_IFLNK | 0o777, Rdev: 1, Target: "to", Parent: 2}},
		{kind: doMake, dir: dir, name: "a", node: volume.Node{ID: id, Mode: syscall.S_IFREG | 0o600}, len: 4096,
			set: volume.Change{Mask: volume.SetMode | volume.SetMtime, Mode: 0o640, Mtime: now}},
		{kind: doMake, dir: dir, name: "a", node: volume.Node{ID: id, Mode: syscall.S_IFREG | 0o600}, len: 3},
		{kind: doLink, id: id, dir: dir, name: "\xff"},
		{kind: doUnlink, id: id, dir: dir, name: "a", keep: true},
		{kind: doRmdir, id: id, dir: dir, name: "a"},
		{kind: doRename, id: id, old: id2, dir: dir, name: "a", dir2: id2, name2: "b", flags: 1},
		{kind: doSetxattr, id: id, name: "user.x", value: []byte("v"), flags: 2},
		{kind: doRemovexattr, id: id, name: "user.x"},
		{kind: doWrite, id: id, off: 1 << 40, len: 3, sync: 2, appends: true, flags: 1, sum: 99},
		{kind: doWrite, id: id, off: 1, len: 3, sync: 1, set: volume.Change{Mask: volume.SetMinimalACL | volume.SetMtime, Mode: 0o640, Mtime: now}},
		{kind: doAllocate, id: id, off: 1, len: 2, flags: 3},
		{kind: doMakeCopy, dir: dir, name: "a", copy: cp},
		{kind: doRefreshCopy, id: id, copy: cp},
		{kind: doPut, dir: dir, name: "a", ptr: volume.Pointer{ID: id, Mode: syscall.S_IFREG, Held: 3}, old: id2, key: k},
		{kind: doDiscard, dir: dir, name: "a", id: id, key: k},
		{kind: doPurge, id: id, key: k},
		{kind: doRestore, id: id, dir: dir, name: "a", key: k},
		{kind: doRelease, id: id},
		{kind: doJournal, value: []byte("record")},
		{kind: doJournalRewrite},
		{kind: doSync, id: id}, {kind: doFileSync, id: id, flags: 1}, {kind: doSettle}, {kind: doJournalSync},
	}
	for _, c := range list {
		if c.kind.numbered() {
			c.now, c.request, c.cred = now, q, volume.Cred{UID: 16, GID: 17, Umask: 18}
		}
	}
	return list
}

// golden compares lines with a file that other releases write, too.
func golden(t *testing.T, file string, lines []string) {
	t.Helper()
	got := strings.Join(lines, "\n") + "\n"
	if *rewriteSet {
		must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s: the format has changed: this needs another version\ngot\n%s\nwant\n%s", file, got, want)
	}
}

// TestChangesGolden compares changes, as they are sent and in the log, with those that other releases write.
func TestChangesGolden(t *testing.T) {
	var lines []string
	seen := map[kind]bool{}
	for _, c := range sampleChanges() {
		seen[c.kind] = true
		b := c.append(nil)
		lines = append(lines, fmt.Sprintf("%s %x", strings.ReplaceAll(c.kind.String(), " ", "-"), b))
		var d change
		if err := d.parse(&reader{b: b}); err != nil || !reflect.DeepEqual(c, &d) {
			t.Errorf("%v became %+v: %v", c, d, err)
		}
		for n := range b {
			if err := new(change).parse(&reader{b: b[:n]}); err == nil {
				t.Errorf("%v is whole after %d of %d bytes", c, n, len(b))
			}
		}
	}
	for k := kind(1); k < kinds; k++ {
		if !seen[k] {
			t.Errorf("no change of kind %v is among the samples", k)
		}
	}
	golden(t, "testdata/changes", lines)
}

// TestTouches looks that a change that changes something touches something, none of it invalid.
func TestTouches(t *testing.T) {
	for _, c := range sampleChanges() {
		keys := c.touches()
		if (len(keys) > 0) != c.kind.numbered() {
			t.Errorf("%v touches %v", c, keys)
		}
		for _, k := range keys {
			if !k.Valid() {
				t.Errorf("%v touches %v", c, k)
			}
		}
	}
}

// TestMemberMessagesGolden compares what members tell each other, heal's messages aside.
func TestMemberMessagesGolden(t *testing.T) {
	st := spec.SetState{Epoch: 5, Primary: "a", Power: 6, InSync: []spec.Seat{{Member: "a", Boot: "x"}, {Member: "b"}}}
	o := orders{st, 7, []string{"c", "d"}}
	keys := []Key{{Kind: EntryKey, ID: volume.Root, Name: "n\xff"}, {Kind: ObjectKey, ID: testID(1)},
		{Kind: ExtentKey, ID: testID(1), Off: 8, Len: 9}, {Kind: JournalKey}, {Kind: FullKey}}
	q := volume.Request{Session: [16]byte{10}, Number: 11}
	tl := tail{"life", "boot", volume.Time{Sec: 12, Nsec: 13}, true, keys, []volume.Request{q, {}}}
	rep := reply{effect{testID(2), 14}, true}
	var lines []string
	trip := func(name string, write func(w *writer), read func(r *reader) any, want any) {
		w := &writer{}
		write(w)
		lines = append(lines, fmt.Sprintf("%s %x", name, w.b))
		r := &reader{b: w.b}
		if got := read(r); !r.done() || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v became %+v", name, want, got)
		}
		for n := range w.b {
			if r := (&reader{b: w.b[:n]}); func() bool { read(r); return r.done() }() {
				t.Errorf("%s is whole after %d of %d bytes", name, n, len(w.b))
			}
		}
	}
	trip("orders", func(w *writer) { w.orders(o) }, func(r *reader) any { return r.orders() }, o)
	trip("tail", func(w *writer) { w.tail(tl) }, func(r *reader) any { return r.tail() }, tl)
	trip("keys", func(w *writer) { w.keys(keys) }, func(r *reader) any { return r.keys() }, keys)
	trip("reply", func(w *writer) { w.reply(q, rep) }, func(r *reader) any {
		gotQ, got := r.reply()
		return []any{gotQ, got}
	}, []any{q, rep})
	sessions := [][16]byte{{1}, {2, 15: 3}}
	trip("sessions", func(w *writer) { w.sessions(sessions) }, func(r *reader) any { return r.sessions() }, sessions)
	for m := msgApply; m <= msgApplyAll; m++ {
		lines = append(lines, fmt.Sprintf("begin %d %x", m, begin(m, 0x0102).b))
	}
	golden(t, "testdata/member-messages", lines)
}

func TestRecords(t *testing.T) {
	recs := [][]byte{[]byte("one"), {0}, bytes.Repeat([]byte("x"), 1000)}
	got, err := unpackRecords(packRecords(recs))
	if err != nil || !reflect.DeepEqual(got, recs) {
		t.Errorf("%q %v", got, err)
	}
	for _, bad := range [][]byte{{1}, {2, 0, 0, 0, 1}, {255, 255, 255, 255}} {
		if _, err := unpackRecords(bad); err == nil {
			t.Errorf("%x is no error", bad)
		}
	}
}

// FuzzChange parses bytes as a change: whatever is taken is written again as it was read.
func FuzzChange(f *testing.F) {
	for _, c := range sampleChanges() {
		f.Add(c.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c, d change
		if c.parse(&reader{b: b}) != nil {
			return
		}
		_ = c.touches()
		_ = c.dirties()
		if err := d.parse(&reader{b: c.append(nil)}); err != nil || !reflect.DeepEqual(c.append(nil), d.append(nil)) {
			t.Errorf("%+v became %+v: %v", c, d, err)
		}
	})
}

// FuzzHandle gives a member any message at all.
func FuzzHandle(f *testing.F) {
	for m := msgApply; m <= msgApplyAll; m++ {
		f.Add(append(begin(m, 1).b, sampleChanges()[0].append(nil)...), []byte("data"))
	}
	w := begin(msgFence, 1)
	w.text("life")
	w.orders(orders{state: spec.SetState{Epoch: 1, Primary: "m1", InSync: []spec.Seat{{Member: "m0"}, {Member: "m1"}}}, config: 1})
	f.Add(w.b, []byte{})
	c := newCluster(f, 1, inMemory)
	s, err := New(Config{Set: 1, Self: "m0", Life: "l", Boot: "boot", Member: c.nodes[0].member, Dir: f.TempDir(), Authority: c.auth})
	must(f, err)
	f.Cleanup(func() { must(f, s.Close()) })
	f.Fuzz(func(t *testing.T, msg, data []byte) {
		if _, err := s.Handle(t.Context(), msg, data); err != nil && volume.ErrnoOf(err) == 0 {
			t.Errorf("%x: %v", msg, err)
		}
	})
}

// TestReaderBounds gives every decoder random bytes: none must panic, or allocate what the bytes can't hold.
func TestReaderBounds(t *testing.T) {
	rng := rand.New(rand.NewPCG(testSeed(t), 0))
	for range 20000 {
		b := make([]byte, rng.IntN(80))
		for i := range b {
			b[i] = byte(rng.Uint32() >> (8 * rng.IntN(4)) & uint32(rng.IntN(256)))
		}
		for _, f := range []func(r *reader){
			func(r *reader) { r.orders() }, func(r *reader) { r.tail() }, func(r *reader) { r.keys() }, func(r *reader) { r.requests() }, func(r *reader) { r.sessions() },
			func(r *reader) { r.reply() }, func(r *reader) { _ = new(change).parse(r) }, func(r *reader) { _, _ = unpackRecords(r.b) },
		} {
			f(&reader{b: b})
		}
	}
}
