package volume

import "context"

// Cred says who asks: whom new objects belong to, and the umask for them
// (see Node). Of a caller with several groups GID is the one that matters: the
// object's, if that is among them. Without one in the context it is root's with umask 0.
type Cred struct {
	UID, GID uint32
	Umask    uint32
	PID      uint32 // for logs and locks; 0: not known
}

type (
	credKey    struct{}
	layoutKey  struct{}
	requestKey struct{}
	fixedKey   struct{}
	dateKey    struct{}
)

// valued is a context that carries one value more. It hands on AfterFunc, which package context's own does not: that looks
// for the method on the very context that something is derived from, and starts a goroutine, for each, if it has none
// (a front end's context has it, see package fuse).
type valued struct {
	context.Context
	key, value any
}

func with(ctx context.Context, key, value any) context.Context { return &valued{ctx, key, value} }

// Value is context.Context's.
func (v *valued) Value(key any) any {
	if key == v.key {
		return v.value
	}
	return v.Context.Value(key)
}

// AfterFunc runs f on a goroutine of its own when the context is done.
func (v *valued) AfterFunc(f func()) (stop func() bool) {
	if c, ok := v.Context.(interface {
		AfterFunc(func()) (stop func() bool)
	}); ok {
		return c.AfterFunc(f)
	}
	return context.AfterFunc(v.Context, f)
}

// WithCred returns a context that carries c.
func WithCred(ctx context.Context, c Cred) context.Context {
	return with(ctx, credKey{}, c)
}

// CredOf returns the context's Cred, the zero Cred if it has none.
func CredOf(ctx context.Context) Cred {
	switch c := ctx.Value(credKey{}).(type) {
	case Cred:
		return c
	case *Cred:
		return *c
	}
	return Cred{}
}

// IsCredKey reports whether key is the one under which CredOf looks. A front
// end that has a context type of its own answers it in its Value method with a
// Cred or a *Cred that never changes, and is spared a WithCred on each request.
func IsCredKey(key any) bool {
	_, ok := key.(credKey)
	return ok
}

// WithLayout returns a context whose requests are stamped with v: their target
// was chosen by that layout.
func WithLayout(ctx context.Context, v LayoutVersion) context.Context {
	return with(ctx, layoutKey{}, v)
}

// LayoutOf returns the context's stamp, 0 if it has none.
func LayoutOf(ctx context.Context) LayoutVersion {
	v, _ := ctx.Value(layoutKey{}).(LayoutVersion)
	return v
}

// Beside is what an implementation may tell beside a call's result, because it
// knows it anyway and the caller would ask next. A caller that wants it puts one into the
// context and looks at it when the call has succeeded.
type Beside struct {
	// Dir are the attributes of the directory in which Create, Make, Link, Unlink or
	// Rmdir changed a name, as Getattr would have given them right after; its
	// ID is zero if they were not told.
	Dir Attr

	// File are those of the file that Open opened for reading, likewise.
	File Attr
}

type besideKey struct{}

// WithBeside returns a context that carries b.
func WithBeside(ctx context.Context, b *Beside) context.Context {
	return with(ctx, besideKey{}, b)
}

// IsBesideKey reports whether a context is asked for its Beside, for types that are contexts themselves: Value then returns a *Beside.
func IsBesideKey(key any) bool {
	_, ok := key.(besideKey)
	return ok
}

// BesideOf returns the context's Beside, nil if it has none.
func BesideOf(ctx context.Context) *Beside {
	b, _ := ctx.Value(besideKey{}).(*Beside)
	return b
}

// A Request names a client's request over all its repetitions: the client's
// session and a number that it never gives twice. It travels to where the
// request takes effect, so that what took effect can be told from what did not
// after the brick that executed it has gone. The zero Request names none.
type Request struct {
	Session [16]byte
	Number  uint64
}

// WithRequest returns a context whose operation decides the request r: once its
// change is made, r has been executed. Who makes several changes for one request gives
// it only to the one that decides, and hides it from the others (WithRequest
// with the zero Request).
func WithRequest(ctx context.Context, r Request) context.Context {
	return with(ctx, requestKey{}, r)
}

// RequestOf returns the context's Request, the zero Request if it has none.
func RequestOf(ctx context.Context) Request {
	switch r := ctx.Value(requestKey{}).(type) {
	case Request:
		return r
	case *Request:
		return *r
	}
	return Request{}
}

// IsRequestKey reports whether key is the one under which RequestOf looks, for
// context types that answer it by themselves with a Request or a *Request that
// never changes.
func IsRequestKey(key any) bool {
	_, ok := key.(requestKey)
	return ok
}

// Fixed is what the primary of a set has decided of an operation that every
// member applies, so that all come to the same result.
type Fixed struct {
	// Now is what the operation takes for the present: the mtime of the file it
	// writes, of the object it makes and of the directories that it changes
	// (of none an earlier one than it got so before, unless by more than a minute, as when a
	// clock was set back), SetMtimeNow, SetAtimeNow. A ctime is always the member's own.
	Now Time
	// Keep says that an object which loses its last name is open at the
	// primary: it is kept, as if it were open here, until Release. In Open: what only a
	// discard keeps can be opened.
	Keep bool
}

// WithFixed returns a context whose operation is applied as f says.
func WithFixed(ctx context.Context, f Fixed) context.Context {
	return with(ctx, fixedKey{}, f)
}

// A Dater is a Store that dates changes itself, and can make one later as of when it was answered for.
type Dater interface {
	// Present returns the time of a change that is made now, later than that of any made before; ok is false if
	// changes are not dated here.
	Present() (now Time, ok bool)
}

// PresentOf returns what s dates a change with that is made now, if it is a Dater.
func PresentOf(s any) (now Time, ok bool) {
	if d, is := s.(Dater); is {
		return d.Present()
	}
	return now, false
}

// WithDate returns a context whose change is dated as a Dater has said before (Fixed.Now), not with the time when it is made.
func WithDate(ctx context.Context, at Time) context.Context { return with(ctx, dateKey{}, at) }

// DateOf returns the context's date, and whether it has one.
func DateOf(ctx context.Context) (at Time, ok bool) {
	at, ok = ctx.Value(dateKey{}).(Time)
	return at, ok
}

// FixedOf returns the context's Fixed, and whether it has one.
func FixedOf(ctx context.Context) (Fixed, bool) {
	f, ok := ctx.Value(fixedKey{}).(Fixed)
	return f, ok
}
