// Package manage is the daemon, one a server: it keeps the configuration, runs
// the brick processes, and tells mounts and bricks what a volume is made of.
// Run is all of it; package api beside it is how one speaks to it.
//
// # The rooms
//
//	Run (daemon.go)     state directory, sockets, store, in this order; answers from the first
//	quorum              the configuration store: etcd within the process, or a client of the other servers' (package quorum)
//	view                the records as they are now, kept up by a watch: a snapshot that never changes
//	lastknown           the newest snapshot on disk, for a start without the store
//	absence             whether the store answers; the sentences when it does not
//	alive               this daemon's record, and the key that says that it is there
//	probe, join, detach servers come and go
//	control             one daemon adjusts the voters of the store; a server becomes what its record wants
//	recover, restore    a cluster goes on from what is left of it
//	tasks               changes of volumes: recorded, then carried out, finished by another daemon if need be
//	supervisor, keeper  a goroutine for each brick of this server: makes what is what the records want
//	feed                the maps of volumes, from the view
//	api                 the requests, one method each
//
// A request that changes something never acts itself. It writes what is wanted
// into the records, in one transaction, and waits in the view until the bricks'
// keepers have written that it is so. The keeper of a brick, on the brick's own
// server, is the only one that touches the brick's directory and process and
// the only writer of its "have" record. So a task can be carried on by any
// daemon that sees the records, whichever began it, and what is to be done on
// another server needs no call to that server. (A change connects to the daemons
// of its bricks before it is recorded, only to refuse at once what could not succeed.)
//
// # Keys
//
// All below mortar/1/ in etcd; values are JSON with the version of their form
// in "v". A daemon refuses forms newer than it knows; fields that it does not
// know it would drop, so a new field that must survive makes a new version.
//
//	servers/UUID           server     a daemon of the pool: names, address, order of joining, role in the store
//	alive/UUID             (text)     which life of that daemon is there; on its lease of 5 s
//	controller             (text)     UUID of the daemon that adjusts the voters; on its lease
//	volumes/NAME           volume     definition and what is wanted of its bricks
//	have/VOLUME/BRICK      have       what a brick is: by its own daemon only (UUIDs)
//	sets/VOLUME/SET        set        who serves a set of several members, who is in sync; by its members, see below
//	tasks/NAME             task       the change of volume NAME that is under way
//	options                options    the cluster-wide options
//	epoch                  epoch      UUID and incarnation of the cluster, base of the maps' versions
//
// There is at most one task a volume: its key is the volume's lock, in etcd and
// so for all daemons: who finds another's there answers "Another transaction is
// in progress". Within a daemon, requests for one volume queue before that in
// order of arrival.
//
// # Changes
//
// What is wanted of the bricks is derived from the volume's record (want). Each
// change of it raises the volume's Generation; a brick's have record says for
// which generation it speaks, so that an old failure is not taken for a new one.
//
//	create  volume{checking} task │ each server has looked at its bricks │ volume{creating}, or neither
//	        volume{creating}      │ bricks made: identity on disk        │ volume{} no task
//	        undo: volume{undoing} │ what this create made is removed     │ no volume, no task
//	start   volume{run} task      │ bricks run and are attached          │ volume{Started} no task
//	        undo: volume{}        │ bricks have ended                    │ no task
//	stop    volume{Stopped} task  │ bricks have ended                    │ no task
//	delete  volume{deleting} task │ bricks have ended                    │ no volume, no have, no task
//	replace volume{coming: checking} task  │ its server has looked at the directory │ volume{coming: creating}
//	-brick  volume{coming: creating}       │ brick made                             │ volume{coming: made, old out}
//	        volume{coming: made, old out}  │ the old one has ended, another leads   │ volume{new for old}, set{without old}, no old have
//	                                       │ the new one runs                       │ no task
//	        undo: volume{coming: undoing}  │ what was made of it is removed         │ volume{}, no task
//	reset   start: volume{old out} task    │ it has ended, another leads            │ set{without old}, no task
//	-brick  commit: as replace-brick at the same place; where the brick is found with
//	        its data: volume{checking} … volume{old in again}, no task
//	set, reset                                                             volume: one transaction, no task;
//	                                                                       again if another's came first
//
// Each column but the middle ones is one transaction, on the condition that the
// task is still this daemon's. A daemon killed at any point leaves a task; as soon
// as its key under alive is gone or another life's, any daemon makes the task its
// own by compare-and-swap and goes on in the middle column. What waits for bricks
// gives up on a server that is away for 3 s: a create or start is undone, a stop
// or delete leaves those bricks to their server, which ends them when it is back.
//
// A brick that is coming has its own phase and is no part of the volume until it
// takes another's place: that is one transaction, on the condition too that the
// set's state is what was looked at, for the old brick must not be the last in sync.
// A directory that does not hold the very brick is never taken for it: an
// emptied one becomes a new brick, with a new UUID, that has to be healed.
//
// The state of a set of several members is no task's: the members change it by
// compare-and-swap through whichever daemon answers them (SetState, SwapSetState),
// and a failover waits for it. The daemon sees to the invariants only
// (spec.CheckSwap). A new state, and the end of a brick's process, which its keeper sees by
// the pidfd, are a new map in all daemons at once: some milliseconds, measured in tests.
//
// Deleting a volume leaves the bricks' data and identity where they are, as
// GlusterFS does: such a directory can be used again only with force.
//
// # The pool
//
// A daemon begins as a cluster of its own. A probe takes a daemon without
// volumes and peers in: see PeerProbe; a detach takes one out: see PeerDetach.
// Servers are told apart by UUID; what a name means is decided when it is typed.
// A daemon answers on three ports of one address: the API on PORT, and, in a pool
// of several, its member of the store on PORT+1 for members and PORT+2 for
// clients. One, three or five servers have a vote (quorum.Target); the controller
// compares the members with quorum.Plan and takes one step after another, each
// derived from what is.
//
// A daemon that is not told of its detachment finds out (findOut, wasRemoved),
// drops the pool's configuration and is alone again.
//
// # Without the store
//
// When no majority of the voters answers, questions are answered from the last
// snapshot, changes are refused as soon as that is known, mounts and bricks go on.
// A daemon that starts then takes the newest of view.json and of what its own
// member has on disk, starts its bricks, on the ports that clients know, and feeds
// its mounts. Nothing is ended or removed but on the store's own word.
//
// `cluster recover` makes what one daemon has the cluster's next incarnation;
// members and clients of the earlier one find out and join it (rejoin). `cluster
// restore` does so from a backup, on a daemon that is alone; it takes the UUID
// that the backup has for its address.
//
// # Maps
//
// A map's version is the epoch's base plus the etcd revision of the newest record
// that it is made of (the volume's, its bricks' have records, its servers'): it
// rises with every change, on all daemons alike, and costs no write. Each
// incarnation's base is 2⁴⁰ above that of the one before, and what a brick has
// seen (brick.Seen) raises it further, so versions never go back.
//
// # The state directory
//
//	identity       JSON: {"format": "mortar-state", "v": 1, "id": UUID}; written first
//	lock           flock'ed by the daemon that runs
//	quorum.json    what this daemon is in the store (package quorum)
//	etcd/          etcd's own
//	view.json      the last known records (kept, in lastknown.go); a backup has the same form
//	log/bricks/    the logs of brick processes, NAME-PATH.log, "/" as "-"
//	debug.sock     HTTP: /metrics, /debug/pprof (root only)
//
// # Brick processes
//
// They have a session of their own, outlive the daemon, and register themselves
// with it over its Unix socket, again after each of its restarts. A daemon that
// starts finds the processes of earlier lives by their command lines in /proc
// (the brick's UUID, and this daemon's socket): no file that could be stale says
// which they are. It holds each by a pidfd. Those that are not wanted any more
// are stopped.
//
// # Locks, in order
//
//	a volume's queue, or the pool's (tasks.enter)   held over a whole change
//	  keeper.mu, supervisor.mu                      short
//	    view.mu                                     short
//	      the store's (package quorum)              short
//
// No lock but the first is held over a call of etcd or a system call that can wait.
package manage
