package set

import (
	"fmt"
	"slices"
	"time"

	"github.com/mortarfs/mortar/volume/spec"
)

// This file and decide_lease.go, decide_seats.go hold the decisions of a set as
// pure functions: who may make himself primary, how long one obeys and reigns, who is in
// sync. The engine finds out the facts and carries out the verdicts. Times are
// readings of CLOCK_BOOTTIME, since an origin that does not matter.
//
// A process "reigns" in an epoch when the Swap that names its member in that epoch has
// returned success to that very process. Only who reigns sends messages as primary.
//
// Invariant (R): once a process reigns in an epoch, no process of an older
// epoch may serve, from then on for ever. By induction over the reigns: the promoter P is
// in sync in the state that its Swap replaces. An older primary Q that could still serve counts P among
// those that must answer it, because lists grow only by Swaps of who
// reigns, and Q counts a member from before it sends the Swap that seats it (see Needed).
// P's promise to Q is over when P sends its Swap (Next), P answers no older epoch
// while the Swap is under way (Accepts with tried), and when it has reigned the new epoch
// is on P's disk, so that no process of P answers Q again.
//
// What does not rest on clocks: a change is acknowledged when all who are in sync
// have answered it in its epoch, so one of an epoch that is over never is. Clocks that err by more than
// Obey allows for can only make a read old.

// Act is what a member does next.
type Act uint8

// The acts. After each of them Next is asked again when there is news: another
// state, a promise given, a process gone, Until reached.
const (
	Wait    Act = iota + 1 // nothing can be done by this member before there is news, or until Until
	Follow                 // obey who is primary, until Until at least; 0: for ever
	Serve                  // go on: this process reigns
	Promote                // Swap to Next; on success persist it and Reigned, take over
	Resume                 // the same after all have lost what was not synced; the others are made equal to this one
	Absent                 // not in sync: ask the primary to be taken back
)

// Verdict is what Next finds.
type Verdict struct {
	Act   Act
	Next  spec.SetState // of Promote and Resume
	Until time.Duration // of Wait and Follow: ask again then; 0: only with news
	Why   string        // for people
}

// Facts are what Next decides by.
type Facts struct {
	State spec.SetState // as the Authority told it last. An outdated one does no harm: the Swap fails
	Self  string        // this member
	Boot  string        // of this machine, now; never ""
	Lost  bool          // the member has lost what was not synced, or may have, by other means than a boot: emptied, fsync failed

	Now     time.Duration
	Started time.Duration // when this process did
	Seen    time.Duration // when this process first saw State.Epoch

	// Restarted: an earlier process of this brick may have given promises. It
	// has not if there is no epoch on the disk, for one is there before the first answer.
	Restarted bool
	Promise   Promise // this process's last; zero: it gave none
	// PrimaryGone: the very process Promise.To has ended, for certain. That
	// another process of the member has ended, or that none can be reached, is not that.
	PrimaryGone bool

	// Reigned is the newest epoch in which a process of this brick reigned, from
	// the disk: written when its Swap had returned success, before it did anything else. A state
	// that was read does not count, even if it names this member.
	Reigned Epoch
	Reigns  Epoch // the epoch in which this process reigns; 0: it does not

	// Present is what other members answered when they were asked after State was
	// read. An older answer may tell of a boot before the one the seat names.
	Present  map[string]Presence
	Arbiters map[string]bool // members without contents
}

// Presence is what another member told of itself.
type Presence struct {
	Boot string // of its machine
	Lost bool   // as Facts.Lost
}

// Process is a process of a member that reigns.
type Process struct {
	Member string
	Life   string // spec.Member.Life
	Epoch  Epoch
}

// Grace is how long members of a new set leave the first epoch to the first of them.
const Grace = time.Second

