// Package server puts a set of a volume on the network: it answers, in the
// protocol of package brick/wire, what package client/remote asks, by calling
// any volume.FS with a Step.
//
// # Sessions
//
// A client has one session, with an ID that it chose. The session outlives the
// client's TCP connections: it holds the files that the client has open and the replies
// that the client may not have got, and a request that comes again after a
// reconnect gets the remembered reply or waits for the one that is running; it is never
// executed twice. A session ends when the client says bye, when it has been
// without a connection for the grace period, when it breaks the protocol, or with the process; its
// files are closed then. A client that comes back later is told that its session is not known.
//
// A session belongs to what was served when it began (SetBackend): when a brick steps down from serving its
// set, or up to it, clients' sessions end and the new Backend never hears of them. Members'
// sessions, for Peers, are apart from that.
//
//	client ⇢ lane ⇢ its goroutine ⇢ Backend ⇢ reply, remembered until the lane's next request ⇢ the same lane
//	       ⇢ Session stream ⇢ receive: pings, cancels, closes
//	       ⇢ hatch ⇢ its goroutine ⇢ descriptors of files that are open (volume.Sharer)
//
// What a client on this machine reads by a descriptor that it was lent never comes here, nor into what Clients tells. It
// counts only while the hatch is there, which is hung up before any file of the session is closed for
// another reason than that the client has closed it (hatch.go, package brick/window).
//
// # Locks of files
//
// They are held in a table of the role, for sessions; lock.go says how they are waited for, locker.go
// how they outlive the server.
//
// # Names that are reserved
//
// For files that clients are about to make whole. What would tell that they are not there yet waits before its handler runs: names.go.
//
// # What may wait for what
//
// A lane's goroutine reads a request, executes it and sends its reply, so
// that nothing is handed from one goroutine to another. The next request of a lane waits for it; a client that
// has more to ask has more lanes. Requests beyond the number that Welcome allowed wait, too; Steps and Peers are counted apart,
// so operations between bricks never wait for clients' ones. A reply to a
// client that does not read holds up its own lane only. A request that takes long is
// told of on its lane every second, so that the client can tell a slow brick from a dead one.
//
// # Locks
//
//	Server.mu
//	  session.mu
//	    request.mu
//	    names.mu
//	    claims.mu
//	      locks.Table.mu
//
// No lock is held while the Backend, the record of Lockers or gRPC is called.
package server
