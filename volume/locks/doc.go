// Package locks is the arithmetic of advisory locks: who has which, who is in
// whose way, who waits for whom. It is pure: it knows neither sessions nor wires
// nor files, only volume.Lock.
//
//	file (by ID)
//	  held   of each owner disjoint ranges, those that touch and are of one type in one piece
//	  queue  who waits, in order of arrival
//
// A lock that does not wait for others is granted when none that is held is in its
// way; those who wait do not count, for POSIX has F_SETLK fail only for locks that
// exist. When something is given up, or loses its exclusiveness, the queue is gone through from
// its head and each whom nothing held is in the way gets his lock.
//
// # Deadlocks
//
// Owner A waits for owner B if A's request, for other than a flock, is in the queue
// and a lock of B is in its way. A request that would close a ring of waits fails with EDEADLK; so
// there never is a ring, except that somebody gets a lock past those who wait (as Linux has it, too).
//
// # Who uses it
//
// A Table is at the server of a set (brick/server), in a store that is used directly,
// and in the tests' model. A client keeps a Book of what it was granted, to declare it again
// after a failover.
package locks
