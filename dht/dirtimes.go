package dht

import "github.com/mortarfs/mortar/volume"

// withCopies puts a directory's times together from what its home and those of
// its copies say that answered, for each set knows when its own names changed.
//
//   - A change of names sets both times of a part to the same present. A copy's
//     ctime is also that of its making and refreshing, which are no changes of
//     the directory, so of a copy only the mtime counts for either.
//   - utimensat(2) is told to every part. A part whose mtime lies after its
//     ctime has it from there, and no name has changed on it since. If that is
//     a copy, home knows as much or more. If it is home, what has changed on a
//     copy after home's ctime is newer, though it be the earlier time.
func withCopies(home volume.Attr, copies []volume.Attr) volume.Attr {
	a, told := home, home.Ctime.Before(home.Mtime)
	for _, b := range copies {
		a.Atime = later(a.Atime, b.Atime)
		if b.Ctime.Before(b.Mtime) {
			continue
		}
		a.Ctime = later(a.Ctime, b.Mtime)
		switch {
		case told && home.Ctime.Before(b.Mtime):
			told, a.Mtime = false, b.Mtime
		case !told:
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
