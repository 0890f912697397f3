package volume

import "context"

// Removal is one of many names that are removed.
type Removal struct {
	Of     context.Context // whose values are the Unlink's or Rmdir's; it bounds nothing
	Dir    ID
	Name   string
	Object ID                  // of a directory that is to be removed; zero: the name leads to no directory
	Around func(remove func()) // if not nil, calls remove, which removes the name where it goes first, and knows so when that is
	Err    error               // how it ended
}

// Remove removes the name by itself.
func (r *Removal) Remove(ctx context.Context, s FS) {
	if r.Err = ctx.Err(); r.Err != nil {
		return
	}
	remove := s.Unlink
	if !r.Object.IsZero() {
		remove = s.Rmdir
	}
	r.Here(func() { r.Err = remove(bounded{ctx, r.Of}, r.Dir, r.Name) })
}

// Here calls remove, by way of Around.
func (r *Removal) Here(remove func()) {
	if r.Around == nil {
		remove()
		return
	}
	r.Around(remove)
}

// bounded is a context with the values of another.
type bounded struct {
	context.Context
	values context.Context
}

// Value is context.Context's.
func (b bounded) Value(key any) any { return b.values.Value(key) }

// A Remover is a Store that removes many names at less than the cost of each.
type Remover interface {
	// RemoveAll is Unlink of each, or Rmdir; they fail or succeed by themselves. A directory comes after what stands before it and is in it,
	// the others in any order. ctx bounds them all.
	RemoveAll(ctx context.Context, all []Removal)

	// Empty is the Store's.
	Empty(ctx context.Context, dir ID, but func(name string) bool) (bool, error)
}

// RemoveAll has s remove names, one after the other if it is no Remover.
func RemoveAll(ctx context.Context, s FS, all []Removal) {
	if r, ok := s.(Remover); ok && len(all) > 1 {
		r.RemoveAll(ctx, all)
		return
	}
	for i := range all {
		all[i].Remove(ctx, s)
	}
}
