package client

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// Sets keeps one remote for each set of a volume, but self, and brings them up
// to date with the volume's map.
type Sets struct {
	self volume.SetID // 0: none
	name string
	log  *slog.Logger

	mu struct {
		sync.Mutex
		remotes map[volume.SetID]*remote.Remote
	}
}

// NewSets returns the remotes to all sets but self (0: to all), none so far.
func NewSets(self volume.SetID, name string, log *slog.Logger) *Sets {
	s := &Sets{self: self, name: name, log: log}
	s.mu.remotes = map[volume.SetID]*remote.Remote{}
	return s
}

// Update makes the remotes agree with m and returns them as a map of its own. late: see remote.SetLate; it is for
// who uses the volume, not for its bricks.
// A set that is not in m any more loses its connection.
func (s *Sets) Update(m *spec.Map, late bool) map[volume.SetID]volume.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[volume.SetID]volume.Set{}
	for _, set := range m.Sets {
		if set.ID == s.self {
			continue
		}
		members, primary := targets(&set)
		r := s.mu.remotes[set.ID]
		if r == nil {
			r = remote.New(remote.Config{
				Set: set.ID, Targets: members, Primary: primary, VolumeID: m.ID,
				Timeout: timeout(m), Client: s.name, Name: bricks(&set), Logger: s.log, LocalIO: localIO(m),
			})
			s.mu.remotes[set.ID] = r
		} else {
			r.SetTimeout(timeout(m))
			r.SetLocalIO(localIO(m))
			r.SetTargets(members, primary)
		}
		r.SetLate(late && len(m.Sets) == 1)
		out[set.ID] = r
	}
	for id, r := range maps.Clone(s.mu.remotes) {
		if out[id] == nil {
			delete(s.mu.remotes, id)
			r.Close()
		}
	}
	return out
}

// targets returns a set's members as targets, and which of them serves it, −1 for none.
func targets(set *spec.Set) (all []remote.Target, primary int) {
	serves := set.Primary()
	primary = -1
	for i := range set.Members {
		member := &set.Members[i]
		all = append(all, target(member))
		if member == serves {
			primary = i
		}
	}
	return all, primary
}

func target(member *spec.Member) remote.Target {
	return remote.Target{Addr: member.Addr, BrickID: member.ID, Dial: dialer(member.ID)}
}

// bricks names a set by its bricks.
func bricks(set *spec.Set) string {
	names := make([]string, len(set.Members))
	for i := range set.Members {
		names[i] = set.Members[i].Brick
	}
	return strings.Join(names, ", ")
}

// dialer connects to a brick.
func dialer(brick string) func(ctx context.Context, addr string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) { return wire.Dial(ctx, brick, addr) }
}

// Close ends all connections.
func (s *Sets) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for id, r := range s.mu.remotes {
		errs = append(errs, r.Close())
		delete(s.mu.remotes, id)
	}
	return errors.Join(errs...)
}

// timeout is the option network.timeout.
func timeout(m *spec.Map) time.Duration {
	return spec.Values(m.Options).Duration("network.timeout")
}

// localIO is the option client.local-io.
func localIO(m *spec.Map) bool { return spec.Values(m.Options).Bool("client.local-io") }