// Next decides what the member does.
//
// Invariant: only a member that is in sync and whole promotes itself, always into
// a new epoch (Resume: in sync, and nobody is whole).
//
// Invariant: no promise of this member, to whomever, is unexpired when it promotes itself, unless
// the process that it was given to has ended. Three cases differ:
//
//   - This process gave promises: the last covers all (Until grows), and if
//     its receiver has ended, older promises went to processes of older epochs, which
//     can't serve by (R), as the receiver reigned.
//   - It gave none but is not the brick's first process: the earlier ones may have given one up to
//     this one's start. It counts from there.
//   - The brick reigned in State.Epoch itself: then it gave no promise since, for
//     there was no newer epoch to obey, and those of before are void by (R). Its process that reigned
//     has ended, as there is one process of a brick at a time. So it may
//     take a new epoch at once, and no clock is asked. That the state names it is not enough: a
//     Swap that was given up may take effect late, after the member has promised the older
//     primary anew and has forgotten it by a restart. Hence Reigned.
func Next(f Facts) Verdict {
	s := f.State
	if f.Reigns != 0 && f.Reigns == s.Epoch && s.Primary == f.Self && !f.Lost {
		return Verdict{Act: Serve, Why: fmt.Sprintf("primary in epoch %d", s.Epoch)}
	}
	seat, in := s.Seat(f.Self)
	switch {
	case !in && s.Primary == "":
		return Verdict{Act: Wait, Why: "not in sync, and there is no primary yet"}
	case !in:
		return Verdict{Act: Absent, Why: "not in sync"}
	case Hollow(seat, f.Boot, f.Lost):
		return afterLoss(f)
	case f.Arbiters[f.Self]:
		return Verdict{Act: Follow, Why: "an arbiter never serves: it has no contents"}
	case s.Epoch == 0:
		if first := firstWithData(f); first != f.Self && f.Now < f.Started+Grace {
			return Verdict{Act: Wait, Until: f.Started + Grace, Why: "new set: " + first + " may take the first epoch"}
		}
		return promote(f, "the set is new")
	case s.Primary == f.Self && f.Reigned == s.Epoch:
		return promote(f, "it was the primary before its restart")
	}
	until, why := obliged(f)
	if f.Now < until {
		return Verdict{Act: Follow, Until: until, Why: why}
	}
	return promote(f, fmt.Sprintf("nothing was heard of the primary of epoch %d in time", s.Epoch))
}

// obliged returns until when f.Self may not promote itself.
func obliged(f Facts) (time.Duration, string) {
	until, why := time.Duration(0), "free"
	switch {
	case f.Promise.To != Process{} && f.PrimaryGone:
		if f.Promise.To.Epoch == f.State.Epoch {
			return 0, "the primary's process has ended"
		}
	case f.Promise.To != Process{}:
		until, why = f.Promise.Until, fmt.Sprintf("promised in epoch %d", f.Promise.To.Epoch)
	case f.Restarted:
		until, why = f.Started+Obey, "restarted: counts as having promised"
	}
	// A primary that is just taking over gets its time. This is courtesy: it can't serve without this
	// member's answer.
	if grace := f.Seen + Obey; f.State.Primary != f.Self && grace > until {
		until, why = grace, fmt.Sprintf("epoch %d has just begun", f.State.Epoch)
	}
	return until, why
}

// afterLoss decides for a member in sync that has lost what was not synced. One that is in
// sync and whole has everything that was acknowledged, so it has to serve.
//
// Invariant: Resume only if all members with contents that are in sync have lost what
// was not synced. The processes that served, or were promised anything, have ended
// with that, so no clock is asked. An arbiter that is whole does not stand in the way: what it has is not enough
// to serve.
//
// That a seat is hollow stays true while the state does, for a machine never has
// a boot ID again; and the Swap fails if the member has taken a new seat since.
func afterLoss(f Facts) Verdict {
	s := f.State
	for _, seat := range s.InSync {
		p, told := f.Present[seat.Member]
		switch {
		case seat.Member == f.Self || f.Arbiters[seat.Member]:
		case !told && s.Primary == f.Self:
			return Verdict{Act: Wait, Why: "it lost what was not synced; " + seat.Member + " may have it"}
		case !told:
			return Verdict{Act: Absent, Why: "it lost what was not synced"}
		case !Hollow(seat, p.Boot, p.Lost) && s.Primary == f.Self:
			return Verdict{Act: Wait, Why: "it lost what was not synced; " + seat.Member + " has it and has to take over"}
		case !Hollow(seat, p.Boot, p.Lost):
			return Verdict{Act: Absent, Why: "it lost what was not synced; " + seat.Member + " has it"}
		}
	}
	if chosen := chosenAfterLoss(f); chosen != f.Self {
		return Verdict{Act: Absent, Why: "all lost what was not synced; " + chosen + " resumes"}
	}
	v := promote(f, "all lost what was not synced")
	v.Act = Resume
	v.Next.Power++
	return v
}

// chosenAfterLoss is the member that resumes: the primary, which made the last changes first, or
// else the first with contents. All come to the same, since it depends on the state alone.
func chosenAfterLoss(f Facts) string {
	if _, in := f.State.Seat(f.State.Primary); in && !f.Arbiters[f.State.Primary] {
		return f.State.Primary
	}
	return firstWithData(f)
}

// firstWithData returns the first member in sync that has contents, "" if none has.
func firstWithData(f Facts) string {
	for _, seat := range f.State.InSync {
		if !f.Arbiters[seat.Member] {
			return seat.Member
		}
	}
	return ""
}

// promote makes f.Self the primary of a new epoch. The list stays: who does not
// answer the new primary is taken out by it (Without), under the quorum's rule. In particular the
// old primary stays until the new one reigns, or (R) would not hold for it.
func promote(f Facts, why string) Verdict {
	next := f.State
	next.InSync = slices.Clone(next.InSync)
	next.Epoch++
	next.Primary = f.Self
	return Verdict{Act: Promote, Next: With(next, f.Self, f.Boot), Why: why}
}
