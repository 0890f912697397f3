package dht

import "github.com/mortarfs/mortar/volume"

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
	return a
}

func later(a, b volume.Time) volume.Time {
	if a.Before(b) {
		return b
	}
	return a
}
