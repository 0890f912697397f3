// Package quorum is the pool's configuration store as one daemon sees it: etcd,
// embedded, with all that embedding it takes. Package manage says what is in the
// store and who changes the membership; this package starts, joins, promotes,
// removes and recovers members, and gives a client that is always the right one.
//
// # Roles
//
//	alone    the only member, no listener: nothing of etcd is on the network
//	learner  a member that gets the records, without a vote yet
//	voter    a member with a vote
//	client   no member: asks one of the voters, another when that one is gone
//
//	           Listen                         promoted (Promote by the controller)
//	  alone ───────────▶ voter              ┌──────────────────────────────────┐
//	    │ ▲                │ removed        │                                  ▼
//	    │ │ BecomeAlone    ▼                │                                voter
//	    │ └───────────── client ──────────▶ learner ◀── starts again as what it was
//	    └───────────────▶          BecomeLearner
//	       BecomeClient
//
// A member that finds itself removed becomes a client by itself. Found makes of
// any role a pool of one with given keys; Recover does so with what a voter has.
//
// # What the users of a client see
//
// Client returns what reaches the store now: the own member within the process,
// or a connection to one voter, or, when there is nothing to reach, a client
// all of whose calls fail at once with a sentence. When it is replaced, the old
// one is closed after Client returns the new one: calls under way on it fail or
// end with their contexts, its watches are closed, its lease keep-alives end.
// Callers then take Client again; a channel from Changed tells when. Whether a
// change whose call failed was made is not known, as always with etcd: it must
// be read, so changes are made by transactions that compare.
//
// A member without a majority answers nothing that needs one: calls end with
// their contexts, or after 7 s with etcd's own time-out. Its watches stay silent
// (WithRequireLeader has no effect within the process). Who wants to refuse at
// once asks Health, which needs no majority and takes two seconds at most.
//
// A change that a member had passed on to a leader that died is lost without a
// word. So a call should end after a second or so and be made again, rather than
// wait for its own time-out.
//
// Revisions go on through all changes of role within a pool. They begin anew
// with Found, BecomeAlone, Recover, and another pool's store by BecomeClient.
//
// # Membership
//
// One daemon at a time, the controller, asks Members, then Plan, then does the
// one step that Plan returns (Do), and again. All of it can be repeated after
// any crash: nothing is remembered but in etcd. A step of kind StepAdd is
// completed by that server, which calls BecomeLearner when it finds itself
// wanted; the member's Name is empty until it has run once.
//
//	controller            server X (client)
//	AddLearner(X's URL)
//	                      BecomeLearner: asks the voters for the members, starts
//	Promote(X), ErrNotReady until it has caught up
//	                      its client becomes the own member's
//	Remove(X)
//	                      the member ends, its data go, it is a client
//
// etcd's own check before such changes (StrictReconfigCheck) is off: it counts
// connections that are 5 s old, which would make a pool of five take half a
// minute to grow. Promote and Remove ask the members concerned in the same
// moment instead, and refuse (ErrUnsafe) what would leave no majority.
//
// The learners that are wanted catch up first, one after the other (two that
// start at once would wait for each other's listeners), and then get their votes
// right after each other, so that the pool has two voters, which is worse than
// one, for some tenths of a second only.
//
// # Addresses
//
// A server's member answers members on Config.Port and clients on the port after
// it, of the same host: where clients are answered follows from a member's URL
// (Endpoint). A voter that starts with another Host, or calls Listen with one,
// tells the others as soon as a majority is there. One that moved is heard
// meanwhile, since each side connects to the other. If a majority moved at once
// nobody finds anybody: use names instead of addresses, or Recover.
//
// # Incarnations
//
// Recover raises the incarnation, Found takes one from its caller. It is in the
// store, at the key mortar/quorum, and etcd's IDs of cluster and members follow
// from it, so that members of different incarnations never talk to each other. A voter asks all it knows of (the
// voters, and what Hint names) who they are before it starts and each second
// while it runs: when a later incarnation of its cluster answers, its member
// ends at once (Status: ErrSuperseded, Successor) and its client is one of the
// recovered pool. Its data stay until BecomeClient, which manage calls when the
// recovered pool still knows the server. A client follows by itself. What can't
// be prevented: while no member of the recovered pool is reachable, a majority
// of old members that come back together goes on as the old pool; it ends when
// they meet.
//
// # Times
//
// Heartbeats are 100 ms apart; a leader that is gone is replaced in 1 to 2 s,
// one that closes hands over at once. A client's voter that is killed is
// replaced within a second or so, one that is unreachable within 5 s. Leases and elections
// count monotonic time on the leader alone (etcd's lease.Lease.expiry is a
// time.Now with its monotonic reading, compared with another; what is sent to
// others and stored is the time that remains), so the servers' clocks may differ.
//
// # On disk
//
// The state file is replaced as a whole (written beside, fsynced, renamed) and is
// the one thing that a transition changes last or first:
//
//	{"format": "mortar-quorum", "v": 1, "crc32c": CRC, "body": {
//	   "mode": "alone"|"voter"|"client", "cluster": UUID, "incarnation": N,
//	   "host": HOST,             with voter
//	   "data": "7",              with alone and voter: below Config.Dir
//	   "born": true,             the member has answered once: its log must be there
//	   "voters": ["HOST:PORT"]}} where voters answer clients
//
// CRC is the Castagnoli CRC-32 of the body's bytes. Each store that this daemon
// has been a member of has its own numbered directory; only the one that the
// state file names counts, the others are removed. So each transition is done
// when the state file is replaced, and undone if the process ends before; what
// remains to do after it (start the member, tell the others) Open and the
// keeper do. "." as data is etcd's directory of releases without state file.
//
// # When etcd gives up
//
// etcd ends the process where its files are damaged or can't be written. Here it
// ends a goroutine only: the member is put aside (Status: ErrFailed), its
// sockets are closed, and the store's client becomes one of another voter if
// there is one. Only a new process can open the data again, because what etcd
// left behind holds their locks.
//
// # Locks
//
//	turn            held over a transition, and by the keeper over a look; waits for etcd and the network
//	  mu, conns.mu  short
//
// The keeper is the package's one lasting goroutine; Close waits for it.
package quorum
