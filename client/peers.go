package client

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"

	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/volume/spec"
)

// Peers keeps a connection to each other member of a brick's own set, and brings
// them up to date with the volume's map.
type Peers struct {
	self, name string
	log        *slog.Logger

	mu struct {
		sync.Mutex
		peers map[string]*Peer // by the members' IDs
	}
}

// Peer is another member of the own set. It is a set.Peer.
type Peer struct{ r *remote.Remote }

// Call carries a message of at most wire.PeerMessageMax bytes, with at most volume.IOMax
// bytes of data, to the member and brings its answer. It does not wait for a connection: without one
// it fails with Reason Unavailable. After a failure the message may have been handled, may be
// yet, or twice.
func (p *Peer) Call(ctx context.Context, msg, data []byte) ([]byte, error) {
	return p.r.Peer(ctx, msg, data)
}

// Start begins a Call; what it returns waits for the answer, and must be called by the
// same goroutine.
func (p *Peer) Start(ctx context.Context, msg, data []byte) (wait func() ([]byte, error), err error) {
	c, err := p.r.StartPeer(ctx, msg, data)
	if err != nil {
		return nil, err
	}
	return c.Wait, nil
}

// Up reports whether the member can be asked right now, as far as is known.
func (p *Peer) Up() bool { return p.r.Up() }

// NewPeers returns the peers of the brick with this ID, none so far; name is how
// it introduces itself.
func NewPeers(self, name string, log *slog.Logger) *Peers {
	p := &Peers{self: self, name: name, log: log}
	p.mu.peers = map[string]*Peer{}
	return p
}

// Update makes the peers agree with m and returns them by their IDs, in a map of its
// own. Who is no member any more loses its connection; its Peer fails from then on.
func (p *Peers) Update(m *spec.Map) map[string]*Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]*Peer{}
	for i := range m.Sets {
		set := &m.Sets[i]
		if set.Member(p.self) == nil {
			continue
		}
		for j := range set.Members {
			if member := &set.Members[j]; member.ID != p.self {
				out[member.ID] = p.peerLocked(m, set, member)
			}
		}
	}
	for id, peer := range p.mu.peers {
		if out[id] == nil {
			_ = peer.r.Close() // it never fails
		}
	}
	p.mu.peers = maps.Clone(out)
	return out
}

func (p *Peers) peerLocked(m *spec.Map, set *spec.Set, member *spec.Member) *Peer {
	peer := p.mu.peers[member.ID]
	if peer == nil {
		return &Peer{remote.New(remote.Config{
			Set: set.ID, Targets: []remote.Target{target(member)}, VolumeID: m.ID, Member: true,
			Timeout: timeout(m), Client: p.name, Name: member.Brick, Logger: p.log,
		})}
	}
	peer.r.SetTimeout(timeout(m))
	peer.r.SetTargets([]remote.Target{target(member)}, 0)
	return peer
}

// Close ends all connections.
func (p *Peers) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, peer := range p.mu.peers {
		errs = append(errs, peer.r.Close())
	}
	p.mu.peers = map[string]*Peer{}
	return errors.Join(errs...)
}
