package volume

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Reason classes an error beyond its errno, for the layers that can do
// something about it. Applications see the errno only.
type Reason uint8

// The reasons.
const (
	// Plain: the errno says it all.
	Plain Reason = iota
	// Unavailable: the set could not be asked or did not answer in time (EIO).
	Unavailable
	// Outdated: the caller acted on an old layout, or on an old version of a
	// directory's attributes (ESTALE). Nothing was done; refresh and ask again.
	Outdated
	// Unknown: the request may have been executed and its reply is lost for good (EIO).
	Unknown
	// Damaged: what is stored contradicts itself or can't be read (EIO).
	Damaged
	// NotPrimary: this member does not serve its set, now; another one may (EIO).
	NotPrimary
)

func (r Reason) String() string {
	return [...]string{"plain", "unavailable", "outdated", "unknown", "damaged", "not primary"}[min(r, NotPrimary)]
}

// Error is a failed operation.
type Error struct {
	Op     string        // what was asked for: "lookup", "rename" …
	Where  string        // on what, for people: a name, an ID, a brick
	Errno  syscall.Errno // never 0
	Reason Reason
	Err    error // the cause, if there is more to say
}

func (e *Error) Error() string {
	s := e.Op
	if e.Where != "" {
		s += " " + e.Where
	}
	s += ": " + e.Errno.Error()
	if e.Reason != Plain {
		s += " (" + e.Reason.String() + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause, and Is lets errors.Is find the errno.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the error's errno, or what errno stands for (fs.ErrNotExist …).
func (e *Error) Is(target error) bool { return errors.Is(e.Errno, target) || target == error(e.Errno) }

// Errorf returns an Error whose cause is a text.
func Errorf(op, where string, errno syscall.Errno, format string, a ...any) *Error {
	return &Error{Op: op, Where: where, Errno: errno, Err: fmt.Errorf(format, a...)}
}

// ErrnoOf returns the errno that an application should see: 0 for nil, EINTR
// for a cancelled context, ETIMEDOUT for one that ran out, EIO for what has none.
func ErrnoOf(err error) syscall.Errno {
	var e *Error
	var errno syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Errno
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, context.Canceled):
		return syscall.EINTR
	case errors.Is(err, context.DeadlineExceeded):
		return syscall.ETIMEDOUT
	}
	return syscall.EIO
}

// ReasonOf returns the error's reason, Plain where it has none.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return Plain
}
