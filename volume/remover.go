package volume

import "context"

// Removal is one of many names that are removed.
type Removal struct {
	Of   context.Context // whose values are the Unlink's; it bounds nothing
	Dir  ID
	Name string
	Err  error // how it ended
}

// Unlink removes the name by itself.
func (r *Removal) Unlink(ctx context.Context, s FS) {
	if r.Err = ctx.Err(); r.Err == nil {
		r.Err = s.Unlink(bounded{ctx, r.Of}, r.Dir, r.Name)
	}
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
	// UnlinkAll is Unlink of each, in any order; they fail or succeed by themselves. ctx bounds them all.
	UnlinkAll(ctx context.Context, all []Removal)
}

// UnlinkAll has s remove names, one after the other if it is no Remover.
func UnlinkAll(ctx context.Context, s FS, all []Removal) {
	if r, ok := s.(Remover); ok && len(all) > 1 {
		r.UnlinkAll(ctx, all)
		return
	}
	for i := range all {
		all[i].Unlink(ctx, s)
	}
}
