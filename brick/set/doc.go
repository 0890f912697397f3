// Package set makes one set of several members: bricks on different servers that
// hold the same objects. One of them, the primary, serves; it looks like a
// volume.Store to what stands on it (dht.Owner), and hands every change on to the
// others, the backups, before it is acknowledged. It is PacificA's scheme (Lin,
// Yang, Zhang, Zhou: PacificA, 2008): who is in the set is agreed on in the
// configuration store, the data go from primary to backups.
//
//	Owner ── volume.Store ──► Set (primary) ──► local Member (the brick's store)
//	                             │  Peer.Call
//	                             ├──────────────► Set (backup) ──► its Member
//	                             └──────────────► Set (backup) ──► its Member
//
// # Who serves
//
// spec.SetState in the configuration store, changed by compare-and-swap, names
// the epoch, its primary and the members in sync. A new primary takes a new epoch
// before anything else. Every member writes the newest state that it saw to
// its disk (file "set", fdatasynced) before it acts on it, and refuses messages of older epochs.
//
//   - The primary serves only while all in-sync backups have answered it within Lease,
//     counted on CLOCK_BOOTTIME from the sending of the message that was answered.
//     Before it acknowledges and before it answers a read it looks at that.
//   - A backup promises, with each message that it answers, to obey that primary for
//     Lease from the receipt on. It makes itself primary only when its promise has run out,
//     or when it knows that the very process it promised to has ended (spec.Member.Life).
//   - A process that has just started counts as having promised Lease.
//   - In sync means: everything that was acknowledged is applied there. A backup that fails
//     or does not answer is taken out of the list by compare-and-swap
//     before anything more is acknowledged; never below the quorum.
//   - A member outside the list never serves and never becomes primary.
//
// decide.go has these decisions as pure functions, and its tests explore small
// cases exhaustively.
//
// # A change
//
//	lock      the names and objects it concerns; what is asked about them waits meanwhile
//	record    appended to the operation log (page cache: it survives the process)
//	apply     at the primary, which settles what is open: whether it succeeds, offset, time
//	send      to all in-sync backups side by side, with epoch, number, and what was settled
//	          (a write is sent and applied at the same time); a backup records, applies, answers
//	absent    members out of sync: every in-sync member puts the keys of the change into their
//	          queue (a key set on disk, fdatasynced in groups) before it answers
//	finished  all have it: unlock, acknowledge
//
// Changes that are under way at a time concern different keys, but for writes to
// different ranges of a file. So whatever is above the finished-through mark of
// the log (sent along with each message) is what members can differ in, after a failure.
//
// # Keys
//
// What can differ between two members is told in keys: an Entry, what a name in a
// directory leads to; an Object, its attributes; Extents of its contents;
// the owner's Journal. The operation log, the queues of absent members and the dirty list (what was
// changed since the last checkpoint, for power loss) all are about keys, and
// heal makes the members equal key by key, whatever the reason.
//
// # Taking over
//
// The new primary asks the surviving in-sync members, who fence the older
// epochs and tell the keys above their finished-through marks; its own state of those keys
// holds, and the others are made equal to it before it serves. That is right because it has everything
// that was acknowledged, and of what was not, either outcome is: the client that was not answered
// asks again, under the same Request. The replies that it remembers are those of the changes in its
// own state. Then the owner is made anew upon it, from the journal.
//
// A member that is just being made equal has half of something: it writes down in what (torn.go), and
// neither takes over nor forgets it before that has come to its end.
//
// Clients open again at the new primary what they had open at the old one. Until their time is over what
// loses its name meanwhile is kept on all members as if it were open (opens.go).
// Which objects without a name a member has is compared whenever it is aligned: no key tells of what a primary
// had let go just when it died, or of what a process had open for its own sake (align.go).
//
// Who may hold locks is on every member's disk (lockers.go). The locks themselves are
// in the memory of the primary's server, and clients declare them again to the next.
//
// # Coming back
//
// A member that is not in sync tells the primary the keys of its own log's end (and, if its machine was booted
// since, of its dirty list); the primary adds its queue for that member, and heals all of them, each under the
// lock of its key. What changes meanwhile is queued as before. When little is left,
// changes are held up for the moment it takes to heal that, and the member takes its seat.
//
// # Reads past the primary
//
// A client on the primary's machine may be lent a descriptor of a file, and reads it then without asking. In the
// reign's window (package brick/window) it sees whether anything is under way with the file, and until when the lease
// lasts, and believes what it has read on the conditions on which the primary would have answered (lend.go).
//
// # Order of locks
//
//	keys (entries in order of directory and name, then objects in order of ID)
//	  ranges of contents
//	    Set.mu
//	      queues, log: leaves, which wait for the disk
//
// Keys are held over messages to backups. Nothing waits for a key while it holds Set.mu. Who finds out
// under a name's key which others he needs tries those, and if that fails takes all anew, in this order.
package set
