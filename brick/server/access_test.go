package server

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

func TestAccess(t *testing.T) {
	resolve := func(_ context.Context, host string) ([]string, error) {
		switch host {
		case "lab.example":
			return []string{"fe80::1", "10.1.2.3"}, nil
		case "other.example":
			return []string{"10.9.9.9"}, nil
		}
		return nil, errors.New("no such host")
	}
	for _, c := range []struct {
		allow, reject, client string
		let                   bool
	}{
		{"", "", "10.1.2.3:999", true},
		{"", "10.1.2.3", "10.1.2.3:999", false},
		{"*", "", "10.1.2.3:999", true},
		{"*", "(null)", "[::1]:999", true},
		{"10.1.2.3", "", "10.1.2.3:999", true},
		{"10.1.2.4", "", "10.1.2.3:999", false},
		{"10.1.2.4, 10.1.2.3", "", "10.1.2.3:999", true},
		{"10.1.2.3", "", "[::ffff:10.1.2.3]:999", true},
		{"10.1.*", "", "10.1.2.3:999", true},
		{"10.2.*", "", "10.1.2.3:999", false},
		{"10.0.0.0/8", "", "10.1.2.3:999", true},
		{"11.0.0.0/8", "", "10.1.2.3:999", false},
		{"2001:db8::/32", "", "[2001:db8::5]:999", true},
		{"lab.example", "", "10.1.2.3:999", true},
		{"other.example", "", "10.1.2.3:999", false},
		{"unknown.example", "", "10.1.2.3:999", false},
		{"unknown.example,10.1.2.3", "", "10.1.2.3:999", true},
		{"*", "10.1.2.3", "10.1.2.3:999", false},
		{"10.1.2.3", "10.1.*", "10.1.2.3:999", false},
		{"*", "lab.example", "10.1.2.3:999", false},
		{"*", "*", "10.1.2.3:999", false},
		{"10.9.9.9", "*", "10.7.7.7:1", true},  // always
		{"10.9.9.9", "", "@", true},            // this machine
		{"10.9.9.9", "", "", true},             // likewise
		{"*", "", "somebody.example:1", false}, // no address
	} {
		a := Access{Allow: c.allow, Reject: c.reject, Always: []string{"10.7.7.7"}, Resolve: resolve}
		if err := a.Check(wire.Client{Addr: c.client}); (err == nil) != c.let {
			t.Errorf("allow %q, reject %q, client %s: %v", c.allow, c.reject, c.client, err)
		}
	}
}

// Who is not allowed any more is sent away, and told why when it comes back.
func TestSetAccess(t *testing.T) {
	r := newRaw(t, nil)
	r.hello(nil)
	r.s.SetAccess(Access{Reject: "10.0.0.1"})
	if len(r.s.Clients()) != 1 {
		t.Error("a client that is allowed was sent away")
	}
	r.s.SetAccess(Access{Reject: "127.0.0.*"})
	if _, err := r.next(); err == nil || len(r.s.Clients()) != 0 {
		t.Errorf("it goes on: %v", err)
	}
	r.open()
	if w := r.hello(nil); volume.ErrnoOf(w.Err) != syscall.EACCES || !strings.Contains(w.Err.Error(), "auth.reject") {
		t.Errorf("welcome: %v", w.Err)
	}
	r.s.SetAccess(Access{})
	r.open()
	if w := r.hello(nil); w.Err != nil {
		t.Error(w.Err)
	}
}

func TestReadOnly(t *testing.T) {
	r := newRaw(t, nil)
	r.hello(nil)
	r.openFile()
	r.s.SetReadOnly(true)
	number := uint64(1)
	ask := func(op wire.Op, args func([]byte) []byte) error {
		number++
		r.ask(frameOf(op, number, 0, args))
		return r.reply(number)
	}
	name := (&wire.NameArgs{Dir: volume.Root, Name: "file"}).Append
	file, err := r.b.FS.Lookup(t.Context(), volume.Root, "file")
	if err != nil {
		t.Fatal(err)
	}
	for op, args := range map[wire.Op]func([]byte) []byte{
		wire.OpUnlink: name, wire.OpRmdir: name,
		wire.OpMake:        (&wire.MakeArgs{Dir: volume.Root, Name: "n", Node: volume.Node{Mode: syscall.S_IFDIR | 0o755}}).Append,
		wire.OpBear:        (&wire.BearArgs{MakeArgs: wire.MakeArgs{Dir: volume.Root, Name: "n", Node: volume.Node{Mode: syscall.S_IFREG | 0o644}}}).Append,
		wire.OpReserve:     (&wire.MakeArgs{Dir: volume.Root, Name: "n", Node: volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o644}}).Append,
		wire.OpCreate:      (&wire.CreateArgs{Dir: volume.Root, Name: "n", Node: volume.Node{Mode: syscall.S_IFREG | 0o644}}).Append,
		wire.OpOpen:        (&wire.OpenArgs{ID: file.ID, Flags: volume.Read | volume.Write, Handle: 99}).Append,
		wire.OpLink:        (&wire.LinkArgs{ID: file.ID, Dir: volume.Root, Name: "l"}).Append,
		wire.OpRename:      (&wire.RenameArgs{OldDir: volume.Root, OldName: "file", NewDir: volume.Root, NewName: "n"}).Append,
		wire.OpSetattr:     (&wire.SetattrArgs{ID: file.ID, Change: volume.Change{Mask: volume.SetMode, Mode: 0o600}}).Append,
		wire.OpSetxattr:    (&wire.SetxattrArgs{ID: file.ID, Name: "user.a"}).Append,
		wire.OpRemovexattr: (&wire.XattrArgs{ID: file.ID, Name: "user.a"}).Append,
		wire.OpWrite:       (&wire.WriteArgs{Handle: 1}).Append,
	} {
		if err := ask(op, args); volume.ErrnoOf(err) != syscall.EROFS {
			t.Errorf("%s: %v, want EROFS", op, err)
		}
	}
	for op, args := range map[wire.Op]func([]byte) []byte{
		wire.OpLookup: name, wire.OpStep: nil,
		wire.OpRead: (&wire.ReadArgs{Handle: 1, Len: 10}).Append,
		wire.OpOpen: (&wire.OpenArgs{ID: file.ID, Flags: volume.Read, Handle: 98}).Append,
	} {
		if err := ask(op, args); err != nil {
			t.Errorf("%s: %v", op, err)
		}
	}
	r.s.SetReadOnly(false)
	if err := ask(wire.OpUnlink, name); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
