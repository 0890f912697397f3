// Package wire is the language that a client and a brick speak: what a request
// and a reply look like as bytes, and what carries them. It knows nothing of sessions (package brick/server) and of reconnecting
// (package client/remote), and never panics whatever bytes it is given.
//
// # Transport
//
// A client has three kinds of connections to a brick, on the same address:
//
//	Session   a bidirectional stream, a method of the gRPC service mortar.Brick: hello and
//	          welcome, pings, cancels, and what the brick has to say by itself
//	Lane      any number, plain or TLS: requests, one at a time, and their replies
//	Hatch     one, if both are on one machine: descriptors of files that the client reads by itself
//
// Further methods are for people, in JSON: Clients lists the sessions, Heal tells how a
// set of several members stands, StartHeal has it healed.
//
// A gRPC status means trouble with the transport or the session; what a request
// did is told by its reply. Lanes and the hatch are opened with what the Welcome has told, and end with the session's
// connection. A lane is one because its traffic never meets another's: a small request does not wait
// behind megabytes, nor behind a slow one.
//
// Requests do not go over gRPC because of what it costs to hand them around: a
// request over a gRPC stream passes four goroutines on its way there and as many on its way back, each of
// which may have to be woken on another processor, and took 110 to 155 µs between two processes on a
// machine of two processors. On a lane the goroutine that asks writes and reads by itself, as does the one
// that answers, and the kernel wakes just these two (see quiet): some 10 µs for the same request. (Debian's kernel 6.18
// in a virtual machine, Unix sockets; over TCP on the loopback some 20 µs.)
//
// # Messages, versions 1 to 4
//
// Numbers are little-endian. A gRPC message is a batch of whole frames:
//
//	0  u16  Magic
//	2  u8   Format
//	3  u8   1, batch
//	4  u32  length of the message in bytes, this header included
//	8  …    frames
//
// A lane begins with a preface, by which a server tells it from HTTP/2, then TLS if that is
// configured, then whose it is; frames follow, without batches:
//
//	0  u16  Magic
//	2  u8   Format
//	3  u8   2, lane
//	4  …    TLS from here on, or not
//	…  16   session
//	…  u64  attachment: the number of the session's connection, from Welcome
//	…  …    frames
//
// A hatch begins likewise, never with TLS. What goes through it is drawn in hatch.go:
//
//	0  u16  Magic
//	2  u8   Format
//	3  u8   3, hatch
//	4  16   session
//	20 u64  attachment
//	28 …    requests; replies with descriptors
//
// A frame:
//
//	 0  u32  length of the frame in bytes, this header included, ≤ FrameMax
//	 4  u8   Kind
//	 5  u8   Op, of Request and Reply; else 0
//	 6  u16  0
//	 8  u64  number, of Request, Reply and Cancel: ≥ 1; else 0
//	16  …    body
//
// The body by Kind:
//
//	Hello     client's first frame: Hello
//	Welcome   server's first frame: Welcome
//	Request   u32 µs until the caller's deadline, 0: none; u32 UID, GID, umask, PID; u32 layout; arguments by Op
//	Reply     u16 errno, 0: success; if not 0: u8 reason, text op, where, cause; then results by Op
//	Cancel    nothing: the caller has gone; no reply is wanted and what the request opened is closed
//	Ack       u64 numbers whose replies have arrived and need not be remembered
//	Ping      nothing; answered at once by Pong
//	Pong      nothing; on a lane: the request is being worked on, every SlowAfter
//	Bye       nothing: the session ends for good
//	Close     u64 handles of files that are to be closed; not answered
//	Told      attributes of the directory that the request changed, or of the file that it opened, before its Reply; a server may leave it out
//	Data      all that is in the file that the request opened, before its Reply, if that was wanted; likewise
//
// On a lane a client sends Close and Request, on a Session Hello, Cancel, Ack, Ping, Close and Bye.
// A request on a lane says that the reply before it on the same lane has arrived: it is an Ack of that.
//
// A text or value is u16 or u32 length and its bytes. Arguments and results are
// fixed lists (the structs of this package in the order of their fields), so a
// newer version of them is a newer Version; which one is spoken is settled by
// Hello and Welcome. Version 2 has the operation Peer and adds fields at the end of Hello and Welcome;
// version 3 has volume.WriteSynced among the flags of Write and Append; version 4 the operations WriteSet, Lock, TestLock,
// Reclaim, Bear, Reserve, Settle, Remove, Await and Copy, volume.SetMinimalACL among the bits of a change, the attempt in Hello, and hatches. Clients of earlier versions are served as before. Every length has a limit, checked before anything is
// allocated by it. A frame must be used up exactly by its body.
//
// # Why not protobuf
//
// The arguments of 39 operations are mostly an ID, a name and some integers.
// Written by hand, encoding is one append after the other into the buffer that is
// sent, decoding yields the very arguments of a volume.FS method, without a
// message object between them, a length is checked against the limit of its field
// before it is used, and what must be fuzzed is one small reader.
//
// # Requests and sessions
//
// The client numbers requests from 1 in its session, in the order in which it
// likes, never twice. Handles of open files are chosen by the client: the number
// of the request that opened them. So a request that waits for a
// reconnect need not be encoded again whatever has happened to the server.
//
// A session belongs to one server, in one time of its serving (Welcome.Server), and the
// client says in its Hello whose it was: so a session that a server made for a Welcome that was lost is not
// taken for one in which the client's requests and files are known. And it says which of its attempts
// to connect this is, so that one that it gave up, and that was delayed, does not end the session of a later one.
//
// A Lock that has to be waited for is asked for under a ticket, and polled for (LockStep): no request
// is longer under way than a second because of it.
//
// A Reserve keeps a name for a file that the client will make with all that is in it. It is the server's memory that does so: a
// client to whom a server is new says by Settle that nothing is to come any more of what it had reserved at those before.
//
// # Sets of several members
//
// Only the primary serves the set. The others refuse a Hello with Reason NotPrimary, and the client
// tries the next. A primary to which the session is new, since it was made primary meanwhile,
// may know what its predecessors have executed (Welcome.Decides): then the client needs
// to give up no request because of the failover. A client lists those that it may not simply repeat in Hello.Ask.
//
// Members talk to each other in sessions of their own (Hello.Member), which every member
// takes whether it serves or not, by one operation:
//
//	Peer   u32 length, message ≤ PeerMessageMax; data ≤ volume.IOMax, the rest of the frame
//	       answered by ≤ PeerAnswerMax bytes, the rest of the reply
package wire
