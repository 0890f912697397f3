// Package fsynclog is a log of small writes that were promised to be durable, as ZFS has it in its ZIL: to force one
// file that is overwritten in place costs a disk much less than to fsync one that grows, for which the file system
// has to commit its own journal. The package has the log's format, appending, forcing and reading; it knows nothing
// of who writes, nor of where the objects lie (package brick does, see "Fsync" there).
//
// # The format, version 1
//
// Two files of one size, the segments fsync-0 and fsync-1, full of zeros before anything else is written to them.
// Integers are little-endian. The first 4 KiB of a segment are its header, the rest records:
//
//	header    0  8 bytes "mortarfl"
//	          8  uint32 version
//	         12  uint32 CRC-32C of bytes 16 … 104
//	         16  uint64 generation: a number that no segment has had before
//	         24  uint32 salt, at random
//	         28  uint32 length of the boot ID, at most 72
//	         32  72 bytes: ID of the kernel's boot in which the generation began, zeros
//	record    0  uint32 CRC-32C, begun with the segment's salt, of all that follows
//	          4  uint32 length of the data, bytes, at most DataMax
//	          8  uint64 the segment's generation
//	         16  uint64 sequence: 1 more than the record before, over both segments
//	         24  uint32 kind: 1, a write; 2, a mark
//	         28  uint32 the mtime's nanoseconds
//	         32  int64  the mtime's seconds
//	         40  16 bytes object
//	         56  int64  offset in the object; of a mark: the sequence before which it counts
//	         64  the data
//
// A write says: the object has got this data there, and this mtime. A mark says: what records of a lower sequence
// say of the object is durable in the object itself, and perhaps outdated; they do not count. It may stand behind
// records of the object that do count.
//
// A record follows the one before at once, or, when that was forced meanwhile, at the next multiple of 4 KiB: so no
// block is written again that holds what has been promised, and a force overwrites blocks that were written before;
// neither the file's size changes nor what blocks it has.
//
// # Reading
//
// A segment's records end at the first place where no record is that has the segment's generation, a true checksum
// and the next sequence: there the log is torn, or ends. The segment with the lower sequences comes first. The other
// counts only if it goes on where that one ends: what was forced in it was forced after all before it, so if there
// is a gap nothing of it was promised. The salt keeps users, whose data are in the log, from making something
// that looks like a record where one is torn.
//
// # Emptying
//
// To begin anew, a segment gets a header with a new generation, forced before the next record. Of two that are to be emptied
// the older goes first: were the newer alone gone, the older would bring back what the newer had replaced.
//
// # Use
//
// Records go to one segment; when it is full, to the other, if that is empty. Then it is the user's turn: he makes durable
// what Full lists, really, and calls Empty. Until he has there may be no room for writes (Reserve says no), but some
// is kept for marks.
package fsynclog
