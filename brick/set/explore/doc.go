// Package explore walks through everything that can happen to a small set of
// members, within bounds, and looks at each state whether the promises of package set hold
// there. It is made of tests only.
//
// The model has two or three members, a configuration store and clients. Members decide by calling the very
// functions of package set (Next, Accepts, Tenure, Promise, Without, With, Vacant, Needed); what is
// modelled is what the engine does with their verdicts. The set holds one object, a list to
// which each request appends its number, at most once.
//
// # Steps
//
//	call        the primary asks a member: alive?, append!, be equal to me! The request or the
//	            answer may be delayed past any number of other steps, lost, or handled twice
//	swap        a Swap of the set's state. It may be under way for any number of steps, take effect
//	            while its sender does not know, or after the sender gave it up or ended
//	restart     a process ends and another begins; its disk stays
//	reboot      the same, and what was not synced (all of the object) is gone, or not
//	tick        time goes on by a part of a lease
//	execute, finish, read, repeat      what clients see
//
// Partitions need no step: a member that is cut off is one that takes none. What goes as it should
// is one step, so that the bound on the length of a path is spent on what goes wrong; delays,
// restarts, reboots, duplicates and slow Swaps have budgets of their own in each Test.
//
// # Search
//
// Breadth first, each state once, recognised by 64 bits of hash; the first
// violation found has a shortest trace. Nothing is random.
package explore
