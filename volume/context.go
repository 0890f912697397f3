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
	credKey   struct{}
	layoutKey struct{}
)

// WithCred returns a context that carries c.
func WithCred(ctx context.Context, c Cred) context.Context {
	return context.WithValue(ctx, credKey{}, c)
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
	return context.WithValue(ctx, layoutKey{}, v)
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
	// Dir are the attributes of the directory in which Create, Make, Link or
	// Unlink changed a name, as Getattr would have given them right after; its
	// ID is zero if they were not told.
	Dir Attr
}

type besideKey struct{}

// WithBeside returns a context that carries b.
func WithBeside(ctx context.Context, b *Beside) context.Context {
	return context.WithValue(ctx, besideKey{}, b)
}

// BesideOf returns the context's Beside, nil if it has none.
func BesideOf(ctx context.Context) *Beside {
	b, _ := ctx.Value(besideKey{}).(*Beside)
	return b
}
