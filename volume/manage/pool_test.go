package manage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// pool are sites whose daemons find each other: each has a loopback address of
// its own, and all the same port.
type pool struct {
	t     *testing.T
	sites []*site
}

// poolNet is a network of this machine that no other pool has, in whatever process,
// as long as the test runs: an abstract socket of its name says whose it is. Package
// quorum's tests and the benchmarks have networks below.
func poolNet(t *testing.T) string {
	t.Helper()
	for {
		name := fmt.Sprintf("127.%d.%d.", 100+rand.N(150), rand.N(250))
		l, err := net.Listen("unix", "@mortar-test-pool-"+name)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return name
	}
}

// newPool makes n sites. Nobody else has their addresses.
func newPool(t *testing.T, n int) *pool {
	t.Helper()
	p := &pool{t: t}
	network := poolNet(t)
	for i := range n {
		s := newSite(t)
		s.addr = network + fmt.Sprint(i+1)
		p.sites = append(p.sites, s)
	}
	return p
}

// run runs the daemon of each site.
func (p *pool) run() {
	p.t.Helper()
	for _, s := range p.sites {
		s.status, s.stop = s.run(s.config())
		s.conn = s.dial()
	}
}

// grow is run, and the first site's daemon takes the others in.
func (p *pool) grow() {
	p.t.Helper()
	p.run()
	for _, s := range p.sites[1:] {
		p.probe(0, s)
	}
	p.settled()
}

func (p *pool) probe(from int, s *site) {
	p.t.Helper()
	if r, err := p.sites[from].conn.PeerProbe(p.t.Context(), api.PeerRequest{Host: s.addr}); err != nil || r.Note != "" {
		p.t.Fatalf("probe of %s: %+v %v", s.addr, r, err)
	}
}

// settled waits until the store has the voters that it should have.
func (p *pool) settled() {
	p.t.Helper()
	p.eventually("the voters are what they should be", func(c api.Cluster) bool {
		voters := 0
		for _, s := range c.Servers {
			if s.Role == api.RoleVoter && s.Answers {
				voters++
			}
		}
		want := 1
		if len(c.Servers) >= 3 {
			want = 3
		}
		return c.Quorum && voters == want
	})
}

// eventually polls the cluster's status, asked of the first site that runs.
func (p *pool) eventually(what string, cond func(api.Cluster) bool) {
	p.t.Helper()
	i := slices.IndexFunc(p.sites, func(s *site) bool { return s.stop != nil })
	var c api.Cluster
	deadline := time.Now().Add(waitMax)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var err error
		if c, err = p.sites[i].conn.ClusterStatus(p.t.Context()); err == nil && cond(c) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not within %v: %s: %+v %v", waitMax, what, c, err)
		}
		<-tick.C
	}
}

// halt ends a site's daemon.
func (s *site) halt() {
	s.stop()
	s.stop = nil
}

// again runs a site's daemon again.
func (s *site) again() {
	s.t.Helper()
	s.status, s.stop = s.run(s.config())
	s.conn = s.dial()
}

// bricks are n bricks on each of the pool's sites.
func (p *pool) bricks(n int) []string {
	var out []string
	for _, s := range p.sites {
		for _, b := range s.bricks(n, "b") {
			out = append(out, strings.Replace(b, "localhost", s.addr, 1))
		}
	}
	return out
}

func TestPoolGrowsAndShrinks(t *testing.T) {
	t.Parallel()
	p := newPool(t, 3)
	p.run()
	first, ctx := p.sites[0].conn, t.Context()
	began := time.Now()
	p.probe(0, p.sites[1])
	t.Logf("second server: %v", time.Since(began))
	p.settled()
	began = time.Now()
	p.probe(1, p.sites[2])
	took := time.Since(began)
	t.Logf("third server: %v", took)
	p.settled()
	if bound := patient(3 * time.Second); took > bound {
		t.Errorf("the third server was usable after %v, more than %v", took, bound)
	}
	for i, s := range p.sites {
		list := must[[]api.Peer](t)(s.conn.PoolList(ctx))
		if len(list) != 3 || !list[2].Self || list[2].ID != s.status.ID {
			t.Errorf("the list at %d: %+v", i, list)
		}
		for _, peer := range list {
			if !peer.Connected || peer.State != api.PeerJoined || !strings.HasPrefix(peer.Host, "127.") {
				t.Errorf("at %d: %+v", i, peer)
			}
		}
	}
	r := must[api.PeerReply](t)(first.PeerProbe(ctx, api.PeerRequest{Host: p.sites[2].addr}))
	if r.Number != api.NotePeer || r.Note != "Host "+p.sites[2].addr+" port 24100 already in peer list" {
		t.Errorf("probed again: %+v", r)
	}
	for n := 2; n > 0; n-- { // each time the first of the others is asked to let the last go
		if _, err := p.sites[0].conn.PeerDetach(ctx, api.PeerRequest{Host: p.sites[n].addr}); err != nil {
			t.Fatal(err)
		}
		p.settled()
		eventually(t, "the detached one is alone", func() bool {
			list, err := p.sites[n].conn.PoolList(ctx)
			return err == nil && len(list) == 1
		})
	}
	ids := map[string]bool{}
	for _, s := range p.sites {
		ids[must[api.Cluster](t)(s.conn.ClusterStatus(ctx)).ID] = true
	}
	if len(ids) != 3 {
		t.Errorf("clusters %v of three that are alone", ids)
	}
	// What was detached is as good as new.
	p.probe(2, p.sites[0])
}

