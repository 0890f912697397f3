package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

var (
	idA  = volume.ID{0: 0xa1, 15: 0xa2}
	idB  = volume.ID{0: 0xb1, 15: 0xb2}
	node = volume.Node{ID: idB, Mode: 0o120777, Rdev: 0x0102030405, Target: "there", Parent: 9}
	chg  = volume.Change{Mask: volume.SetMode | volume.SetMtime, Mode: 0o640, UID: 1, GID: 2, Size: 1 << 40,
		Atime: volume.Time{Sec: -1, Nsec: 999_999_999}, Mtime: volume.Time{Sec: 5, Nsec: 6}, Ctime: volume.Time{Sec: 7, Nsec: 8}}
	attr = volume.Attr{ID: idA, Mode: 0o100644, Nlink: 2, UID: 3, GID: 4, Rdev: 5, Size: 6, Blocks: 7,
		Atime: volume.Time{Sec: 8, Nsec: 9}, Mtime: volume.Time{Sec: 10, Nsec: 11}, Ctime: volume.Time{Sec: 12, Nsec: 13},
		Btime: volume.Time{Sec: 14, Nsec: 15}, Version: 16, Held: 17}
)

var wireLock = volume.Lock{Owner: volume.LockOwner{Number: 9}, Type: volume.ExclusiveLock, Start: 5, End: 1 << 40, PID: 7}

// argument is one of the lists of arguments.
type argument interface{ Append(b []byte) []byte }

// arguments are examples of all lists of arguments, with the operations that have them.
var arguments = map[Op]argument{
	OpLookup:      &NameArgs{idA, "name"},
	OpGetattr:     &IDArgs{idA},
	OpSetattr:     &SetattrArgs{idA, chg},
	OpMake:        &MakeArgs{idA, "name", node},
	OpCreate:      &CreateArgs{idA, "name", node, volume.Write | volume.Excl},
	OpOpen:        &OpenArgs{idA, volume.Read, 77, 4096},
	OpLink:        &LinkArgs{idA, idB, "name"},
	OpRename:      &RenameArgs{idA, "old", idB, "new", volume.RenameExchange},
	OpReadDir:     &ReadDirArgs{idA, 1 << 60, 4096, true},
	OpGetxattr:    &XattrArgs{idA, "user.a"},
	OpSetxattr:    &SetxattrArgs{idA, "user.a", volume.XattrCreate, []byte("value")},
	OpStep:        &StepArgs{[]byte("step")},
	OpRead:        &ReadArgs{77, 1 << 40, 4096},
	OpFileGetattr: &HandleArgs{77},
	OpFileSetattr: &FileSetattrArgs{77, chg},
	OpAllocate:    &AllocateArgs{77, volume.AllocKeepSize, 1, 2},
	OpSeek:        &SeekArgs{77, 5, volume.SeekHole},
	OpFileSync:    &FileSyncArgs{77, true},
	OpWriteSet:    &writeSetList{WriteSetArgs{WriteArgs{77, 5, 1}, chg}},
	OpLock:        &LockArgs{77, LockPoll, 5, wireLock},
	OpTestLock:    &TestLockArgs{77, wireLock},
	OpCopy:        &CopyArgs{77, 78, 1 << 40, 5, 6, volume.WriteKillPriv},
	OpReclaim:     &ReclaimArgs{true, []HeldLock{{idA, wireLock}, {idB, wireLock}}},
	OpBear:        &bearList{BearArgs{MakeArgs{idA, "name", volume.Node{ID: idB, Mode: 0o100600, Parent: 9, Then: chg}}, true}},
	OpReserve:     &MakeArgs{idA, "name", volume.Node{ID: idB, Mode: 0o100600, Parent: 9}},
	OpRemove:      &RemoveArgs{idA, "name", Going{idB, volume.Time{Sec: 5, Nsec: 6}}, true},
	OpAwait:       &AwaitArgs{77},
}

// writeSetList is WriteSetArgs without data.
type writeSetList struct{ WriteSetArgs }

func (a *writeSetList) Parse(r *Reader) bool {
	data, ok := a.WriteSetArgs.Parse(r)
	return ok && len(data) == 0
}

// bearList is BearArgs without data.
type bearList struct{ BearArgs }

func (a *bearList) Parse(r *Reader) bool {
	ok := a.BearArgs.Parse(r)
	if len(a.Node.Data) == 0 {
		a.Node.Data = nil
	} else {
		ok = false
	}
	return ok
}

