// Package spec says what a volume is made of: the map that clients and bricks
// work by, definitions and their validation, and the table of options. It is
// pure: no I/O, no clocks, no state.
package spec

import "github.com/mortarfs/mortar/volume"

// Map is all that clients and bricks need to know of a volume. The daemons
// publish it; a newer one has a higher Version. It is never changed once
// published: whoever has one may share it.
type Map struct {
	Version  uint64 // ≥ 1
	Volume   string // name
	ID       string // UUID
	Started  bool
	Sets     []Set // in order of ID
	RootHome volume.SetID
	Layouts  []Layout          // newest first; one, or two while a rebalance runs
	Options  map[string]string // those that were set

	// Daemons are the servers' daemons, HOST:PORT, to ask for newer maps. They
	// are no part of the volume: a new list need not come with a new Version.
	Daemons []string `json:",omitempty"`
	// Cluster is the UUID of the cluster that the volume is of: another's daemon
	// knows nothing of it.
	Cluster string `json:",omitempty"`
}

// Set is one set of a volume.
type Set struct {
	ID      volume.SetID
	Members []Member
	// State is of a set of several members; of a single one it is empty: its
	// member is the primary, always.
	State SetState
}

// Primary returns the member that serves the set, as far as the map knows; nil
// if none does.
func (s *Set) Primary() *Member {
	if len(s.Members) == 1 {
		return &s.Members[0]
	}
	return s.Member(s.State.Primary)
}

// Member returns the member with this ID, nil if there is none.
func (s *Set) Member(id string) *Member {
	for i := range s.Members {
		if s.Members[i].ID == id {
			return &s.Members[i]
		}
	}
	return nil
}

// Member is a brick in its place in a set.
type Member struct {
	Brick string // HOST:/PATH as the administrator wrote it
	Addr  string // HOST:PORT where the brick process listens; "" while it does not run
	ID    string // UUID, the brick's own, as in BRICK/.mortar/brick
	// Life tells one process of the brick from another: a random number that the
	// process chose when it started, "" while none runs, or none is known. A map after a
	// recover or restore of the cluster may name an older life than one before it.
	Life string
	// Ended is the life of the last process of the brick that its daemon saw end: that
	// one is no more, whatever else the map says and however old it is. "": none. That
	// a member is not in the map any more says nothing of its process: a brick is
	// replaced too whose server is only cut off.
	Ended string `json:",omitempty"`
	// Arbiter: it holds names and attributes, but no contents.
	Arbiter bool
}

// Layout is a version of the division of 0 … 2³²−1 into subranges: range i
// begins at Ranges[i].From and ends where the next begins. Ranges[0].From is 0;
// From ascends strictly; so there are neither holes nor overlaps.
type Layout struct {
	Version volume.LayoutVersion
	Ranges  []Range
}

// Range is a subrange of the hash space and the set that owns it.
type Range struct {
	From uint32
	Set  volume.SetID
}
