// Package brick keeps a member's objects on one directory of ext4, XFS or Btrfs:
// Store implements volume.Store and volume.Member. Nothing here knows of other bricks, of the
// wire or of who owns a name.
//
// # The format, version 1
//
//	BRICK/                       the users' tree, readable as it is
//	BRICK/.mortar/brick          whose brick this is (Identity)
//	BRICK/.mortar/map            the newest versions that its process was told of (Seen)
//	BRICK/.mortar/lockers        sessions of clients that may hold locks (Lockers)
//	BRICK/.mortar/id/aa/<id>     the index: of a directory a symbolic link to where it lies,
//	                             ../pp/<parent's id>/<name> (../../../<name> below the root,
//	                             ../../open/<id> without a name);
//	                             of everything else one more hard link. aa: the first two digits of <id>
//	BRICK/.mortar/open/<id>      what has no name: a link of what is open still, or held for
//	                             another member; a directory with all that is in it
//	BRICK/.mortar/discard/       what intents have taken out of the tree (discard.go)
//	BRICK/.mortar/log/journal    the owner's journal (journal.go)
//	BRICK/.mortar/log/fsync-0    small writes that fsync has promised: the two segments of a log that is made when it is
//	BRICK/.mortar/log/fsync-1    wanted first (package fsynclog); where they are missing, fsync is the kernel's
//	BRICK/.mortar/tmp/           what is under way; emptied at Open
//
// IDs are 32 hexadecimal digits. Attributes make files into objects (integers big-endian):
//
//	trusted.mortar.id       16 bytes: the object's ID. What has none is no object: it
//	                        is not listed, and EIO to look up
//	trusted.mortar.dir      of directories: byte 1, uint64 version, uint16 home set
//	trusted.mortar.pointer  of an empty regular file of mode 01000 without an ID: byte 1,
//	                        16 bytes ID, uint32 type bits, uint16 set
//	trusted.mortar.target   of a symbolic link that holds longLink: its target, too long for XFS
//
// The format's version is in the identity; a brick of another is refused.
// (Directories in open/ came with replicated volumes, before any release: it is version 1 still.)
// (The index has one level of 256 directories, made beforehand: with two
// levels nearly each of the first 60,000 creates makes a directory and dirties a
// block of its own, 50 µs a create instead of 19 µs on a fresh ext4.)
//
// # Crashes
//
// Every operation is a row of system calls, each of which leaves something that
// is whole, or that the next Open or the next lookup completes or takes back:
//
//	create         O_TMPFILE, contents if it is made with such, attributes, link to the name, link to the index.
//	               A file with a single link is one whose index link is missing: lookups add it
//	mkdir          built in tmp, index entry, moved to its name
//	mknod, symlink built in tmp, moved to the name, link to the index
//	unlink         of the last name: index link first, then the name; if open, the name is moved to open/
//	rmdir          index entry moved to tmp, directory removed, entry removed
//	rename         of a directory: the new index entry is made in tmp, the directory moved,
//	               the entry moved over the old one; what is replaced goes as by unlink and rmdir
//	last close     index link first, then the one in open/
//	discards       see discard.go
//	install        built in tmp, moved to open/, link to the index; a directory's index entry comes
//	               before the move. What is here is changed in place, attribute by attribute
//	place          a name that is replaced: the new link is made in tmp, the old object linked to open/
//	               if it is the last, the new one moved over it. A directory moves as by rename; what is
//	               in its way moves to open/ before
//	release        as unlink and rmdir, from the bottom up
//
// A lookup by name that finds the index leading elsewhere corrects it. Setattr with
// several kinds of changes at once is the exception: a crash may keep the first of them.
//
// # Fsync
//
// To fsync a file that has grown costs a commit of the file system's journal, to overwrite blocks in place and force those a
// third of it. So files that are written a little and synced, again and again, are in logged mode: each write goes to
// the file and then, as a record with the mtime, to the log; a Sync forces the log, once for all who wait (fsync.go, sync.go).
// What is promised that way is in the file, too, but perhaps not on its disk; after a boot the log is replayed (fsync_log.go).
//
// A file gets into the mode by real fsyncs in a row with little written between them. The last of them is its base: all of the file
// is durable but what the log has since. It leaves the mode before it is changed in another way than by a small write: it is
// fsynced really, then the log gets a mark, which is forced, that voids its records; then comes the change. So it does when it was idle for some
// seconds, when much is written without a Sync, and when the log is full. What changes attributes or names alone makes the next Sync a real
// one, which voids the records before it as well. Who leaves soon after he came has to prove himself for longer the next time.
//
// Why a replay harms nothing, whatever of the file is on the disk: as long as the log has records of a file that count, all that
// was done to its contents, size and mtime since the first of them is in the log, in the order in which it was done to the
// file (fsynced.order is held over both). So the file with all records written over it is what it was; with the first of them, up to a torn end, it has
// in each byte what some write put there, and none of the promised is missing, for a force covers all records before it. What is not in the log,
// large writes, truncations, times that were set, comes after a mark that is on the disk: unforced, the mark could be lost and the truncation
// not, and records would come to lie behind a hole that nobody has made. And after the end of the process alone, or an orderly
// boot, all records are there, of writes that were not synced as well: nothing that was acknowledged is undone. Only a write that was
// under way may be there in part.
//
// A base, or the end of what a mark voids, is where nothing is in doubt: fsyncs knows each change of a file that is under way, of
// any file, from its beginning to its end, and an fsync during which one was under way that the log does not have, or began, is no base.
//
// At Open, in the boot of the records, the page cache is what it was, and newer than the log can be: what has records is fsynced really.
// In another, they are replayed and fsynced. Then, and when the store is closed in an orderly way, the log is empty: a brick can be carried elsewhere.
// Objects are found by the index; so one that loses its last name while the log has something of it goes by way of .mortar/open: as long as it
// has a name, the index has it. What comes to have the ID of a removed one has the old one's records voided first.
//
// When a segment is full the other is gone on with; what the full one has is fsynced in the background, and it is emptied.
// If the log can't be written it is given up: all that it has is fsynced and the log removed. If an fsync fails, then and always, the log
// stays as it is for the next boot, and nothing that it has something of can be synced any more (rememberFailed): the log may be older.
//
// # Finding things
//
// A directory is found by its ID among the open ones (dirCache), or by its place
// in the index, resolved one name at a time without following links, each step
// checked against the ID; so nothing leads out of the brick. Everything else is
// found through its index link. Which object an inode is, a bounded cache
// remembers (inodes), so lookups cost one system call. Attributes come from the
// file system each time; what others change in the brick meanwhile is seen or
// not, but harms nothing: names that they made are no objects.
//
// # Members
//
// What the primary of a replicated set has decided of an operation comes in its context
// (volume.Fixed). Times: after a change, which the kernel dates, mtime is set to what was
// decided last of the file or directory, in whatever order changes that are
// under way at a time arrive here (fixedTimes), anew with each primary (NewReign). Names: what loses the last while it is open at
// the primary is moved to .mortar/open and held there, until Release; so is what
// Install makes and Place clears. Orphans removes nothing that is held. That something is
// held is kept in memory: after a start, what is in .mortar/open waits for Orphans, or, once Hold is called, for Release.
// What is held can be opened and looked at by its ID.
//
// # Names that are Mortar's
//
// .mortar in the root does not exist for callers: ENOENT to look up, open or
// remove, EPERM to make. Links that are not names do not count in Nlink.
//
// # Order of locks
//
//	names (all that an operation needs at once, in order of stripes)
//	  tree
//	    dir.attr (in order of IDs)
//	      object stripes (in order of numbers)
//	        object.size
//	          fsynced.order
//	            fixedTimes: utimensat(2) is made under it
//	            fsynclog.Log's, under which records are written
//	            fsyncs, caches, listings, tables: leaves
//
// object.size and fsynced.order are taken without a stripe, but stripes are never taken under them
// except to note or see a failed fsync, and nobody waits for them under a stripe.
// System calls are made under all but the leaves. Nothing waits for a client. Who holds fsynced.order may wait for a full segment to be
// emptied, which takes none of these locks.
package brick
