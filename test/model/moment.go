package model

import "github.com/mortarfs/mortar/volume"

// moment is when an operation takes place: by the clock, and by what the set's
// primary has decided, if it has.
type moment struct {
	volume.Time               // the clock's, which ctimes are
	as          *volume.Fixed // nil: nothing was decided
}

// present is what the operation takes for the present.
func (m moment) present() volume.Time {
	if m.as != nil {
		return m.as.Now
	}
	return m.Time
}

// lateness bounds by how many seconds one change can be applied later than it
// was decided: who seems later had a clock that was set back.
const lateness = 60

// NewReign implements volume.Member.
func (s *Store) NewReign() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.mu.objects {
		o.at = volume.Time{}
	}
}

// date sets the mtime, unless one was set that was decided later.
func (o *object) date(m moment, mtime volume.Time) {
	if m.as != nil {
		now := m.as.Now
		if now.Before(o.at) && o.at.Sec-now.Sec <= lateness {
			return
		}
		o.at = now
	}
	o.mtime = mtime
}
