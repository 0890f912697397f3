package cluster

import (
	"fmt"
	"math/rand/v2"
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

	stopped []Member
}

// The longest and shortest rest between two faults.
const (
	faultRestMin = 100 * time.Millisecond
	faultRestMax = 2 * time.Second
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
	switch kind := s.dice.IntN(20); {
	case kind < 11:
		return s.kill(m)
	case kind < 13:
		if !s.c.signal(m, syscall.SIGSTOP) {
			return m.Name + " has ended"
		}
		s.Pauses++
		s.stopped = append(s.stopped, m)
		return m.Name + " stopped, " + m.Role
	case kind == 13:
		s.Cuts++
		s.c.Isolate(on.Machine)
		return on.Name + " isolated, " + m.Role
	case kind == 14 && other != on:
		s.Cuts++
		s.c.Cut(on.Machine, other.Machine)
		return on.Name + " and " + other.Name + " cut, " + m.Role
	case kind == 15 && other != on:
		s.Cuts++
		s.c.CutOneWay(on.Machine, other.Machine)
		return on.Name + " to " + other.Name + " cut, " + m.Role
	case kind == 16:
		s.Cuts++
		s.c.CutOneWay(on.Machine, s.c.Client)
		return on.Name + " to the client cut, " + m.Role
	case kind == 17 && on.Running():
		s.Daemons++
		on.Kill()
		return on.Name + ": daemon killed, " + m.Role
	case kind == 18:
		s.PowerOff++
		s.Kills += s.sets
		if m.Primary() {
			s.Primary++
		}
		on.PowerOff()
		return on.Name + ": power off, " + m.Role
	}
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
	s.stopped = nil
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
// together, which last for a moment; in the end all is mended.
func (s *Saboteur) Harass(length time.Duration) {
	s.c.t.Helper()
	for end := time.Now().Add(length); time.Now().Before(end); {
		said := s.Strike()
		if s.dice.IntN(4) == 0 {
			s.rest()
			said += "; " + s.Strike()
		}
		s.c.t.Logf("%s %s", time.Now().Format("15:04:05.000"), strings.ReplaceAll(said, s.c.Dir, ""))
		s.rest()
		begin := time.Now()
		s.Mend()
		if took := time.Since(begin); took > mendSlow { // the faults lasted so much longer, and clients may have given up
			s.c.t.Logf("%s mended after %v", time.Now().Format("15:04:05.000"), took.Round(time.Millisecond))
		}
		if s.dice.IntN(3) == 0 {
			s.rest()
		}
	}
}

func (s *Saboteur) rest() {
	<-time.After(faultRestMin + time.Duration(s.dice.Int64N(int64(faultRestMax-faultRestMin))))
}

func (s *Saboteur) String() string {
	return fmt.Sprintf("%d brick processes killed, %d of them primaries; %d paused, %d cuts, %d daemons killed, %d servers without power",
		s.Kills, s.Primary, s.Pauses, s.Cuts, s.Daemons, s.PowerOff)
}
