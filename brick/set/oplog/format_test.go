package oplog

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

var sampleKeys = []Key{
	{Kind: EntryKey, ID: id(1), Name: "name"}, {Kind: EntryKey, ID: id(1)}, {Kind: ObjectKey, ID: id(2)},
	{Kind: ExtentKey, ID: id(3), Off: grain, Len: 2 * grain}, {Kind: ExtentKey, ID: id(3)}, {Kind: JournalKey}, Full,
}

// payloads are one example of each kind of payload in the log.
func payloads() [][]byte {
	mark := Point{7, 8}
	full := Record{Point: Point{7, 9}, Keys: sampleKeys, Request: volume.Request{Session: [16]byte{1, 2}, Number: 3}, Body: []byte("body"), Outcome: []byte("out")}
	return [][]byte{
		appendRecord(nil, mark, &full),
		appendRecord(nil, Point{}, &Record{Point: Point{1, 1}}),
		appendOutcome(nil, mark, Point{7, 9}, []byte("outcome")),
		appendPoint([]byte{markPayload}, mark),
	}
}

// golden is one file of each kind in hexadecimal digits, in version 1.
func golden() string {
	var b bytes.Buffer
	file := func(what string, f []byte) { fmt.Fprintf(&b, "%s\n%s", what, hex.Dump(f)) }
	f := head{logMagic, 5, 1700000000_000000001, 0x01020304}.append(nil)
	for _, p := range payloads() {
		from := len(f)
		f = append(beginFrame(f), p...)
		endFrame(f, from)
		salted(f, from, 0x01020304)
	}
	file("log", f)
	frames := changeFrames{b: head{keysMagic, 0, 1700000000_000000001, 9}.append(nil), from: -1, salt: 9, synced: headSize}
	for i, k := range sampleKeys {
		frames.add(byte(addOp+i%2), k)
	}
	file("keys", frames.end())
	file("state", appendState(head{stateMagic, 0, 0, 9}, []byte("state")))
	return b.String()
}

func TestGolden(t *testing.T) {
	name := filepath.Join("testdata", "v1.txt")
	if *rewrite {
		check(t, os.WriteFile(name, []byte(golden()), 0o644))
	}
	want, err := os.ReadFile(name)
	check(t, err)
	if golden() != string(want) {
		t.Errorf("the bytes of version 1 have changed; if nothing was written with it yet, run with -rewrite. Now:\n%s", golden())
	}
}

// TestNewer refuses what a later program has written, instead of taking it for damaged.
func TestNewer(t *testing.T) {
	d := newMemDisk()
	newer := func(m magic) *inode {
		f := newHead(m, 1, 0).append(nil)
		f[8] = version + 1
		return &inode{data: resum(f)}
	}
	d.names["ops.1"], d.names["queue.m"] = newer(logMagic), newer(keysMagic)
	if _, err := Open("log", Options{Sys: d}); err == nil {
		t.Error("the log")
	}
	if _, err := OpenKeySet("log", "queue.m", SetOptions{Sys: d}); err == nil {
		t.Error("the key set")
	}
	d.names["state"] = newer(stateMagic)
	if _, err := LoadState(d, "log", "state"); err == nil {
		t.Error("the state")
	}
	if len(d.fds) != 0 {
		t.Errorf("%d descriptors are open", len(d.fds))
	}
}

func FuzzKey(f *testing.F) {
	for _, k := range sampleKeys {
		f.Add(AppendKey(nil, k))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, rest, err := ParseKey(b)
		if err != nil {
			return
		}
		if !k.Valid() || !bytes.Equal(append(AppendKey(nil, k), rest...), b) || keySize(k) != int64(len(b)-len(rest)) {
			t.Errorf("%x is %+v", b, k)
		}
	})
}

func FuzzEntry(f *testing.F) {
	for _, p := range payloads() {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b, true)
		if _, err2 := parseEntry(b, false); (err == nil) != (err2 == nil) {
			t.Fatalf("with keys %v, without %v", err, err2)
		}
		if err != nil {
			return
		}
		var again []byte
		switch e.kind {
		case recordPayload:
			check(t, e.check("test"))
			again = appendRecord(nil, e.mark, &e.Record)
		case outcomePayload:
			again = appendOutcome(nil, e.mark, e.Point, e.Outcome)
		case markPayload:
			again = appendPoint([]byte{markPayload}, e.mark)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x is %+v, which is %x", b, e, again)
		}
	})
}

// FuzzFiles opens any bytes as each kind of file, whole and after a header and a frame's head that are right.
func FuzzFiles(f *testing.F) {
	for _, p := range payloads() {
		f.Add(p)
	}
	for i, k := range sampleKeys {
		f.Add(AppendKey([]byte{changePayload, 40, 0, 0, 0, 0, 0, 0, 0, byte(addOp + i%2)}, k))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []magic{"", logMagic, keysMagic, stateMagic} {
			data := slices.Clone(b)
			if m != "" {
				h := newHead(m, 0, 0)
				if m == logMagic {
					h.number = 1
				}
				data = append(beginFrame(h.append(nil)), b...)
				endFrame(data, headSize)
				salted(data, headSize, h.salt)
			}
			d := newMemDisk()
			for _, name := range []string{"ops.1", "queue.m", "state"} {
				d.names[name] = &inode{data: slices.Clone(data)}
			}
			l, err := Open("log", Options{Sys: d})
			check(t, err)
			_, err = l.Tail()
			check(t, err)
			check(t, l.Append(sample(1)))
			s := openSet(t, d, 0)
			s.Add(objectKey(1))
			check(t, s.SyncAll(ctx))
			s.Done(s.Take(1 << 20)...)
			if s.Len() != 0 {
				t.Errorf("%v is left", s.Keys())
			}
			if state, err := LoadState(d, "log", "state"); err == nil && !bytes.Equal(state, b[1:]) {
				t.Errorf("state %x", state)
			}
		}
	})
}

// resum gives a header its checksum.
func resum(f []byte) []byte {
	binary.LittleEndian.PutUint32(f[headSize-4:], crc32.Checksum(f[:headSize-4], castagnoli))
	return f
}
