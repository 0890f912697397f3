package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Saboteur harms a replicated volume at random. At least half of the kills are of a primary.
type Saboteur struct {
	c      *Cluster
	volume string
	sets   int
	dice   *rand.Rand

	Kills    int // of brick processes, with SIGKILL
	Primary  int // of them, of primaries
	Pauses   int // SIGSTOP
	Cuts     int // of the network
	Daemons  int // daemons killed
	PowerOff int // servers without power, each a kill of all its bricks too
	Rests    int // how often all clients were served again before the next fault

	stopped []Member
	lasting bool // one of the faults is more than a moment
}

// The longest and shortest rest between two faults, and how long one lasts.
const (
	faultRestMin = 100 * time.Millisecond
	faultRestMax = 2 * time.Second
	killRestMax  = 200 * time.Millisecond // between a kill and what follows, at least nothing
)

// mendSlow is how long it may take to take faults back without a word about it.
const mendSlow = 3 * time.Second

// Strike does some harm and says what. It waits for nothing but what the harm needs.
func (s *Saboteur) Strike() string {
	s.c.t.Helper()
	m, ok := s.victim()
	if !ok {
		return "nobody is there to be harmed"
	}
	on := s.c.On(m)
	other := s.c.Servers[s.dice.IntN(len(s.c.Servers))]
	kind := s.dice.IntN(faultKills + lastingKinds)
	if kind < faultKills {
		return s.kill(m)
	}
	return s.lastingHarm(kind-faultKills, m, on, other)
}

// Of so many faults so many are kills of a brick process, and nothing else: they are
// mended in a moment, while of the others a few take most of the time.
const (
	faultKills   = 24
	lastingKinds = 7
)

// lastingHarm does one of lastingKinds kinds of harm that go on until Mend.
func (s *Saboteur) lastingHarm(kind int, m Member, on, other *Server) string {
	s.c.t.Helper()
	s.lasting = true
	switch {
	case kind == 0:
		if !s.c.signal(m, syscall.SIGSTOP) {
			return m.Name + " has ended"
		}
		s.Pauses++
		s.stopped = append(s.stopped, m)
		return m.Name + " stopped, " + m.Role
	case kind == 1:
		s.Cuts++
		s.c.Isolate(on.Machine)
		return on.Name + " isolated, " + m.Role
	case kind == 2 && other != on:
		s.Cuts++
		s.c.Cut(on.Machine, other.Machine)
		return on.Name + " and " + other.Name + " cut, " + m.Role
	case kind == 3 && other != on:
		s.Cuts++
		s.c.CutOneWay(on.Machine, other.Machine)
		return on.Name + " to " + other.Name + " cut, " + m.Role
	case kind == 4:
		s.Cuts++
		s.c.CutOneWay(on.Machine, s.c.Client)
		return on.Name + " to the client cut, " + m.Role
	case kind == 5 && on.Running():
		s.Daemons++
		on.Kill()
		return on.Name + ": daemon killed, " + m.Role
	case kind == 6:
		s.PowerOff++
		s.count(on)
		on.PowerOff()
		return on.Name + ": power off, " + m.Role
	}
	s.lasting = false
	return s.kill(m)
}

func (s *Saboteur) kill(m Member) string {
	if !s.c.signal(m, syscall.SIGKILL) {
		return m.Name + " has ended"
	}
	s.Kills++
	if m.Primary() {
		s.Primary++
	}
	return m.Name + " killed, " + m.Role
}

// count counts the brick processes of a server, which are about to be killed.
func (s *Saboteur) count(on *Server) {
	members, _ := s.c.Members(s.volume)
	for _, m := range members {
		if s.c.On(m) != on || !s.c.signal(m, 0) {
			continue
		}
		s.Kills++
		if m.Primary() {
			s.Primary++
		}
	}
}