// parse decodes arguments into a new list like a.
func parse(a argument, b []byte) (argument, bool) {
	p := reflect.New(reflect.TypeOf(a).Elem()).Interface().(interface {
		argument
		Parse(*Reader) bool
	})
	r := NewReader(b)
	ok := p.Parse(&r)
	return p, ok
}

// Every list of arguments comes back as it was, and no shorter or longer one is taken for it.
func TestArguments(t *testing.T) {
	for op, a := range arguments {
		b := a.Append(nil)
		got, ok := parse(a, b)
		if !ok || !reflect.DeepEqual(got, a) {
			t.Errorf("%s: %+v, want %+v", op, got, a)
		}
		if op == OpStep { // of any length
			continue
		}
		for n := range b {
			if _, ok := parse(a, b[:n]); ok {
				t.Errorf("%s: %d of %d bytes are taken", op, n, len(b))
			}
		}
		if _, ok := parse(a, append(b, 0)); ok {
			t.Errorf("%s: a byte more is taken", op)
		}
	}
	p := PeerArgs{[]byte("message")}
	var gotPeer PeerArgs
	pr := NewReader(append(p.Append(nil), "data"...))
	if data, ok := gotPeer.Parse(&pr); !ok || string(gotPeer.Message) != "message" || string(data) != "data" {
		t.Errorf("peer: %+v %q", gotPeer, data)
	}
	for what, b := range map[string][]byte{
		"message": (&PeerArgs{make([]byte, PeerMessageMax+1)}).Append(nil),
		"data":    append((&PeerArgs{}).Append(nil), make([]byte, volume.IOMax+1)...),
		"length":  {8, 0, 0, 0, 1, 2, 3},
	} {
		r := NewReader(b)
		if _, ok := gotPeer.Parse(&r); ok {
			t.Errorf("peer: a %s that is too long is taken", what)
		}
	}
	bear, gotBear := BearArgs{MakeArgs{idA, "name", volume.Node{ID: idB, Mode: 0o100600, Data: []byte("data"), Then: chg}}, false}, BearArgs{}
	br := NewReader(append(bear.Append(nil), bear.Node.Data...))
	if !gotBear.Parse(&br) || !reflect.DeepEqual(gotBear, bear) {
		t.Errorf("bear: %+v", gotBear)
	}
	br = NewReader(append(bear.Append(nil), make([]byte, volume.IOMax+1)...))
	if gotBear.Parse(&br) {
		t.Error("bear: too much data are taken")
	}
	w := WriteArgs{77, 1 << 40, volume.WriteKillPriv}
	var got WriteArgs
	r := NewReader(append(w.Append(nil), "data"...))
	if data, ok := got.Parse(&r); !ok || got != w || string(data) != "data" {
		t.Errorf("write: %+v %q", got, data)
	}
}

// What is over its limit is refused.
func TestLimits(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, a := range []argument{
		&NameArgs{idA, long},
		&MakeArgs{idA, long, node},
		&MakeArgs{idA, "name", volume.Node{Target: strings.Repeat("x", volume.TargetMax+1)}},
		&RenameArgs{idA, "old", idB, long, 0},
		&XattrArgs{idA, long},
		&SetxattrArgs{idA, "user.a", 0, make([]byte, volume.XattrValueMax+1)},
		&ReadDirArgs{idA, 0, 0, false},
		&ReadDirArgs{idA, 0, volume.ReadDirMax + 1, false},
		&ReadArgs{1, 0, volume.IOMax + 1},
		&StepArgs{make([]byte, StepMax+1)},
	} {
		if _, ok := parse(a, a.Append(nil)); ok {
			t.Errorf("%T: what is too long is taken", a)
		}
	}
	lies := map[string]func(*Reader){
		"entries": func(r *Reader) { r.Entries() },
		"names":   func(r *Reader) { r.Names() },
		"numbers": func(r *Reader) { r.Bool(); r.numbers(UnansweredMax) },
		"value":   func(r *Reader) { r.Bool(); r.Value(volume.XattrValueMax) },
		"peer":    func(r *Reader) { r.Bool(); new(PeerArgs).Parse(r) },
		"outcome": func(r *Reader) { r.Bool(); r.outcomes() },
	}
	for what, read := range lies {
		b := append([]byte{1, 0xff, 0xff, 0xff, 0x7f}, make([]byte, 100)...)
		if what == "names" {
			b = b[1:]
		}
		allocs := testing.AllocsPerRun(1, func() {
			r := NewReader(b)
			if read(&r); !r.Bad() {
				t.Errorf("%s: a length that lies is believed", what)
			}
		})
		if allocs > 1 {
			t.Errorf("%s: %v allocations for a length that lies", what, allocs)
		}
	}
}

