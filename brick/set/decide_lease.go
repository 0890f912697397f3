package set

import (
	"math"
	"time"
)

// Obey is how long a backup obeys the primary from the receipt of a message
// on. It is longer than Lease, which the primary counts from the sending, so that the backup's
// clock may run up to 2 % faster than the primary's. Linux clocks are kept within 0.05 % by
// NTP, and quartz is within 0.01 %.
//
// CLOCK_BOOTTIME runs on while a machine is suspended, and setting the time does not touch it. A virtual machine's may
// stand still while its host has stopped it: then, and only then, such a
// primary can answer reads that are up to that much old (see the head of decide.go).
const Obey = Lease + Lease/50

// Forever is later than any time.
const Forever = time.Duration(math.MaxInt64)

// Promise is what a backup promised last: to obey a process of the primary.
type Promise struct {
	To    Process
	Until time.Duration // by the backup's clock
}

// Give returns the promise after a message of the process to was received: not
// after the reading now of the backup's clock, which is not after the sending of the
// answer.
//
// Invariant: Until never goes back.
func (p Promise) Give(to Process, now time.Duration) Promise {
	return Promise{To: to, Until: max(p.Until, now+Obey)}
}

// Tenure is how long a primary may serve. It is of one epoch, and not safe for
// use by several goroutines at a time.
type Tenure struct {
	needed []string
	sent   map[string]time.Duration // when the newest message was sent that the member has answered
}

// Need sets the members that have to answer, as Needed returns them. What they
// answered before stays good.
func (t *Tenure) Need(members []string) { t.needed = members }

// Answered notes that a member has answered a message in this epoch that was
// sent at this time: read from the clock before the sending.
func (t *Tenure) Answered(member string, sent time.Duration) {
	if t.sent == nil {
		t.sent = make(map[string]time.Duration)
	}
	if old, ok := t.sent[member]; !ok || sent > old {
		t.sent[member] = sent
	}
}

// Until returns the end of the tenure: Forever without anyone who has to
// answer, for then nobody else can promote himself; -Forever while one has not answered yet.
func (t *Tenure) Until() time.Duration {
	until := Forever
	for _, m := range t.needed {
		sent, ok := t.sent[m]
		if !ok {
			return -Forever
		}
		until = min(until, sent+Lease)
	}
	return until
}

// MayServe reports whether the primary may answer. now is read from the clock
// after what is answered was read, or after the last backup has answered the change.
//
// Invariant: what is answered was true at now, when by (R) nobody else had changed
// anything. So the answer may leave late.
func (t *Tenure) MayServe(now time.Duration) bool { return now < t.Until() }

// Acceptance is what a member does with a message of a primary.
type Acceptance uint8

// The acceptances.
const (
	Refuse Acceptance = iota + 1 // it is of an epoch that is over: tell the sender the newer one
	Adopt                        // persist epoch and primary, stop serving and trying, then obey
	Accept                       // obey
)

// Accepts decides about a message of the primary of an epoch. known and
// knownPrimary are from the member's disk, the newest it saw; tried is the epoch of its own Swap
// that has not returned, 0 without.
//
// Invariant: known never goes back, and no message of an older epoch than known
// or tried is answered otherwise than by a refusal. A success of the Swap tried counts for nothing
// if known has reached tried meanwhile.
//
// Two primaries of one epoch can't be; should it seem so, the second is refused.
func Accepts(known Epoch, knownPrimary string, tried, epoch Epoch, primary string) Acceptance {
	switch {
	case epoch < known || epoch < tried || epoch == 0:
		return Refuse
	case epoch > known:
		return Adopt
	case primary != knownPrimary:
		return Refuse
	}
	return Accept
}