// victim picks a set's primary in two of three cases, else any member that runs.
func (s *Saboteur) victim() (Member, bool) {
	members, err := s.c.Members(s.volume)
	if err != nil {
		return Member{}, false
	}
	set := 1 + s.dice.IntN(s.sets)
	wantPrimary := s.dice.IntN(3) > 0
	var found []Member
	for _, m := range members {
		if m.PID > 0 && (wantPrimary && m.Set == set && m.Primary() || !wantPrimary) {
			found = append(found, m)
		}
	}
	if len(found) == 0 {
		return Member{}, false
	}
	return found[s.dice.IntN(len(found))], true
}

// Mend takes all faults back but those that the volume mends by itself.
func (s *Saboteur) Mend() {
	s.c.t.Helper()
	s.c.Restore()
	for _, m := range s.stopped {
		s.c.signal(m, syscall.SIGCONT)
	}
	s.stopped, s.lasting = nil, false
	for _, server := range s.c.Servers {
		if !server.Running() {
			server.PowerOn()
		}
	}
	for _, server := range s.c.Servers {
		server.AwaitAnswer()
	}
}

// Harass strikes again and again for so long, each time one or two faults
// together, which last for a moment, and then waits until all is served again; in the end all is mended.
func (s *Saboteur) Harass(length time.Duration, ledger *Ledger) {
	s.c.t.Helper()
	for end := time.Now().Add(length); time.Now().Before(end); {
		said := s.Strike()
		if s.dice.IntN(4) == 0 {
			s.rest()
			said += "; " + s.Strike()
		}
		s.c.t.Logf("%s %s", time.Now().Format(clockFormat), strings.ReplaceAll(said, s.c.Dir, ""))
		s.rest()
		begin := time.Now()
		s.Mend()
		if took := time.Since(begin); took > mendSlow { // the faults lasted so much longer, and clients may have given up
			s.c.t.Logf("%s mended after %v", time.Now().Format(clockFormat), took.Round(time.Millisecond))
		}
		s.recovered(ledger)
	}
}

// clockFormat is how the tests' logs tell the time, to be found again in the processes' logs.
const clockFormat = "15:04:05.000"

// recoverSlow is how long it may take until all is served again, all faults mended, without a word about it.
const recoverSlow = 5 * time.Second

// recovered waits until each client's changes are acknowledged again, and one time in three until
// all members are in sync too: the next fault meets a set that is whole, or one that heals.
func (s *Saboteur) recovered(ledger *Ledger) {
	s.c.t.Helper()
	begin := time.Now()
	s.revive()
	ledger.ProgressOfAll(recoverChanges)
	served := time.Since(begin)
	if s.dice.IntN(3) == 0 {
		s.c.AwaitInSync(s.volume)
	}
	if took := time.Since(begin); took > recoverSlow {
		s.c.t.Logf("%s all served after %v, whole after %v", time.Now().Format(clockFormat), served.Round(time.Millisecond), took.Round(time.Millisecond))
	}
	s.Rests++
}

// recoverChanges is how many changes of each client make it one that is served.
const recoverChanges = 2

// revive has bricks that are down started now, as an administrator does: a daemon leaves what dies
// every few seconds down for up to half a minute, which the next fault need not wait for.
func (s *Saboteur) revive() {
	s.c.t.Helper()
	members, err := s.c.Members(s.volume)
	if err == nil && slices.ContainsFunc(members, func(m Member) bool { return m.PID <= 0 }) {
		s.c.Servers[0].Run("volume", "start", s.volume, "force")
	}
}

// rest waits, for longer if a fault is to last.
func (s *Saboteur) rest() {
	least, longest := time.Duration(0), killRestMax
	if s.lasting {
		least, longest = faultRestMin, faultRestMax
	}
	<-time.After(least + time.Duration(s.dice.Int64N(int64(longest-least))))
}

func (s *Saboteur) String() string {
	return fmt.Sprintf("%d brick processes killed, %d of them primaries; %d paused, %d cuts, %d daemons killed, %d servers without power; all served in between %d times",
		s.Kills, s.Primary, s.Pauses, s.Cuts, s.Daemons, s.PowerOff, s.Rests)
}