func TestReplies(t *testing.T) {
	entries := []volume.Entry{
		{Name: "a", Cookie: 17, ID: idA, Mode: 0o40000, Held: 3},
		{Name: "b", Cookie: 18, ID: idA, Mode: 0o100644, HasAttr: true, Attr: attr},
	}
	stat := volume.Statfs{Total: 1, Free: 2, Available: 3, Files: 4, FilesFree: 5, BlockSize: 6, NameMax: 7}
	b := AppendStatus(nil, nil)
	b = AppendCreated(b, true, &attr)
	b = AppendEntries(b, entries, true)
	b = AppendNames(b, []string{"user.a", "user.b"})
	b = AppendStatfs(b, stat)
	b = AppendNumber(AppendValue(AppendText(b, "target"), []byte("value")), -1)
	r := NewReader(b)
	if err := ParseStatus(&r); err != nil {
		t.Error(err)
	}
	if opened, a := r.Created(); !opened || a != attr {
		t.Errorf("created %v %+v", opened, a)
	}
	if got, end := r.Entries(); !end || !reflect.DeepEqual(got, entries) {
		t.Errorf("entries %+v", got)
	}
	if got := r.Names(); !reflect.DeepEqual(got, []string{"user.a", "user.b"}) {
		t.Errorf("names %q", got)
	}
	if got := r.Statfs(); got != stat {
		t.Errorf("statfs %+v", got)
	}
	if target, value, n := r.Text(100), r.Value(100), r.I64(); target != "target" || string(value) != "value" || n != -1 || !r.Done() {
		t.Errorf("%q %q %d", target, value, n)
	}
}

func TestErrors(t *testing.T) {
	for _, err := range []error{
		&volume.Error{Op: "rename", Where: "x", Errno: syscall.EXDEV, Reason: volume.Outdated, Err: errors.New("cause")},
		&volume.Error{Errno: syscall.ENOENT},
		&volume.Error{Op: strings.Repeat("o", 2*TextMax), Where: strings.Repeat("w", 1<<17), Errno: syscall.EIO, Err: errors.New(strings.Repeat("c", 1<<17))},
		fmt.Errorf("wrapped: %w", &volume.Error{Op: "link", Errno: syscall.EMLINK}),
		errors.New("bare"),
	} {
		b := AppendStatus(nil, err)
		if got := PeekErrno(b); got != volume.ErrnoOf(err) {
			t.Errorf("errno %v of %v", got, err)
		}
		r := NewReader(b)
		got := ParseStatus(&r)
		if !r.Done() || volume.ErrnoOf(got) != volume.ErrnoOf(err) || volume.ReasonOf(got) != volume.ReasonOf(err) {
			t.Errorf("%v came back as %v", err, got)
		}
	}
}

func TestHello(t *testing.T) {
	h := HelloBody{VersionMin: 1, VersionMax: Version + 1, Volume: "v", Brick: "b", Session: SessionID{1}, Client: "c", ClientVersion: "0.1",
		Token: "t", Layout: 4, Unanswered: []uint64{5, 6}, Handles: []uint64{7}, Member: true, Server: 8, Ask: []uint64{6}, Attempt: 9}
	f, _, err := NextFrame(h.Append(nil))
	var got HelloBody
	r := NewReader(f.Body)
	if err != nil || !got.Parse(&r) || !reflect.DeepEqual(got, h) {
		t.Errorf("%+v, %v", got, err)
	}
	if v, err := Negotiate(&h); v != Version || err != nil {
		t.Errorf("version %d, %v", v, err)
	}
	// What a later version adds is passed over, what this one does not have is malformed.
	more := append(bytes.Clone(f.Body), 1, 2, 3)
	if r = NewReader(more); !got.Parse(&r) || !reflect.DeepEqual(got, h) {
		t.Errorf("with more: %+v", got)
	}
	more[2] = Version
	if r = NewReader(more); got.Parse(&r) {
		t.Error("more than there is in this version is taken")
	}
	// A client of an earlier version says less.
	old := h
	old.VersionMax, old.Member, old.Server, old.Ask, old.Attempt = 1, false, 0, nil, 0
	f, _, _ = NextFrame(old.Append(nil))
	got = HelloBody{}
	if r = NewReader(f.Body); !got.Parse(&r) || !reflect.DeepEqual(got, old) {
		t.Errorf("an earlier hello: %+v", got)
	}
	// A client of a later protocol is told which versions there are, whatever else it says.
	r = NewReader([]byte{7, 0, 9, 0, 1, 2, 3})
	if !got.Parse(&r) {
		t.Error("a later hello is malformed")
	}
	if _, err := Negotiate(&got); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("versions 7 to 9, the brick 1 to %d", Version)) {
		t.Errorf("a later version: %v", err)
	}
	for _, w := range []WelcomeBody{
		{Version: 1, Server: 2, Boot: SessionID{3}, Known: true, Attachment: 4, InFlight: InFlightMin, WantFlush: true, Layout: 6},
		{Err: &volume.Error{Op: "connect", Errno: syscall.ESTALE, Err: errors.New("no")}},
		{Version: 2, Server: 2, Boot: SessionID{3}, Attachment: 4, InFlight: InFlightMin, Decides: true, Outcomes: []Decided{
			{Number: 7, Executed: true, Outcome: Outcome{Attr: attr, Offset: 8}}, {Number: 9}}},
	} {
		f, _, err := NextFrame(w.Append(nil))
		var got WelcomeBody
		r := NewReader(f.Body)
		if err != nil || !got.Parse(&r) || !reflect.DeepEqual(got, w) {
			t.Errorf("%+v, %v, want %+v", got, err, w)
		}
	}
}

