package volume

import "os"

// Sharer is a File of which somebody else on this machine may be given a descriptor to read its contents by himself.
// A File that stands on another and changes nothing about its reads has Unwrap, see SharerOf.
type Sharer interface {
	// Share returns a descriptor to read by, another one with each call. Errors: EBADF (the handle is not for
	// reading), EOPNOTSUPP (its contents are not in one place), ENFILE (too many are shared), Reason
	// NotPrimary. It is not called any more once Close was, and what it gave must not be used after that.
	Share() (Shared, error)
}

// Shared is a File's contents as Share gives them.
type Shared struct {
	File *os.File // read-only; the caller closes it

	// Window, if not nil, tells when what was read counts: the memory of a Window of package brick/window,
	// whose word Slot is about the object. The caller closes it. Nil: what is read through File is what ReadAt would return.
	Window *os.File
	Slot   uint32
}

// Close closes what there is.
func (s *Shared) Close() {
	if s.File != nil {
		_ = s.File.Close()
	}
	if s.Window != nil {
		_ = s.Window.Close()
	}
}

// SharerOf returns f as a Sharer, or the File that it stands on.
func SharerOf(f File) (s Sharer, ok bool) {
	for {
		if s, ok := f.(Sharer); ok {
			return s, true
		}
		u, ok := f.(interface{ Unwrap() File })
		if !ok {
			return nil, false
		}
		f = u.Unwrap()
	}
}