// patient is the bound, or a multiple of it where the race detector slows all.
func patient(bound time.Duration) time.Duration {
	if underRace {
		return 5 * bound
	}
	return bound
}

// The server that began the pool can leave it like any other.
func TestFirstServerLeaves(t *testing.T) {
	t.Parallel()
	p := newPool(t, 2)
	p.grow()
	ctx := t.Context()
	if _, err := p.sites[1].conn.PeerDetach(ctx, api.PeerRequest{Host: p.sites[0].addr}); err != nil {
		t.Fatal(err)
	}
	for _, s := range p.sites {
		eventually(t, "both are alone", func() bool {
			list, err := s.conn.PoolList(ctx)
			return err == nil && len(list) == 1 && list[0].ID == s.status.ID
		})
		s.conn.VolumeSet(ctx, api.SetRequest{Name: "all", Pairs: []string{"cluster.max-voters", "5"}})
	}
}

func TestPeersRefused(t *testing.T) {
	t.Parallel()
	p := newPool(t, 4)
	p.run()
	ctx := t.Context()
	a, b, other, full := p.sites[0], p.sites[1], p.sites[2], p.sites[3]
	p.probe(0, b)
	must[api.Volume](t)(full.conn.VolumeCreate(ctx, api.CreateRequest{Name: "v", Bricks: full.bricks(1, "b")}))
	must[api.Volume](t)(a.conn.VolumeCreate(ctx, api.CreateRequest{Name: "v", Bricks: p.bricks(1)[:2]}))
	fifth := newSite(t)
	fifth.addr = strings.TrimSuffix(a.addr, "1") + "9"
	fifth.status, fifth.stop = fifth.run(fifth.config())
	if _, err := other.conn.PeerProbe(ctx, api.PeerRequest{Host: fifth.addr}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		host  string
		errno int
		want  string // a part of it
	}{
		{other.addr, api.ErrGeneric, other.addr + " is either already part of another cluster or having volumes configured: it belongs to a cluster of 2 servers"},
		{full.addr, api.ErrGeneric, full.addr + " is either already part of another cluster or having volumes configured: it has volumes (1)"},
		{"no-such-host.invalid", api.ErrUnreachable, "Probe returned with Transport endpoint is not connected: the name no-such-host.invalid is not known"},
		{"server.invalid", api.ErrUnreachable, "is not known"},
		{strings.TrimSuffix(a.addr, "1") + "77", api.ErrUnreachable, "Probe returned with Transport endpoint is not connected: no daemon answers on "},
		{"", api.ErrGeneric, "is an invalid address"},
		{"a b", api.ErrGeneric, "is an invalid address"},
		{"a:0", api.ErrGeneric, "is an invalid address"},
	} {
		began := time.Now()
		_, err := a.conn.PeerProbe(ctx, api.PeerRequest{Host: test.host})
		e, ok := err.(*api.Error)
		if !ok || e.Errno != test.errno || !strings.Contains(e.Message, test.want) {
			t.Errorf("probe of %q: %v", test.host, err)
		}
		if took := time.Since(began); took > patient(4*time.Second) {
			t.Errorf("probe of %q was refused after %v", test.host, took)
		}
	}
	for _, host := range []string{a.addr, "localhost"} {
		if r, err := a.conn.PeerProbe(ctx, api.PeerRequest{Host: host}); err != nil || r.Note != "Probe on localhost not needed" || r.Number != api.NoteLocalhost {
			t.Errorf("probe of itself as %s: %+v %v", host, r, err)
		}
	}
	for _, test := range []struct {
		host  string
		errno int
		want  string
	}{
		{a.addr, api.ErrNotPeer, a.addr + " is localhost"},
		{"localhost", api.ErrNotPeer, "localhost is localhost"},
		{"192.0.2.1", api.ErrNotPeer, "192.0.2.1 is not part of cluster"},
		{other.addr, api.ErrNotPeer, other.addr + " is not part of cluster"},
		{b.addr, api.ErrGeneric, "Peer " + b.addr + " hosts one or more bricks. If the peer is in not recoverable state then use either replace-brick or remove-brick command with force to remove all bricks from the peer and attempt the peer detach again."},
	} {
		_, err := a.conn.PeerDetach(ctx, api.PeerRequest{Host: test.host})
		refused(t, err, test.errno, test.want)
	}
	must[api.Volume](t)(a.conn.VolumeDelete(ctx, api.VolumeRequest{Name: "v"}))
	b.halt()
	_, err := a.conn.PeerDetach(ctx, api.PeerRequest{Host: b.addr})
	refused(t, err, api.ErrGeneric, "One of the peers is probably down. Check with 'peer status'")
	if _, err := a.conn.PeerDetach(ctx, api.PeerRequest{Host: b.addr, Force: true}); err != nil {
		t.Error(err)
	}
	b.again() // it finds out by itself
	eventually(t, "the removed one is alone", func() bool {
		list, err := b.conn.PoolList(ctx)
		return err == nil && len(list) == 1 && list[0].ID == b.status.ID
	})
	fifth.stop()
}
