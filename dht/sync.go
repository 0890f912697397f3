package dht

import (
	"context"
	"sync"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// settleMarks makes durable what id needs on other sets. A set that can't be
// asked is an error: what the caller is about to promise is not so.
func (o *Owner) settleMarks(ctx context.Context, id volume.ID) error {
	list, seq := o.marks.needs(id)
	return o.settleNeeds(ctx, list, seq)
}

// settleNeeds has the sets make durable what is needed there, each all of its
// needs in one step. A set that needs a zero directory, or very many, settles.
func (o *Owner) settleNeeds(ctx context.Context, list []need, seq uint64) error {
	if len(list) == 0 {
		return nil
	}
	// This set's part in it must be known as ended, or it would be undone.
	if err := o.store.Journal().Sync(ctx); err != nil {
		return err
	}
	v := o.view.Load()
	wants := map[volume.SetID]*step{}
	var sets []volume.SetID
	for _, n := range list {
		s := wants[n.set]
		switch {
		case !v.has(n.set):
			continue
		case n.set == o.self: // what it needs is an intent's decision, which the journal has
			o.marks.done(n, seq)
			continue
		case s == nil:
			s = &step{op: opSync}
			wants[n.set] = s
			sets = append(sets, n.set)
		}
		if s.op == opSync && (n.dir.IsZero() || len(s.dirs) == needsMax) {
			*s = step{op: opSettle}
		}
		if s.op == opSync {
			s.dirs = append(s.dirs, n.dir)
		}
	}
	return first(each(sets, func(set volume.SetID) error {
		s := wants[set]
		_, err := o.tell(ctx, v, set, s)
		if err != nil {
			return err
		}
		if s.op == opSettle {
			o.marks.done(need{set: set}, seq)
		}
		for _, dir := range s.dirs {
			o.marks.done(need{set, dir}, seq)
		}
		return nil
	}))
}

// syncDirs makes directories durable here, with what it takes to find them and
// what lies in them again. The journal comes first: what is in the tree must
// not be taken for undecided after a loss of power.
func (o *Owner) syncDirs(ctx context.Context, dirs []volume.ID) error {
	if err := o.store.Journal().Sync(ctx); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := o.syncPath(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

// syncPath makes a directory durable and the way to it from the root. One that
// is not here any more needs nothing.
//
// It calls for an fsync(2) of the directory and of each one above it whose own
// child on the way was not known to be durable there. That is enough on all
// three file systems, by what each promises of fsync on a directory:
//
//   - ext4 and XFS write the journal up to the last change of that directory's
//     inode. Its entries change in the same transaction as the inode does, and
//     what its entries lead to was made in that one or an earlier one; earlier
//     ones are written first. The directory's own entry in its parent is in the
//     transaction that made it, hence there too. It is not relied upon, for later
//     changes above are in other transactions: the parent has its own fsync.
//   - Btrfs writes the directory's inode, its entries and the inodes that are new
//     in it to a log of their own, which a replay joins to the last commit;
//     entries elsewhere in the tree are not part of it. So each directory above
//     needs its own fsync, and so does the directory of the brick's index in
//     which the new one has its place, which the store's Sync sees to.
//
// All three make a rename durable as a whole: if one of its two directories is
// synced, the object is not lost from both.
func (o *Owner) syncPath(ctx context.Context, dir volume.ID) error {
	turn := o.firm.turn()
	if err := o.store.Sync(ctx, dir); err != nil {
		return ignoreStale(err)
	}
	var fresh []volume.ID
	for range depthMax {
		if dir == volume.Root {
			o.firm.add(turn, fresh)
			return nil
		}
		parent, _, err := o.store.Path(ctx, dir)
		if err != nil {
			return ignoreStale(err)
		}
		if !o.firm.has(dir) {
			if err := o.store.Sync(ctx, parent); err != nil {
				return ignoreStale(err)
			}
			fresh = append(fresh, dir)
		}
		dir = parent
	}
	return fail("fsync", dir.String(), syscall.ELOOP)
}

func ignoreStale(err error) error {
	if isStale(err) {
		return nil
	}
	return err
}

// firm remembers directories whose entry in their parent is durable. It forgets
// all when one of them moves.
type firm struct {
	mu struct {
		sync.Mutex
		moving int    // moves that are under way: nothing is known
		turn   uint64 // counts moves, at their beginning
		dirs   map[volume.ID]struct{}
	}
}

// firmMax bounds the directories remembered.
const firmMax = 1 << 14

// turn is to be handed to add with what was synced after it.
func (f *firm) turn() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.turn
}

func (f *firm) has(dir volume.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, known := f.mu.dirs[dir]
	return known
}

func (f *firm) add(turn uint64, dirs []volume.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.turn != turn || f.mu.moving > 0 || len(dirs) == 0 {
		return
	}
	if f.mu.dirs == nil || len(f.mu.dirs)+len(dirs) > firmMax {
		f.mu.dirs = map[volume.ID]struct{}{}
	}
	for _, dir := range dirs {
		f.mu.dirs[dir] = struct{}{}
	}
}

// moves brackets a move of a directory.
func (f *firm) moves() (moved func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.moving++
	f.mu.turn++
	f.mu.dirs = nil
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.mu.moving--
	}
}

// moveDir renames a directory's copy here.
func (o *Owner) moveDir(ctx context.Context, from, to nameKey, f volume.RenameFlags) error {
	defer o.firm.moves()()
	return o.store.Rename(ctx, from.dir, from.name, to.dir, to.name, f)
}

// ownedFile is a store's file that settles what it needs elsewhere before it is made durable.
type ownedFile struct {
	volume.File
	o *Owner
}

// settle makes durable on other sets what the file needs there.
func (f *ownedFile) settle(ctx context.Context) error {
	if !f.o.marks.some.Load() {
		return nil
	}
	return f.o.settleMarks(ctx, f.ID())
}

// settleFor settles if a write with these flags is to be durable.
func (f *ownedFile) settleFor(ctx context.Context, flags volume.WriteFlags) error {
	if flags&volume.WriteSynced == 0 {
		return nil
	}
	return f.settle(ctx)
}

// Sync implements volume.File.
func (f *ownedFile) Sync(ctx context.Context, dataOnly bool) error {
	if err := f.settle(ctx); err != nil {
		return err
	}
	return f.File.Sync(ctx, dataOnly)
}

// WriteAt implements volume.File.
func (f *ownedFile) WriteAt(ctx context.Context, p []byte, off int64, flags volume.WriteFlags) (int, error) {
	if err := f.settleFor(ctx, flags); err != nil {
		return 0, err
	}
	return f.File.WriteAt(ctx, p, off, flags)
}

// WriteSet implements volume.File.
func (f *ownedFile) WriteSet(ctx context.Context, p []byte, off int64, flags volume.WriteFlags, c volume.Change) (int, error) {
	if err := f.settleFor(ctx, flags); err != nil {
		return 0, err
	}
	return f.File.WriteSet(ctx, p, off, flags, c)
}

// Append implements volume.File.
func (f *ownedFile) Append(ctx context.Context, p []byte, flags volume.WriteFlags) (int64, error) {
	if err := f.settleFor(ctx, flags); err != nil {
		return 0, err
	}
	return f.File.Append(ctx, p, flags)
}

// CopyFrom implements volume.Copier: within this set.
func (f *ownedFile) CopyFrom(ctx context.Context, src volume.File, from, off, n int64, flags volume.WriteFlags) (int64, error) {
	s, ok := src.(*ownedFile)
	if !ok || s.o != f.o {
		return 0, volume.Apart(f)
	}
	if err := f.settleFor(ctx, flags); err != nil {
		return 0, err
	}
	return volume.CopyFrom(ctx, f.File, s.File, from, off, n, flags)
}

// Unwrap returns the store's file.
func (f *ownedFile) Unwrap() volume.File { return f.File }
