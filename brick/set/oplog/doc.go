// Package oplog is what a member of a set remembers on its disk beside the data:
// which changes were under way, and in what the members may differ. It knows keys,
// and nothing of what a change does.
//
//	Log        the changes, in order: what was under way when a primary died (Tail), and what
//	           was answered to whom (Replies). In the page cache: outlives the process.
//	KeySet     keys, durably: what an absent member has missed.
//	Dirty      two or more KeySets: what was changed since the last checkpoint. Outlives the power.
//	SaveState  a small file that is replaced as a whole, durably.
//
// All files lie in one directory, the brick's .mortar/log, where the owner has its journal too:
//
//	ops.N            the log's segments, N from 1 on
//	dirty.N          the dirty list's generations, N from 1 on
//	queue.MEMBER …   key sets, named by who opens them
//	*.tmp            a file that was not finished
//
// # What a crash leaves
//
// When the process ends, whatever was written before is there: system calls
// that returned stay done. Only the last write may be cut short. When the machine ends, of what was not synced
// any part may be missing, at the end or between; names that were not synced may be old. Open copes with both,
// and tells the third case apart: damage to what had been written, which the disk has lost.
//
//   - A log cuts off the end of its newest segment. Whatever else does not read is Damage. After a loss of
//     power that has no meaning, and the log should be cleared once the dirty list is worked off.
//   - Each frame of a key set carries up to where the file was durable when it was written. If a frame that cannot be
//     read lies before that, as a later frame tells, keys were lost: the set counts as Full. Otherwise it is the end.
//   - Whatever is opened is made durable before it is used.
//
// A failed fsync or fdatasync of a key set is never repeated: the set fails from then on.
//
// # Formats, version 1
//
// Numbers are little-endian. A file is a header and frames:
//
//	header  magic 8 | version 4 | number 8 | time 8 | salt 4 | checksum 4
//	frame   length 4 | checksum 4 | payload
//
// The magic is "mortaroL" of a log, "mortarkS" of a key set, "mortarsT" of a state. The number is N of the
// file's name, 0 without one; the time, when it was begun, in nanoseconds since 1970. The header's checksum is
// CRC-32C of what is before it; a frame's that of its length and payload, exclusive-or the salt, which is random: so what looks
// like a frame within a record's body, or is left of another file, is none.
// The length is that of the payload, 1 to 2¹⁸ bytes. A payload begins with its kind:
//
//	record   1 | mark 16 | epoch 8 | seq 8 | flags 1 | session 16 | number 8 | keys 2 | key … |
//	         outcome's length 2 | outcome | body
//	outcome  2 | mark 16 | epoch 8 | seq 8 | outcome
//	mark     3 | mark 16
//	changes  4 | durable 8 | { op 1 | key } …
//	state    5 | the state
//
// mark is the finished-through mark (epoch, seq) that was known. flags is 1 if the outcome is known, 0 if not.
// op is 1: added, 2: removed. A key is
//
//	entry    1 | directory's ID 16 | length 1 | name
//	object   2 | ID 16
//	extent   3 | ID 16 | offset 8 | length 8
//	journal  4
//	full     5
//
// # Limits
//
// A record has up to 256 keys, a body of 64 KiB and an outcome of 512 bytes; a log 256 MiB;
// a key set 1,000,000 keys, and 64 ranges a file; a state 64 KiB.
//
// # Order of locks
//
//	Dirty.mu
//	  KeySet.mu
//	Log.mu
//	  Log.finished
//
// Log.mu is held over a write into the page cache. KeySet.mu is held over no system call: who writes the
// file is marked as busy, and others wait for that, not for the lock.
package oplog
