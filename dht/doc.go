// Package dht makes one file system of the sets of a volume.
//
// It has three floors, and nothing in it knows of the wire:
//
//	Hash, NewLayout, ChangeLayout, OwnerOf …  where a name belongs   (pure)
//	Distribute                                 the client's side: a volume.FS over a volume.Set each
//	Owner                                      a set's side: a volume.Set over a volume.Store and the other sets
//
// docs/distribute.md explains names, pointers, home sets and intents at length.
// In short: the owner of a name, by hash, alone decides which object it leads
// to, holding the object or a pointer to the set that does. A directory has a
// copy on every set; its home, the set its ID was born on, decides whether it
// exists. What takes several sets is an intent of the owner of the (new) name,
// in its journal before its first step, and finished by it after any crash.
//
// # An intent
//
//	begin   ── links made at data's sets, names reserved at their owners ──►  can be undone
//	commit  ── the coordinator's own entry switches ──►                       happened
//	          rest: old names and held links are discarded elsewhere
//	finished   names are free, the caller has its answer
//	done    ── all settled (syncfs), discards purged ──►                      forgotten
//
// Each step can be repeated: it names the object that it expects to find.
// Participants keep a part for each intent (names reserved, links that can be
// undone, a directory marked dying) in their journal, and ask the coordinator
// after a restart. Steps of a coordinator's earlier life, and late ones of
// intents that have ended, are refused.
//
// A set of several members goes on with a new Owner on another of them, made from
// the same journal, while the old one may not yet know and still sends steps. Those are
// refused by the epoch, but for what it sends before the new one's first: so
// nothing is undone elsewhere before the journal says that it is given up. Which of an
// operation's changes decides the client's request, request.go tells.
//
// # Locks
//
// In the order in which they are taken:
//
//	part.mu            one step of an intent after the other, at a participant
//	lockTable names    names, over all sets in canonical order (directory ID, name);
//	                   held over steps to other sets
//	lockTable dirs     copies of directories being made or removed here, child before
//	                   parent; held over questions to the home, but not while
//	                   that says "dying"
//	book               an append to the journal
//	Owner.mu, marks.mu, shards of the lock tables
//
// Waiting for a name is bounded by the caller's deadline, 10 s without one.
// Where a rename finds the second name's lock free it takes it out of order,
// without waiting.
package dht
