package brick

import (
	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
)

// quiet is a change of an object's ctime that nobody asked for: a link of
// Mortar's own was removed, seconds after the rename or unlink that had it made.
// Programs that take a ctime for a sign of change (tar, backups, git) would see
// one that never was. It is kept in memory alone: after a restart of the brick
// the ctime on the disk shows.
type quiet struct {
	after sys.Info    // as the removal left the object
	shown volume.Time // the ctime before
}

// quietMax bounds what one stripe remembers.
const quietMax = 16

// same reports whether nothing has happened to an object but what does not
// count: of two changes within a tick of the clock ctime alone does not tell.
func same(a, b *sys.Info) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Size == b.Size && a.Mtime == b.Mtime && a.Nlink == b.Nlink
}

// hush notes that the removal of a link has made after of before. The lock is
// held, as it is for reading by who changes an extended attribute.
func (s *objectStripe) hush(id volume.ID, before, after sys.Info) {
	shown := s.ctime(id, &before)
	before.Nlink--
	if !same(&before, &after) || after.Nlink == 0 {
		return
	}
	if s.quiet == nil {
		s.quiet = make(map[volume.ID]quiet)
	}
	if len(s.quiet) >= quietMax {
		for id := range s.quiet {
			delete(s.quiet, id) // any one
			break
		}
	}
	s.quiet[id] = quiet{after, shown}
}

// ctime returns the ctime that an object shows; the lock is held for reading.
func (s *objectStripe) ctime(id volume.ID, info *sys.Info) volume.Time {
	if q, ok := s.quiet[id]; ok && info.Ctime == q.after.Ctime && same(info, &q.after) {
		return q.shown
	}
	return info.Ctime
}
