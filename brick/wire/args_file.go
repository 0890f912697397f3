package wire

import "github.com/mortarfs/mortar/volume"

// HandleArgs is of OpFileGetattr and OpFlush.
type HandleArgs struct{ Handle uint64 }

// Append encodes a.
func (a *HandleArgs) Append(b []byte) []byte { return appendU64(b, a.Handle) }

// Parse decodes into a.
func (a *HandleArgs) Parse(r *Reader) bool {
	a.Handle = r.U64()
	return r.Done()
}

// ReadArgs is of OpRead.
type ReadArgs struct {
	Handle uint64
	Off    int64
	Len    uint32 // 0 … volume.IOMax
}

// Append encodes a.
func (a *ReadArgs) Append(b []byte) []byte {
	return appendU32(appendU64(appendU64(b, a.Handle), uint64(a.Off)), a.Len)
}

// Parse decodes into a.
func (a *ReadArgs) Parse(r *Reader) bool {
	a.Handle, a.Off, a.Len = r.U64(), r.I64(), r.U32()
	if a.Len > volume.IOMax {
		r.fail()
	}
	return r.Done()
}

// WriteArgs is of OpWrite, and, Off being 0, of OpAppend. The data follow it:
// the rest of the frame.
type WriteArgs struct {
	Handle uint64
	Off    int64
	Flags  volume.WriteFlags
}

// Append encodes a.
func (a *WriteArgs) Append(b []byte) []byte {
	return appendU32(appendU64(appendU64(b, a.Handle), uint64(a.Off)), uint32(a.Flags))
}

// Parse decodes into a and returns the data that are in the frame.
func (a *WriteArgs) Parse(r *Reader) (data []byte, ok bool) {
	a.read(r)
	data = r.Rest(volume.IOMax)
	return data, r.Done()
}

func (a *WriteArgs) read(r *Reader) {
	a.Handle, a.Off, a.Flags = r.U64(), r.I64(), volume.WriteFlags(r.U32())
}

// WriteSetArgs is of OpWriteSet. The data follow it: the rest of the frame.
type WriteSetArgs struct {
	WriteArgs
	Change volume.Change
}

// Append encodes a.
func (a *WriteSetArgs) Append(b []byte) []byte { return appendChange(a.WriteArgs.Append(b), a.Change) }

// Parse decodes into a and returns the data that are in the frame.
func (a *WriteSetArgs) Parse(r *Reader) (data []byte, ok bool) {
	a.read(r)
	a.Change = r.change()
	data = r.Rest(volume.IOMax)
	return data, r.Done()
}

// PeerArgs is of OpPeer. The data follow it: the rest of the frame. The result is
// the rest of the reply.
type PeerArgs struct{ Message []byte }

// Append encodes a.
func (a *PeerArgs) Append(b []byte) []byte { return appendValue(b, a.Message) }

// Parse decodes into a and returns the data that are in the frame.
func (a *PeerArgs) Parse(r *Reader) (data []byte, ok bool) {
	a.Message = r.Value(PeerMessageMax)
	data = r.Rest(volume.IOMax)
	return data, r.Done()
}

// FileSetattrArgs is of OpFileSetattr.
type FileSetattrArgs struct {
	Handle uint64
	Change volume.Change
}

// Append encodes a.
func (a *FileSetattrArgs) Append(b []byte) []byte {
	return appendChange(appendU64(b, a.Handle), a.Change)
}

// Parse decodes into a.
func (a *FileSetattrArgs) Parse(r *Reader) bool {
	a.Handle, a.Change = r.U64(), r.change()
	return r.Done()
}

// AllocateArgs is of OpAllocate.
type AllocateArgs struct {
	Handle   uint64
	Mode     uint32
	Off, Len int64
}

// Append encodes a.
func (a *AllocateArgs) Append(b []byte) []byte {
	b = appendU32(appendU64(b, a.Handle), a.Mode)
	return appendU64(appendU64(b, uint64(a.Off)), uint64(a.Len))
}

// Parse decodes into a.
func (a *AllocateArgs) Parse(r *Reader) bool {
	a.Handle, a.Mode, a.Off, a.Len = r.U64(), r.U32(), r.I64(), r.I64()
	return r.Done()
}

// CopyArgs is of OpCopy: of the file Source, from From on, to Off of the file Handle.
type CopyArgs struct {
	Handle, Source uint64
	From, Off      int64
	Len            int64 // 1 … volume.CopyMax
	Flags          volume.WriteFlags
}

// Append encodes a.
func (a *CopyArgs) Append(b []byte) []byte {
	b = appendU64(appendU64(b, a.Handle), a.Source)
	b = appendU64(appendU64(appendU64(b, uint64(a.From)), uint64(a.Off)), uint64(a.Len))
	return appendU32(b, uint32(a.Flags))
}

// Parse decodes into a.
func (a *CopyArgs) Parse(r *Reader) bool {
	a.Handle, a.Source = r.U64(), r.U64()
	a.From, a.Off, a.Len = r.I64(), r.I64(), r.I64()
	a.Flags = volume.WriteFlags(r.U32())
	return r.Done()
}

// SeekArgs is of OpSeek.
type SeekArgs struct {
	Handle uint64
	Off    int64
	Whence uint32
}

// Append encodes a.
func (a *SeekArgs) Append(b []byte) []byte {
	return appendU32(appendU64(appendU64(b, a.Handle), uint64(a.Off)), a.Whence)
}

// Parse decodes into a.
func (a *SeekArgs) Parse(r *Reader) bool {
	a.Handle, a.Off, a.Whence = r.U64(), r.I64(), r.U32()
	return r.Done()
}

// FileSyncArgs is of OpFileSync.
type FileSyncArgs struct {
	Handle   uint64
	DataOnly bool
}

// Append encodes a.
func (a *FileSyncArgs) Append(b []byte) []byte { return appendBool(appendU64(b, a.Handle), a.DataOnly) }

// Parse decodes into a.
func (a *FileSyncArgs) Parse(r *Reader) bool {
	a.Handle, a.DataOnly = r.U64(), r.Bool()
	return r.Done()
}
