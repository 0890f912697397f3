package dht

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

func sampleSteps() []*step {
	id := volume.ID{1, 2, 3, 15: 4}
	put := action{kind: actPut, set: 2, part: 1, dir: id, name: "n", id: volume.Root, mode: syscall.S_IFREG, held: 3, old: id, oldMode: syscall.S_IFLNK}
	swap := action{kind: actSwap, set: 2, id: id, old: volume.Root, dir: id, name: "a", dir2: volume.Root, name2: "b"}
	return []*step{
		{op: opStarted, from: 1, epoch: 7},
		{op: opReserve, from: 65535, epoch: 1<<32 - 1, intent: 1<<64 - 1, below: 1 << 40, flags: noWait | wantLink, dir: id, name: "old", dir2: volume.Root, name2: strings.Repeat("x", 255), id: id, set: 9},
		{op: opFinish, from: 1, epoch: 1, intent: 5, flags: redo | keep, actions: []action{put, swap}},
		{op: opCopy, from: 1, epoch: 1, dir: id, name: "d", copy: &volume.Copy{ID: id, Mode: syscall.S_IFDIR | 0o755, UID: 1, GID: 2, Version: 3, ACL: []byte{1}, Default: []byte{}, Home: 4, BirthTime: volume.Time{Sec: -5, Nsec: 999999999}}},
		{op: opRefresh, from: 1, epoch: 1, copy: &volume.Copy{ID: id}, change: &volume.Change{Mask: volume.SetMtime, Mtime: volume.Time{Sec: 1, Nsec: 2}}},
		{op: opBirth, from: 1, epoch: 1, intent: 2, dir: id, name: "f", node: &volume.Node{ID: id, Mode: 0o100644, Parent: 3}, cred: volume.Cred{UID: 1, GID: 2, Umask: 0o22}},
		{op: opPurge, from: 1, epoch: 1, numbers: []uint64{1, 3, 1 << 63, 1}},
		{op: opSync, from: 2, epoch: 1, dirs: []volume.ID{id, volume.Root}},
		{op: opFind, numbers: []uint64{1<<64 - 2}},
	}
}

func sampleRecords() []record {
	id := volume.ID{9}
	a := action{kind: actDiscard, set: 1, dir: id, name: "n", id: id}
	return []record{
		{kind: recEpoch, number: 3, boot: "b", reached: []uint64{1<<32 + 5}},
		{kind: recBegin, number: 1, victim: id, names: []nameKey{{id, "own"}, {id, "old"}}, commit: action{set: 1, dir: id, name: "own"}},
		{kind: recCommit, number: 1, commit: a, links: 1, actions: []action{a, a}},
		{kind: recCommit, number: 1, commit: a, request: volume.Request{Session: [16]byte{1, 15: 2}, Number: 1 << 40}, made: true},
		{kind: recAbort, number: 1}, {kind: recFinished, number: 1}, {kind: recDone, number: 1},
		{kind: recPart, number: 2, from: 7, dying: id, names: []nameKey{{id, "x"}, {}}, actions: []action{a}},
		{kind: recPartEnd, number: 2, from: 7},
	}
}

// TestFormatGolden keeps the bytes of steps, answers and records.
func TestFormatGolden(t *testing.T) {
	var b strings.Builder
	for _, s := range sampleSteps() {
		fmt.Fprintf(&b, "step %x\n", s.encode())
		if got, err := decodeStep(s.encode()); err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%+v becomes %+v: %v", s, got, err)
		}
	}
	for _, a := range []*answer{{}, {epoch: 1, outcome: outcomeLost, linked: true, id: volume.Root, mode: 1, held: 2, dir: volume.Root, name: "n", copy: &volume.Copy{ID: volume.Root}}} {
		fmt.Fprintf(&b, "answer %x\n", a.encode())
		if got, err := decodeAnswer(a.encode()); err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%+v becomes %+v: %v", a, got, err)
		}
	}
	for _, r := range sampleRecords() {
		fmt.Fprintf(&b, "record %x\n", r.encode())
		if got, err := decodeRecord(r.encode()); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v becomes %+v: %v", r, got, err)
		}
	}
	golden(t, "format.golden", b.String())
}

// TestFormatRefuses: every truncation, other versions, and what is too long.
func TestFormatRefuses(t *testing.T) {
	for _, s := range sampleSteps() {
		b := s.encode()
		for n := range b {
			if _, err := decodeStep(b[:n]); err == nil {
				t.Errorf("step of %d bytes cut to %d passes", len(b), n)
			}
		}
		if _, err := decodeStep(append(b, 0)); err == nil {
			t.Error("a byte too many passes")
		}
		b[0]++
		if _, err := decodeStep(b); err == nil {
			t.Error("another version passes")
		}
	}
	if _, err := decodeStep(make([]byte, stepMax+1)); err == nil {
		t.Error("an oversized step passes")
	}
}

func FuzzStep(f *testing.F) {
	for _, s := range sampleSteps() {
		f.Add(s.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeStep(b)
		if err != nil {
			return
		}
		again, err := decodeStep(s.encode())
		if err != nil || !bytes.Equal(again.encode(), s.encode()) {
			t.Fatalf("%+v is not stable: %v", s, err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add((&answer{epoch: 1, copy: &volume.Copy{}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := decodeAnswer(b); err == nil {
			if _, err := decodeAnswer(a.encode()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzRecord(f *testing.F) {
	for _, r := range sampleRecords() {
		f.Add(r.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRecord(b); err == nil {
			if _, err := decodeRecord(r.encode()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
