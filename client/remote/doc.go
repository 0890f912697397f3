// Package remote is a set of a volume that lies in another process: it
// implements volume.Set, and volume.File for what is opened, by asking a brick
// in the protocol of package brick/wire. It connects by itself, comes back by itself, and no call outlives its deadline.
//
//	caller ⇢ call, pending ⇢ lane (borrowed for one call) ⇢ brick
//	   ↑                        ↓
//	 reply  ⇠  ⇠  ⇠  ⇠  ⇠  the same lane
//
// The caller's own goroutine writes the request and reads the reply, data
// right from and to his buffer; the Session stream carries what is beside requests:
// hello, pings, cancels.
//
// A file that is read a lot, of a brick on this machine, is borrowed: the brick hands a descriptor over, and reads
// are made by that, without a request, as long as the brick would answer the same (hatch.go, package brick/window). All that is borrowed
// goes back when the file is closed, or with the link.
//
// # A lost connection
//
// All requests of a Remote belong to one session, and a link is one connection
// of it: a gRPC connection for the Session stream, and as many lanes as there were calls at a time. When
// any of them breaks or stalls the whole link is replaced, and what is then done with an unanswered request
// depends on what the brick says in its Welcome:
//
//	the brick knows the session    the request is sent again with its number; the
//	                               brick executes it once
//	it does not (it restarted, or  files are opened again by their IDs; then a request
//	the grace period has passed)   that was never sent, or may be repeated, is sent; the
//	                               others fail with EIO, Reason Unknown
//
// A primary that was made one after the request was sent, and knows what its predecessors executed, tells
// that instead (outcome.go): the request ends with that, or is sent again under its number, so that a
// failover fails nothing.
//
// A write, or a change of attributes, may be repeated unless a later one
// that touches the same was acknowledged in between (volume's rule 7). If the brick's machine was booted anew, writes that were
// acknowledged but not synced may be gone: the next Sync of each such file says so with EIO, once.
//
// Locks of files are declared again, too, in a session that is new to the brick (lock.go). Where they are refused,
// because they were given to others meanwhile, all handles of their files fail with EIO.
//
// # A set of several members
//
// A Remote has one link, to the member that serves the set. While it has none it asks the members in
// rounds, first the one that SetTargets has named primary: the next as soon as one refuses, or
// beside it after a quarter of a second of silence. Between rounds it pauses for 25 ms to 1 s; at most 250 ms if any
// said that it is not the primary, for soon one will be. Another primary's name in SetTargets ends
// the link at once, which matters where the old one is cut off and nothing else tells.
//
// To another member of its own set a brick has a Remote with Config.Member, which is for Peer.
//
// # Time
//
// A call ends when its context does, or after Config.Timeout. While there is no
// connection calls wait for one, but once the brick was not heard for Timeout, new calls
// fail at once with Reason Unavailable; so several calls to a brick that has gone wait about as long as one. Step and Peer never wait for a connection. A connection
// on which nothing is heard for wire.StallAfter, pings unanswered, is replaced.
//
// # Goroutines and locks
//
// A Remote has two goroutines, manage (makes links, one after the other) and watch
// (deadlines, pings); while there is no link, manage has one for each target that it is asking; a link has two, receive and its queue's Run, and
// on the brick's own machine a third, the hatch's run. Close waits for all.
//
//	Remote.mu
//	  link.mu
//	    hatch.mu
//	  wire.Queue's
package remote