func TestFrames(t *testing.T) {
	b := AppendBatchHeader(nil)
	b = AppendEmpty(b, Cancel, 5)
	b = AppendAck(b, []uint64{1, 2})
	EndBatch(b)
	frames, err := ParseBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	c, frames, err := NextFrame(frames)
	if err != nil || c.Kind != Cancel || c.Number != 5 {
		t.Errorf("%+v, %v", c, err)
	}
	a, frames, err := NextFrame(frames)
	if err != nil || a.Kind != Ack || len(a.Body) != 16 || len(frames) != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	for what, spoil := range map[string]func(b []byte) []byte{
		"magic":     func(b []byte) []byte { b[0]++; return b },
		"version":   func(b []byte) []byte { b[2]++; return b },
		"kind":      func(b []byte) []byte { b[3] = kindLane; return b },
		"length":    func(b []byte) []byte { b[4]++; return b },
		"truncated": func(b []byte) []byte { return b[:len(b)-1] },
		"empty":     func(b []byte) []byte { return nil },
	} {
		if _, err := ParseBatch(spoil(bytes.Clone(b))); !errors.Is(err, ErrMalformed) {
			t.Errorf("batch with bad %s: %v", what, err)
		}
	}
	for what, spoil := range map[string]func(b []byte) []byte{
		"length":    func(b []byte) []byte { b[0] = 15; return b },
		"huge":      func(b []byte) []byte { b[3] = 0xff; return b },
		"kind":      func(b []byte) []byte { b[4] = byte(kindEnd); return b },
		"no kind":   func(b []byte) []byte { b[4] = 0; return b },
		"operation": func(b []byte) []byte { b[5] = 1; return b },
		"reserved":  func(b []byte) []byte { b[6] = 1; return b },
		"number":    func(b []byte) []byte { b[8] = 0; return b },
		"request":   func(b []byte) []byte { b[4] = byte(Request); return b },
		"op":        func(b []byte) []byte { b[4], b[5] = byte(Request), byte(opEnd); return b },
	} {
		if _, _, err := NextFrame(spoil(AppendEmpty(nil, Cancel, 5))); !errors.Is(err, ErrMalformed) {
			t.Errorf("frame with bad %s: %v", what, err)
		}
	}
}

