package set

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// kind is a kind of change: a method of volume.Member or volume.File that
// changes something. The numbers are part of messages and of the log.
type kind uint8

const (
	doSetattr kind = iota + 1
	doMake         // also create; also with contents, and a change of attributes that follows them
	doLink
	doUnlink
	doRmdir
	doRename
	doSetxattr
	doRemovexattr
	doWrite // also append, at its offset; also with a change of attributes that follows it
	doAllocate
	doMakeCopy
	doRefreshCopy
	doPut
	doDiscard
	doPurge
	doRestore
	doRelease
	doJournal // append a record
	doJournalRewrite
	// What follows makes durable: it changes nothing, so it is neither numbered nor recorded.
	doSync
	doFileSync
	doSettle
	doJournalSync
	kinds
)

var kindNames = [kinds]string{
	"none", "setattr", "make", "link", "unlink", "rmdir", "rename", "setxattr", "removexattr", "write", "allocate",
	"makecopy", "refreshcopy", "put", "discard", "purge", "restore", "release", "journal", "journal rewrite",
	"sync", "fsync", "settle", "journal sync",
}

func (k kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return "unknown"
}

// change is a change that all members apply. Which fields count depends on its
// kind; the others are zero. As bytes (versions 1 and 2, integers little-endian):
//
//	kind │ uint32 which of the fields below are there │ the fields
//
// The data of a write, those of a file that is made with such, and the records of a rewritten journal, go beside it.
type change struct {
	kind     kind
	sync     uint8 // of a write: 1 data are made durable with it, 2 attributes too
	now      volume.Time
	keep     bool
	appends  bool   // a write that was an append
	sum      uint64 // of a write's data, in the log only: whether it was applied
	cred     volume.Cred
	request  volume.Request
	id, old  volume.ID
	dir      volume.ID
	name     string
	dir2     volume.ID
	name2    string
	node     volume.Node
	set      volume.Change
	value    []byte
	flags    uint32
	off, len int64
	ptr      volume.Pointer
	key      volume.Key
	copy     volume.Copy

	data []byte // of a write, or of what is made; len bytes, or none at an arbiter. Not part of the encoding
}

// Limits of what is decoded, bytes.
const (
	nameMax  = volume.XattrNameMax
	valueMax = volume.JournalRecordMax
)

// version is that of a change's encoding. Version 2 has attributes set by a write, files made with contents and attributes, and
// volume.SetMinimalACL: a member that knows version 1 alone would do without them, so it must refuse.
func (c *change) version() uint8 {
	switch {
	case c.kind == doWrite && c.set.Mask != 0, c.bears(), c.set.Mask&volume.SetMinimalACL != 0:
		return 2
	}
	return 1
}

// bears reports whether the change makes a file with something in it.
func (c *change) bears() bool { return c.kind == doMake && (c.len != 0 || c.set.Mask != 0) }

// hasContents reports whether the change has contents, which an arbiter does without.
func (c *change) hasContents() bool { return c.kind == doWrite || c.kind == doMake && c.len != 0 }

// born is what a doMake makes.
func (c *change) born() volume.Node {
	n := c.node
	n.Data, n.Then = c.data, c.set
	return n
}

const changeVersionMax = 2

// The fields' bits, in their order.
const (
	hasSync = 1 << iota
	hasNow
	hasKeep
	hasAppends
	hasSum
	hasCred
	hasRequest
	hasID
	hasOld
	hasDir
	hasName
	hasDir2
	hasName2
	hasNode
	hasSet
	hasValue
	hasFlags
	hasOff
	hasLen
	hasPtr
	hasKey
	hasCopy
	hasAll = 1<<iota - 1
)

func (c *change) fields() (m uint32) {
	add := func(bit uint32, there bool) {
		if there {
			m |= bit
		}
	}
	add(hasSync, c.sync != 0)
	add(hasNow, c.now != volume.Time{})
	add(hasKeep, c.keep)
	add(hasAppends, c.appends)
	add(hasSum, c.sum != 0)
	add(hasCred, c.cred != volume.Cred{})
	add(hasRequest, c.request != volume.Request{})
	add(hasID, !c.id.IsZero())
	add(hasOld, !c.old.IsZero())
	add(hasDir, !c.dir.IsZero())
	add(hasName, c.name != "")
	add(hasDir2, !c.dir2.IsZero())
	add(hasName2, c.name2 != "")
	add(hasNode, c.node.Mode != 0)
	add(hasSet, c.set.Mask != 0)
	add(hasValue, len(c.value) > 0)
	add(hasFlags, c.flags != 0)
	add(hasOff, c.off != 0)
	add(hasLen, c.len != 0)
	add(hasPtr, c.ptr != volume.Pointer{})
	add(hasKey, c.key != volume.Key{})
	add(hasCopy, c.kind == doMakeCopy || c.kind == doRefreshCopy)
	return m
}

