package set

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

var rewriteHeal = flag.Bool("rewrite-heal", false, "write testdata/heal-messages anew")

// capture is a Peer that notes what is sent and gives a prepared answer.
type capture struct {
	lines  []string
	answer []byte
}

func (c *capture) Up() bool { return true }

func (c *capture) Call(_ context.Context, msg, data []byte) ([]byte, error) {
	c.lines = append(c.lines, fmt.Sprintf("%x %x", msg, data))
	return c.answer, nil
}

// askAll asks every question there is once.
func askAll(ctx context.Context, s side) {
	id, dir := volume.ID{1, 2, 15: 3}, volume.Root
	p := volume.Pointer{ID: id, Mode: syscall.S_IFREG, Held: 4}
	k := volume.Key{Set: 1, Intent: 2, Part: 3}
	o := volume.Object{Attr: volume.Attr{ID: id, Mode: syscall.S_IFLNK | 0o777, UID: 1, GID: 2, Mtime: volume.Time{Sec: 3, Nsec: 4}},
		Target: "to", Xattrs: []volume.Xattr{{Name: "user.x", Value: []byte("y")}}}
	s.look(ctx, dir, "name", id)
	s.describe(ctx, id)
	s.install(ctx, o)
	s.bear(ctx, o, []byte("data"), dir, "name")
	s.place(ctx, dir, "name", p)
	s.path(ctx, id)
	s.list(ctx, dir, 5, 6)
	s.nameless(ctx, id)
	s.release(ctx, id)
	s.sums(ctx, id, 7, 8, 4096)
	s.digests(ctx, []volume.ID{id, dir})
	s.data(ctx, id, 9)
	s.read(ctx, id, 10, make([]byte, 11))
	s.write(ctx, id, 12, []byte("written"))
	s.zero(ctx, id, 13, 14)
	s.discards(ctx, k)
	s.discard(ctx, dir, "name", id, k, true)
	s.purge(ctx, k, id)
	s.journal(ctx, 15)
	s.setJournal(ctx, [][]byte{[]byte("one"), []byte("two")}, true)
	s.settle(ctx)
}

// TestMessages compares the messages with those that other releases write.
func TestMessages(t *testing.T) {
	c := &capture{answer: []byte{0, 0}}
	askAll(t.Context(), distant{peer: c, epoch: func() Epoch { return 0x0102 }})
	if len(c.lines) != askEnd-distantFirst {
		t.Fatalf("%d messages of %d kinds", len(c.lines), askEnd-distantFirst)
	}
	const file = "testdata/heal-messages"
	got := strings.Join(c.lines, "\n") + "\n"
	if *rewriteHeal {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if got != string(want) {
		t.Errorf("the messages have changed: this needs kinds of new numbers\ngot\n%s\nwant\n%s", got, want)
	}
}

// TestDistantErrors looks that errors travel whole.
func TestDistantErrors(t *testing.T) {
	for _, err := range []error{
		nil,
		&volume.Error{Op: "place", Where: "name", Errno: syscall.ELOOP},
		&volume.Error{Op: "read", Errno: syscall.EIO, Reason: volume.Damaged, Err: errors.New("the disk")},
		&volume.Error{Op: strings.Repeat("x", 3000), Errno: syscall.EIO, Reason: volume.NotPrimary},
	} {
		var w writer
		w.status(err)
		r := reader{b: w.b}
		got := r.status()
		if !r.done() || volume.ErrnoOf(got) != volume.ErrnoOf(err) || volume.ReasonOf(got) != volume.ReasonOf(err) {
			t.Errorf("%v became %v", err, got)
		}
		if err != nil && len(err.Error()) < textMax && got.Error() != err.Error() {
			t.Errorf("%q became %q", err, got)
		}
	}
	s := distant{peer: newLoop(model.NewStore(testSet)), epoch: func() Epoch { return 7 }}
	if _, err := s.describe(t.Context(), volume.ID{1}); !isStale(err) {
		t.Errorf("describe: %v", err)
	}
	if err := s.write(t.Context(), volume.Root, 0, []byte("x")); volume.ErrnoOf(err) != syscall.EISDIR {
		t.Errorf("write: %v", err)
	}
	if _, _, err := s.list(t.Context(), volume.Root, 0, listMax+1); volume.ErrnoOf(err) != syscall.EBADMSG {
		t.Errorf("list: %v", err)
	}
}

// TestObjectCodec encodes and decodes an object.
func TestObjectCodec(t *testing.T) {
	o := volume.Object{Attr: volume.Attr{ID: volume.NewID(3), Mode: 0o100644, Size: 1 << 40, Rdev: 9, Version: 7},
		Target: "x", Xattrs: []volume.Xattr{{Name: "a", Value: []byte{}}, {Name: "b", Value: bytes.Repeat([]byte{1}, volume.XattrValueMax)}}}
	var w writer
	w.object(o)
	r := reader{b: w.b}
	if got := r.object(); !r.done() || !reflect.DeepEqual(got, o) {
		t.Errorf("%+v became %+v", o, got)
	}
}

// FuzzServe serves anything: it must neither panic nor answer what can't be decoded.
func FuzzServe(f *testing.F) {
	golden, err := os.ReadFile("testdata/heal-messages")
	must(f, err)
	for line := range strings.Lines(string(golden)) {
		m, d, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		msg, err1 := hex.DecodeString(m)
		data, err2 := hex.DecodeString(d)
		must(f, errors.Join(err1, err2))
		f.Add(msg, data)
	}
	f.Fuzz(func(t *testing.T, msg, data []byte) {
		if len(data) > volume.IOMax {
			return
		}
		answer, err := serveDistant(t.Context(), near{m: model.NewStore(testSet)}, msg, data)
		if err != nil {
			return
		}
		r := reader{b: answer}
		if err := r.status(); r.bad || err != nil && !r.done() {
			t.Errorf("answer %x: %v", answer, err)
		}
		if len(answer) > AnswerMax {
			t.Errorf("an answer of %d bytes", len(answer))
		}
	})
}

// FuzzAnswer gives any answer to every question.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{0, 0, 1, 2, 3})
	f.Add([]byte{0, 0, 255, 255, 255, 255, 0})
	f.Fuzz(func(t *testing.T, answer []byte) {
		askAll(t.Context(), distant{peer: &capture{answer: answer}, epoch: func() Epoch { return 1 }})
	})
}
