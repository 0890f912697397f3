// Package manage is the daemon, one a server: it keeps the configuration, runs
// the brick processes, and tells mounts and bricks what a volume is made of.
// Run is all of it; package api beside it is how one speaks to it.
//
// # The rooms
//
//	Run (daemon.go)     state directory, sockets, store, in this order; answers from the first
//	store               embedded etcd, within the process
//	view                the records as they are now, kept up by a watch: a snapshot that never changes
//	tasks               changes of volumes: recorded, then carried out, finished by the next start if need be
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
// another server needs no call to that server.
//
// # Keys
//
// All below mortar/1/ in etcd; values are JSON with the version of their form
// in "v". A daemon refuses forms newer than it knows; fields that it does not
// know it would drop, so a new field that must survive makes a new version.
//
//	servers/UUID           server     a daemon: where it listens, its release
//	volumes/NAME           volume     definition and what is wanted of its bricks
//	have/VOLUME/BRICK      have       what a brick is: by its own daemon only (UUIDs)
//	tasks/NAME             task       the change of volume NAME that is under way
//	options                options    the cluster-wide options
//
// There is at most one task a volume: its key is the volume's lock, in etcd and
// so for all daemons. Within a daemon, requests for one volume queue before that
// in order of arrival.
//
// # Changes
//
// What is wanted of the bricks is derived from the volume's record (want). Each
// change of it raises the volume's Generation; a brick's have record says for
// which generation it speaks, so that an old failure is not taken for a new one.
//
//	create  volume{creating} task │ bricks made: identity on disk    │ volume{} no task
//	        undo: volume{undoing} │ what this create made is removed │ no volume, no task
//	start   volume{run} task      │ bricks run and are attached      │ volume{Started} no task
//	        undo: volume{}        │ bricks have ended                │ no task
//	stop    volume{Stopped} task  │ bricks have ended                │ no task
//	delete  volume{deleting} task │ bricks have ended                │ no volume, no have, no task
//	set, reset                                                         volume: one transaction, no task
//
// Each column but the middle ones is one transaction. A daemon killed at any
// point finds the task when it comes back and goes on in the middle column.
//
// Deleting a volume leaves the bricks' data and identity where they are, as
// GlusterFS does: such a directory can be used again only with force.
//
// # Maps
//
// A map's version is the etcd revision of the newest record that it is made of
// (the volume's and its bricks' have records, which live as long as the volume):
// it rises with every change, on all daemons alike, and costs no write.
//
// # The state directory
//
//	identity       JSON: {"format": "mortar-state", "v": 1, "id": UUID}; written first
//	lock           flock'ed by the daemon that runs
//	etcd/          etcd's own
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
//	a volume's queue (tasks.enter)   held over a whole change
//	  keeper.mu, supervisor.mu       short
//	    view.mu                      short
//
// No lock but the first is held over a call of etcd or a system call that can wait.
//
// # What is still one server's
//
// A pool of servers (peer probe) changes: peering gives etcd a listener and
// members; resume takes over tasks of daemons that are gone; hostPeer
// knows other servers' names. Records, tasks and keepers are made for it.
package manage