// append encodes the change.
func (c *change) append(b []byte) []byte {
	m := c.fields()
	w := writer{append(b, c.version(), byte(c.kind))}
	w.u32(m)
	has := func(bit uint32) bool { return m&bit != 0 }
	if has(hasSync) {
		w.u8(c.sync)
	}
	if has(hasNow) {
		w.time(c.now)
	}
	if has(hasSum) {
		w.u64(c.sum)
	}
	if has(hasCred) {
		w.u32(c.cred.UID)
		w.u32(c.cred.GID)
		w.u32(c.cred.Umask)
		w.u32(c.cred.PID)
	}
	if has(hasRequest) {
		w.request(c.request)
	}
	if has(hasID) {
		w.id(c.id)
	}
	if has(hasOld) {
		w.id(c.old)
	}
	if has(hasDir) {
		w.id(c.dir)
	}
	if has(hasName) {
		w.text(c.name)
	}
	if has(hasDir2) {
		w.id(c.dir2)
	}
	if has(hasName2) {
		w.text(c.name2)
	}
	if has(hasNode) {
		w.node(&c.node)
	}
	if has(hasSet) {
		w.attrChange(&c.set)
	}
	if has(hasValue) {
		w.bytes(c.value)
	}
	if has(hasFlags) {
		w.u32(c.flags)
	}
	if has(hasOff) {
		w.u64(uint64(c.off))
	}
	if has(hasLen) {
		w.u64(uint64(c.len))
	}
	if has(hasPtr) {
		w.pointer(c.ptr)
	}
	if has(hasKey) {
		w.key(c.key)
	}
	if has(hasCopy) {
		w.copy(&c.copy)
	}
	return w.b
}

// parse decodes a change; slices alias b.
func (c *change) parse(r *reader) error {
	version := r.u8()
	c.kind = kind(r.u8())
	m := r.u32()
	if r.bad || version == 0 || version > changeVersionMax || c.kind == 0 || c.kind >= kinds || m&^hasAll != 0 {
		return malformed("change")
	}
	has := func(bit uint32) bool { return m&bit != 0 }
	if has(hasSync) {
		c.sync = r.u8()
	}
	if has(hasNow) {
		c.now = r.time()
	}
	c.keep, c.appends = has(hasKeep), has(hasAppends)
	if has(hasSum) {
		c.sum = r.u64()
	}
	if has(hasCred) {
		c.cred = volume.Cred{UID: r.u32(), GID: r.u32(), Umask: r.u32(), PID: r.u32()}
	}
	if has(hasRequest) {
		c.request = r.request()
	}
	if has(hasID) {
		c.id = r.id()
	}
	if has(hasOld) {
		c.old = r.id()
	}
	if has(hasDir) {
		c.dir = r.id()
	}
	if has(hasName) {
		c.name = r.text(nameMax)
	}
	if has(hasDir2) {
		c.dir2 = r.id()
	}
	if has(hasName2) {
		c.name2 = r.text(nameMax)
	}
	if has(hasNode) {
		c.node = r.node()
	}
	if has(hasSet) {
		c.set = r.attrChange()
	}
	if has(hasValue) {
		c.value = r.bytes(valueMax)
	}
	if has(hasFlags) {
		c.flags = r.u32()
	}
	if has(hasOff) {
		c.off = int64(r.u64())
	}
	if has(hasLen) {
		c.len = int64(r.u64())
	}
	if has(hasPtr) {
		c.ptr = r.pointer()
	}
	if has(hasKey) {
		c.key = r.key()
	}
	if has(hasCopy) {
		c.copy = r.copy()
	}
	if r.bad || c.off < 0 || c.len < 0 || version < c.version() {
		return malformed("change")
	}
	return nil
}

func malformed(what string) error {
	return volume.Errorf("member", "", syscall.EPROTO, "malformed %s", what)
}

