package dht

import (
	"context"
	"math"

	"github.com/mortarfs/mortar/volume"
)

// explicitTimes are those that a caller names: a set that has its own, later, would prevail.
const explicitTimes = volume.SetAtime | volume.SetMtime

// untouched is when the names of a copy have changed of which none has: the copy says nothing of the directory's times,
// whenever it was made. It is the earliest that all file systems can store.
var untouched = volume.Time{Sec: math.MinInt32}

// tellTimes tells the other sets the times that a change gives to a directory with its home here. They hear of them
// before the home has them: with that the request is executed, and nobody sends it again if this process ends then. It waits, as
// long as its caller does, for a set of which another member takes over, and fails if that does not come about. A set of
// one brick that is down it does without; that one's own, later, times show again when it is back.
func (o *Owner) tellTimes(ctx context.Context, v *view, id volume.ID, c volume.Change) error {
	if v.single || c.Mask&explicitTimes == 0 {
		return nil
	}
	ctx, cancel := bounded(quiet(ctx))
	defer cancel()
	a, err := o.store.Getattr(ctx, id)
	if err != nil || !a.IsDir() {
		return err
	}
	now, err := o.store.Copy(ctx, id)
	if err != nil {
		return err
	}
	now.Home = o.self
	c.Mask &= explicitTimes
	return first(each(o.others(v), func(set volume.SetID) error {
		for {
			if !v.several(set) && !v.up(set) {
				return nil
			}
			_, err := o.tell(ctx, v, set, &step{op: opRefresh, copy: &now, change: &c})
			if !isUnsure(err) {
				return err
			}
			if !v.several(set) {
				o.log.Debug("the times of a directory are not those of its copy", "dir", id, "set", set, "err", err)
				return nil
			}
			if !waited(ctx, lookAgain) {
				return err
			}
		}
	}))
}

// withCopies puts a directory's times together from what its home and those of
// its copies say that answered, for each set knows when its own names changed.
//
//   - A change of names sets both times of a part to the same present. A copy's
//     ctime is also that of its making and refreshing, which are no changes of
//     the directory, so of a copy only the mtime counts for either.
//   - utimensat(2) is told to every part. A part whose mtime lies after its
//     ctime has it from there, and no name has changed on it since. So it gives
//     way to a part whose mtime came about by itself. (A copy that was away
//     when it should have been told is taken for changed: the price is a time
//     from before for one that has not come yet. home's ctime would not tell
//     the two apart, for it counts subdirectories, wherever their names are.)
//   - A copy in which no name has changed says nothing (untouched). If nobody says more, for
//     the home is away, the times are those of when the copy that is asked was made.
func withCopies(home volume.Attr, copies []volume.Attr) volume.Attr {
	told := func(a volume.Attr) bool { return a.Ctime.Before(a.Mtime) }
	a, ahead := home, told(home)
	for _, b := range copies {
		a.Atime = later(a.Atime, b.Atime)
		if told(b) {
			continue
		}
		a.Ctime = later(a.Ctime, b.Mtime)
		if ahead {
			a.Mtime, ahead = b.Mtime, false
		} else {
			a.Mtime = later(a.Mtime, b.Mtime)
		}
	}
	if a.Mtime == untouched {
		a.Mtime = a.Ctime
	}
	if a.Atime == untouched {
		a.Atime = a.Mtime
	}
	return a
}

func later(a, b volume.Time) volume.Time {
	if a.Before(b) {
		return b
	}
	return a
}
