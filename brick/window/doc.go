// Package window is what a client looks through before it believes what it has read
// from a brick's file by itself.
//
// A client on the brick's own machine may be handed a descriptor of a file that it has open
// (brick/wire, Hatch), and then reads without a request. It must not read what the brick
// would not answer: of a set of several members the primary answers a read only if nothing is under way
// with what was read, and if it still is the primary (brick/set). That is told in memory
// which the brick writes and the client maps, the Window, and looked at through a View.
//
// # Memory, format 1
//
// A memfd (memfd_create(2)), sealed: it neither shrinks nor grows, and nobody but who made it
// can write it. Both sides are on one machine, so numbers are in its own order of bytes, aligned, and
// read and written atomically:
//
//	 0  u64  Magic, format
//	 8  i64  until: the reading of CLOCK_BOOTTIME, ns, up to which reads may be answered; 0: never again
//	16  u64  number of words
//	24  …    0
//	64  u64  words
//
// A word is about one object that a client was handed, while it has it open:
//
//	bits  0 … 15  how many changes of its contents or size are under way; 65535: or more
//	bits 16 … 63  generation: counts beginnings of changes
//
// Word 0 stays 0: it is for who needs to know nothing of changes, a brick that is a set of its own, where
// the client's pread(2) is the very one that the brick would make.
//
// # A read
//
//	a  load the word: if anything is under way, ask the brick      View.Look
//	b  pread(2)
//	c  load the word again: if it is another, ask the brick        View.Same
//	d  poll(2) the connection over which the descriptor came: if
//	   it is hung up, the brick has let go: ask whoever serves now  wire.Hatch.Alive
//	e  load until, read the clock: if it is not before until, ask   View.Open
//
// and only then the data count. "Ask" is an ordinary request, which waits for what is under way, or
// fails over.
//
// # Why that is right
//
// The brick, for its part,
//
//	1  counts a change up before it, or any part of it, is applied anywhere;
//	2  counts it down, if at all, when all members in sync have it, or none, or when until is 0;
//	3  sets until to no more than the end of its tenure, by the members that must answer it at that
//	   moment: before one more of them gets its seat, which may bring that end nearer, it is set anew;
//	4  sets until to 0, for good, before anything of a reign that is over is counted down;
//	5  uses a word for another object only after the connection of whoever had been handed it was
//	   closed, or he has closed the file.
//
// Say that a read sees something of a change. The change was counted up before (1). If that was before a, it was counted
// down before a too, as nothing was under way then: so all members in sync have it and nothing can undo it (2), or
// until is 0, which e sees (4). If it was between a and c, c sees another generation. If it was after c, the
// read was over. And a change that was acknowledged before a was applied here before a. So the read
// is as if all of it had been done at the time of c, if this brick was the set's primary then. That it was follows
// from d and e. A new primary begins only when
//
//   - all promises to the old one have run out: not before until, which at the time of e, after c, was yet to come (3); or
//   - it is certain that the old one's process has ended. The kernel closes all that a process had open
//     before its parent can hear of its end (exit_files and exit_task_work come before exit_notify, in
//     do_exit), and what d polls is one of these. So at d it had not been heard of.
//
// In both cases nobody else has served, hence nobody has changed anything, before c. By 5 the word was this object's
// at a and c, if d finds the connection alive. It does not matter how long the client's thread sleeps between the steps, nor
// between e and its own caller: what it has is a value of a time within its call.
//
// The clock is the same on both sides, unless the client lives in another time namespace (time_namespaces(7)); it
// compares once, when it is handed the memory (wire.Lent).
//
// The steps are in this order on processors that reorder loads, too: Go's atomic loads are not passed by later ones, and b
// is a system call in which the kernel takes and gives back a reference to each page, or waits for a device; both are full barriers.
package window
