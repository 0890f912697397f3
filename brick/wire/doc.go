// Package wire is the language that a client and a brick speak: what a request
// and a reply look like as bytes, and how gRPC carries them. It does no I/O of
// its own, knows nothing of sessions (package brick/server) and of reconnecting
// (package client/remote), and never panics whatever bytes it is given.
//
// # Transport
//
// The gRPC service mortar.Brick has two methods, both bidirectional streams:
//
//	Session   one a client; carries numbered requests and replies in any order,
//	          many in one gRPC message (a batch)
//	Bulk      any number a client, on connections of their own; carries one
//	          request at a time with a large payload in it or in its reply
//
// A gRPC status means trouble with the transport or the session; what a request
// did is told by its reply. Bulk streams are kept and used again, which measured
// 27,000 reads of 128 KiB a second against 16,500 with a unary call each
// (grpc 1.85, two callers, both ends on the same two cores); bulk data
// beside the Session, not in it, keeps a small request from waiting behind
// megabytes.
//
// # Messages, version 1
//
// Numbers are little-endian. A gRPC message is a batch of whole frames:
//
//	0  u16  Magic
//	2  u8   Version
//	3  u8   1, batch
//	4  u32  length of the message in bytes, this header included
//	8  …    frames
//
// or, on a Bulk stream, one frame and its payload, which no codec looks at:
//
//	 0  u16  Magic
//	 2  u8   Version
//	 3  u8   2, bulk
//	 4  u32  length of the message in bytes
//	 8  16   session
//	24  u64  attachment: the number of the session's connection, from Welcome
//	32  …    frame
//	 …  …    payload, to the end of the message
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
//	Bye       nothing: the session ends for good
//
// A text or value is u16 or u32 length and its bytes. Arguments and results are
// fixed lists (the structs of this package in the order of their fields), so a
// newer version of them is a newer Version; which one is spoken is settled by
// Hello and Welcome. Every length has a limit, checked before anything is
// allocated by it. A frame must be used up exactly by its body.
//
// # Why not protobuf
//
// The arguments of 33 operations are mostly an ID, a name and some integers.
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
package wire