// golden is one example of every kind of message of version 1.
func golden(t *testing.T) []byte {
	var out bytes.Buffer
	line := func(name string, b []byte) { fmt.Fprintf(&out, "%s %s\n", name, hex.EncodeToString(b)) }
	h := Header{Timeout: 1500 * time.Millisecond, Cred: volume.Cred{UID: 1, GID: 2, Umask: 0o22, PID: 3}, Layout: 4}
	for op := Op(1); op < OpPeer; op++ {
		b := AppendRequest(nil, op, 0x1122, h)
		if a := arguments[op]; a != nil {
			b = a.Append(b)
		}
		line(op.String(), EndFrame(b, 0))
	}
	w := WriteArgs{77, 5, 1}
	line("write-args", w.Append(nil))
	hello := HelloBody{VersionMin: 1, VersionMax: 1, Volume: "v", Brick: "b", Session: SessionID{1}, Client: "c", ClientVersion: "0", Token: "t",
		Layout: 4, Unanswered: []uint64{5}, Handles: []uint64{6}}
	line("hello", hello.Append(nil))
	welcome := WelcomeBody{Version: 1, Server: 2, Boot: SessionID{3}, Known: true, Attachment: 4, InFlight: 256, Layout: 5}
	line("welcome", welcome.Append(nil))
	line("error", AppendStatus(nil, &volume.Error{Op: "o", Where: "w", Errno: 2, Reason: 3, Err: errors.New("e")}))
	line("attr", AppendAttr(nil, &attr))
	line("entries", AppendEntries(nil, []volume.Entry{{Name: "n", Cookie: 17, ID: idA, Mode: 0o40000, Held: 3}}, true))
	line("names", AppendNames(nil, []string{"a", "b"}))
	line("statfs", AppendStatfs(nil, volume.Statfs{Total: 1, Free: 2, Available: 3, Files: 4, FilesFree: 5, BlockSize: 6, NameMax: 7}))
	batch := AppendAck(AppendEmpty(AppendBatchHeader(nil), Ping, 0), []uint64{9})
	EndBatch(batch)
	line("batch", batch)
	line("close", AppendClose(nil, []uint64{7}))
	line("lane", laneBegin(t, LaneHello{SessionID{1}, 2}))
	return out.Bytes()
}

// golden2 is what version 2 adds.
func golden2(*testing.T) []byte {
	var out bytes.Buffer
	line := func(name string, b []byte) { fmt.Fprintf(&out, "%s %s\n", name, hex.EncodeToString(b)) }
	peer := PeerArgs{Message: []byte("message")}
	line("peer", EndFrame(append(peer.Append(AppendRequest(nil, OpPeer, 0x1122, Header{})), "data"...), 0))
	hello := HelloBody{VersionMin: 1, VersionMax: 2, Volume: "v", Brick: "b", Session: SessionID{1}, Client: "c", ClientVersion: "0", Token: "t",
		Layout: 4, Unanswered: []uint64{5}, Handles: []uint64{6}, Member: true, Server: 7, Ask: []uint64{5}}
	line("hello", hello.Append(nil))
	welcome := WelcomeBody{Version: 2, Server: 2, Boot: SessionID{3}, Attachment: 4, InFlight: 256, Layout: 5, Decides: true,
		Outcomes: []Decided{{Number: 5, Executed: true, Outcome: Outcome{attr, 9}}, {Number: 6}}}
	line("welcome", welcome.Append(nil))
	refusal := WelcomeBody{Version: 2, Err: &volume.Error{Op: "connect", Errno: syscall.EIO, Reason: volume.NotPrimary}}
	line("refusal", refusal.Append(nil))
	return out.Bytes()
}

// golden4 is what version 4 adds; version 3 added but a flag.
func golden4(*testing.T) []byte {
	var out bytes.Buffer
	line := func(name string, b []byte) { fmt.Fprintf(&out, "%s %s\n", name, hex.EncodeToString(b)) }
	w := WriteSetArgs{WriteArgs{77, 5, 1}, volume.Change{Mask: volume.SetMinimalACL, Mode: 0o640}}
	line("write-set", EndFrame(append(w.Append(AppendRequest(nil, OpWriteSet, 0x1122, Header{})), "data"...), 0))
	line("bear", EndFrame(append(arguments[OpBear].Append(AppendRequest(nil, OpBear, 0x1122, Header{})), "data"...), 0))
	for _, op := range []Op{OpLock, OpTestLock, OpReclaim, OpReserve, OpCopy, OpRemove, OpAwait} {
		line(op.String(), EndFrame(arguments[op].Append(AppendRequest(nil, op, 0x1122, Header{})), 0))
	}
	line("state", AppendLockState(nil, LockQueued))
	line("hello", (&HelloBody{VersionMin: 1, VersionMax: 4, Volume: "v", Session: SessionID{1}, Attempt: 2}).Append(nil))
	return out.Bytes()
}

func TestGolden(t *testing.T) {
	for name, now := range map[string]func(*testing.T) []byte{
		"testdata/v1.txt": golden, "testdata/v2.txt": golden2, "testdata/v4.txt": golden4,
	} {
		if *rewrite {
			if err := os.WriteFile(name, now(t), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(now(t), want) {
			t.Errorf("the bytes of %s have changed; if nobody speaks it yet, run with -rewrite. Now:\n%s", name, now(t))
		}
	}
}