// fixed returns the context in which the change is applied, at every member.
func (c *change) fixed(ctx context.Context) context.Context {
	ctx = volume.WithFixed(ctx, volume.Fixed{Now: c.now, Keep: c.keep})
	if c.cred != (volume.Cred{}) {
		ctx = volume.WithCred(ctx, c.cred)
	}
	return ctx
}

// touches returns the keys in which members differ of which some have applied
// the change, and some have not. Of what is no object or name, there are none.
func (c *change) touches() []Key {
	keys := c.allTouched()
	return slices.DeleteFunc(keys, func(k Key) bool { return !k.Valid() })
}

func (c *change) allTouched() []Key {
	entry := func(dir volume.ID, name string) Key { return Key{Kind: EntryKey, ID: dir, Name: name} }
	object := func(id volume.ID) Key { return Key{Kind: ObjectKey, ID: id} }
	switch c.kind {
	case doSetattr:
		if c.set.Mask&volume.SetSize != 0 {
			return []Key{object(c.id), {Kind: ExtentKey, ID: c.id, Off: c.set.Size}}
		}
		return []Key{object(c.id)}
	case doMake:
		if c.len != 0 {
			return []Key{entry(c.dir, c.name), object(c.node.ID), {Kind: ExtentKey, ID: c.node.ID, Len: c.len}}
		}
		return []Key{entry(c.dir, c.name), object(c.node.ID)}
	case doRestore: // perhaps under another name
		return []Key{entry(c.dir, ""), object(c.id)}
	case doLink, doUnlink, doRmdir:
		return []Key{entry(c.dir, c.name), object(c.id)}
	case doRename:
		return []Key{entry(c.dir, c.name), entry(c.dir2, c.name2), object(c.id), object(c.old)}
	case doSetxattr, doRemovexattr, doRelease, doRefreshCopy:
		return []Key{object(c.id)}
	case doWrite:
		return []Key{object(c.id), {Kind: ExtentKey, ID: c.id, Off: c.off, Len: c.len}}
	case doAllocate:
		if c.flags&(volume.AllocCollapseRange|volume.AllocInsertRange) != 0 {
			return []Key{object(c.id), {Kind: ExtentKey, ID: c.id, Off: c.off}}
		}
		return []Key{object(c.id), {Kind: ExtentKey, ID: c.id, Off: c.off, Len: c.len}}
	case doMakeCopy:
		return []Key{entry(c.dir, c.name), object(c.copy.ID)}
	case doPut, doDiscard:
		return []Key{entry(c.dir, c.name), object(c.id), object(c.ptr.ID), object(c.old)}
	case doPurge:
		return []Key{object(c.id)}
	case doJournal, doJournalRewrite:
		return []Key{{Kind: JournalKey}}
	}
	return nil
}

// dirties returns the keys that stand in the dirty list for a change, coarser than
// those of touches, so that many changes share them: a directory for its entries, a
// file as a whole.
func (c *change) dirties() []Key {
	var keys []Key
	for _, k := range c.touches() {
		switch {
		case k.Kind == EntryKey:
			k.Name = ""
		case k.Kind == ExtentKey:
			k.Off, k.Len = 0, 0
		case k.Kind == ObjectKey && c.kind != doSetattr && c.kind != doSetxattr && c.kind != doRemovexattr && c.kind != doRefreshCopy && c.kind != doWrite && c.kind != doAllocate:
			continue // only its names change
		}
		keys = append(keys, k)
	}
	return keys
}

// numbered reports whether the change changes something.
func (k kind) numbered() bool { return k < doSync }

func (c *change) String() string {
	return fmt.Sprintf("%s %s %s/%q", c.kind, c.id, c.dir, c.name)
}

// records encodes a journal's records, to go beside a change.
func packRecords(recs [][]byte) []byte {
	var b []byte
	for _, r := range recs {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(r)))
		b = append(b, r...)
	}
	return b
}

func unpackRecords(b []byte) ([][]byte, error) {
	var recs [][]byte
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, malformed("journal")
		}
		n := binary.LittleEndian.Uint32(b)
		if n > volume.JournalRecordMax || int(n) > len(b)-4 {
			return nil, malformed("journal")
		}
		recs = append(recs, b[4:4+n])
		b = b[4+n:]
	}
	return recs, nil
}
