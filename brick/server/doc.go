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
//	client        ⇢ Session stream ⇢  receive ⇢ request ⇢ worker ⇢ Backend
//	                                                        ↓
//	              ⇠ Session stream ⇠  wire.Queue ⇠ reply, remembered until acknowledged
//	              ⇢ Bulk stream    ⇢  its own goroutine ⇢ Backend ⇢ reply on the same stream
//
// # What may wait for what
//
// Receiving never waits for an operation: each runs on a goroutine of its own, idle ones are
// kept. It waits for a Close, for 10 ms at most, so that what comes after
// it finds the file closed, and when the session has more requests in flight than Welcome allowed; Step and Close are counted apart, so operations between sets never
// wait for clients' ones. A reply to a client that does not read waits
// in its queue, a full queue holds the workers that answer this very client.
//
// # Locks
//
//	Server.mu
//	  session.mu
//	    request.mu
//
// No lock is held while the Backend or gRPC is called.
package server
