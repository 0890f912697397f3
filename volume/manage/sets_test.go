package manage

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// replicated makes and starts a volume "v" of one set with a brick on each site.
func (p *pool) replicated(r api.CreateRequest) *spec.Map {
	p.t.Helper()
	ctx := p.t.Context()
	r.Name, r.Bricks = "v", p.bricks(1)
	must[api.Volume](p.t)(p.sites[0].conn.VolumeCreate(ctx, r))
	must[api.Volume](p.t)(p.sites[0].conn.VolumeStart(ctx, api.VolumeRequest{Name: "v"}))
	return must[*spec.Map](p.t)(api.FetchMap(ctx, []string{p.sites[0].addr}, "v"))
}

// reign makes the member the primary of the set's next epoch.
func reign(s spec.SetState, member string) spec.SetState {
	s.Epoch, s.Primary = s.Epoch+1, member
	return s
}

func TestReplicatedVolume(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	st, _ := s.run(s.config())
	c, ctx := s.dial(), t.Context()
	for _, test := range []struct {
		r        api.CreateRequest
		sets, of int
		arbiters string // of each set, by member
	}{
		{api.CreateRequest{Name: "two", Bricks: s.bricks(4, "a"), Replica: 2}, 2, 2, "false false"},
		{api.CreateRequest{Name: "three", Bricks: s.bricks(3, "b"), Replica: 3}, 1, 3, "false false false"},
		{api.CreateRequest{Name: "old", Bricks: s.bricks(6, "c"), Replica: 3, Arbiter: 1}, 2, 3, "false false true"},
		{api.CreateRequest{Name: "new", Bricks: s.bricks(3, "d"), Replica: 2, Arbiter: 1}, 1, 3, "false false true"},
	} {
		test.r.Force = true
		v := must[api.Volume](t)(c.VolumeCreate(ctx, test.r))
		if v.Replica != test.of || v.Arbiter != test.r.Arbiter || v.Bricks[test.of-1].Arbiter != (test.r.Arbiter > 0) {
			t.Errorf("%+v", v)
		}
		m := must[*spec.Map](t)(api.FetchMap(ctx, []string{st.Listen}, test.r.Name))
		if len(m.Sets) != test.sets || len(m.Layouts[0].Ranges) != test.sets {
			t.Fatalf("%s: %+v", test.r.Name, m)
		}
		for i, set := range m.Sets {
			var ids, arbiters []string
			for j, member := range set.Members {
				ids, arbiters = append(ids, member.ID), append(arbiters, fmt.Sprint(member.Arbiter))
				if member.Brick != test.r.Bricks[i*test.of+j] {
					t.Errorf("%s: brick %s in set %d", test.r.Name, member.Brick, set.ID)
				}
			}
			if strings.Join(arbiters, " ") != test.arbiters || !set.State.Equal(spec.NewSetState(ids)) || int(set.ID) != i+1 {
				t.Errorf("%s: set %+v", test.r.Name, set)
			}
		}
		_, err := c.VolumeSet(ctx, api.SetRequest{Name: v.Name, Pairs: []string{"cluster.quorum-count", "4"}})
		refused(t, err, api.ErrGeneric, fmt.Sprintf("4 in cluster.quorum-count 4 is out of range [1 - %d]", test.of))
		if o := must[[]api.OptionValue](t)(c.VolumeGet(ctx, api.GetRequest{Name: v.Name, Key: "cluster.quorum-type"})); o[0].Value != "auto" || o[0].Default {
			t.Errorf("%s: quorum %+v", v.Name, o)
		}
		_, err = c.VolumeHealInfo(ctx, api.VolumeRequest{Name: v.Name})
		refused(t, err, api.ErrGeneric, "Volume "+v.Name+" is not started.")
		must[api.Volume](t)(c.VolumeDelete(ctx, api.VolumeRequest{Name: test.r.Name}))
		_, _, err = api.ReadSetState(ctx, []string{st.Listen}, v.ID, 1)
		refused(t, err, api.ErrNoVolume, "Volume "+v.ID+" does not exist")
	}
	v := must[api.Volume](t)(c.VolumeCreate(ctx, api.CreateRequest{Name: "plain", Bricks: s.bricks(2, "e")}))
	_, _, err := api.ReadSetState(ctx, []string{st.Listen}, v.ID, 1)
	refused(t, err, api.ErrInvalid, "Volume "+v.ID+" has no set 1 of several members.")
	_, err = c.VolumeSet(ctx, api.SetRequest{Name: "plain", Pairs: []string{"cluster.quorum-count", "1"}})
	refused(t, err, api.ErrGeneric, "Cannot set cluster.quorum-count for a non-replicate volume.")
	_, err = c.VolumeHeal(ctx, api.HealRequest{Name: "plain"})
	refused(t, err, api.ErrGeneric, "Volume plain is not of type replicate/disperse")
}

// Members change their set's state through any daemon, one at a time, and all
// daemons' maps show it.
func TestSetState(t *testing.T) {
	t.Parallel()
	p := newPool(t, 3)
	p.grow()
	ctx := t.Context()
	m := p.replicated(api.CreateRequest{Replica: 3})
	set := m.Sets[0]
	members := set.Members
	var lives []string
	for _, member := range members {
		lives = append(lives, member.Life)
	}
	if lives[0] == "" || lives[0] == lives[1] || members[0].Addr == "" {
		t.Errorf("members %+v", members)
	}
	at := func(i int) []string { return []string{p.sites[i].socket} }
	now, first, err := api.ReadSetState(ctx, at(1), m.ID, 1)
	if err != nil || !now.Equal(set.State) || first < 1 {
		t.Fatalf("%+v %d %v", now, first, err)
	}
	second, err := api.SwapSetState(ctx, []string{p.sites[2].addr}, m.ID, 1, first, reign(now, members[2].ID))
	if err != nil || second <= first {
		t.Fatalf("%d after %d: %v", second, first, err)
	}
	for i := range p.sites {
		got, revision, err := api.ReadSetState(ctx, at(i), m.ID, 1)
		if err != nil || got.Epoch != 1 || got.Primary != members[2].ID || revision != second {
			t.Errorf("%+v %d %v", got, revision, err)
		}
	}
	if _, err := api.SwapSetState(ctx, at(0), m.ID, 1, first, reign(now, members[0].ID)); !api.IsConflict(err) {
		t.Errorf("a swap of an old revision: %v", err)
	}
	now = reign(now, members[2].ID)
	wrong := now
	wrong.InSync = now.InSync[:1]
	wrong.Primary = now.InSync[1].Member
	wrong.Epoch++
	_, err = api.SwapSetState(ctx, at(0), m.ID, 1, second, wrong)
	refused(t, err, api.ErrInvalid, "Set 1 of volume v can't have this state: the primary "+wrong.Primary+" is not in sync.")
	_, err = api.SwapSetState(ctx, at(0), newUUID(), 1, second, now)
	if e, ok := err.(*api.Error); !ok || e.Errno != api.ErrNoVolume {
		t.Errorf("a swap in no volume: %v", err)
	}
	// The same request a second time, as after a lost answer, has the first one's outcome.
	r := api.SwapRequest{SetRef: api.SetRef{Volume: m.ID, Set: 1}, Revision: second, Next: reign(now, members[0].ID), ID: "once"}
	a := must[api.SetStateReply](t)(p.sites[0].conn.SwapSetState(ctx, r))
	b := must[api.SetStateReply](t)(p.sites[1].conn.SwapSetState(ctx, r))
	if a.Revision != b.Revision || !a.State.Equal(b.State) || a.Revision == second {
		t.Errorf("%+v and %+v", a, b)
	}
	contended(t, p, m)
	withoutMajority(t, p, m)
}

// contended has the members compete: each epoch has one winner.
func contended(t *testing.T, p *pool, m *spec.Map) {
	t.Helper()
	ctx := t.Context()
	const rounds = 8
	var mu sync.Mutex
	won := map[uint64]string{}
	var wg sync.WaitGroup
	for i, s := range p.sites {
		wg.Go(func() {
			me := m.Sets[0].Members[i].ID
			for wins := 0; wins < rounds; {
				now, revision, err := api.ReadSetState(ctx, []string{s.socket}, m.ID, 1)
				if err != nil {
					t.Error(err)
					return
				}
				next := reign(now, me)
				switch _, err := api.SwapSetState(ctx, []string{s.socket}, m.ID, 1, revision, next); {
				case api.IsConflict(err):
				case err != nil:
					t.Error(err)
					return
				default:
					mu.Lock()
					if other, ok := won[next.Epoch]; ok {
						t.Errorf("epoch %d has the primaries %s and %s", next.Epoch, other, me)
					}
					won[next.Epoch] = me
					mu.Unlock()
					wins++
				}
			}
		})
	}
	wg.Wait()
	if len(won) != 3*rounds {
		t.Errorf("%d epochs", len(won))
	}
}

// withoutMajority: a daemon that finds no majority says so at once, and one that
// is gone is passed over.
func withoutMajority(t *testing.T, p *pool, m *spec.Map) {
	t.Helper()
	ctx := t.Context()
	targets := []string{p.sites[0].socket, p.sites[1].addr, p.sites[2].addr}
	p.sites[0].halt()
	now, revision, err := api.ReadSetState(ctx, targets, m.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	if revision, err = api.SwapSetState(ctx, targets, m.ID, 1, revision, reign(now, m.Sets[0].Members[1].ID)); err != nil {
		t.Fatal(err)
	}
	p.sites[2].halt()
	_, _ = p.sites[1].conn.SetState(ctx, api.SetRef{Volume: m.ID, Set: 1}) // it finds out
	began := time.Now()
	_, err = p.sites[1].conn.SetState(ctx, api.SetRef{Volume: m.ID, Set: 1})
	if took := time.Since(began); err == nil || took > patient(500*time.Millisecond) {
		t.Errorf("without a majority: %v after %v", err, took)
	}
	_, err = p.sites[1].conn.SwapSetState(ctx, api.SwapRequest{
		SetRef: api.SetRef{Volume: m.ID, Set: 1}, Revision: revision, Next: reign(now, m.Sets[0].Members[1].ID), ID: "no majority"})
	if err == nil || api.IsConflict(err) || api.IsUnknown(err) {
		t.Errorf("a swap without a majority: %v", err)
	}
}

// How soon another daemon's map tells that a brick's process has ended, and of
// a set's new state: a failover waits for both.
func TestEndIsToldAtOnce(t *testing.T) { // not beside others: it measures
	p := newPool(t, 3)
	p.grow()
	ctx := t.Context()
	m := p.replicated(api.CreateRequest{Replica: 3})
	maps := watch(t, p.sites[1].addr)
	m = maps.next()
	quickest := map[string]time.Duration{} // other packages' tests may run beside this one: the best of three counts
	until := func(what string, cond func(spec.Member, spec.SetState) bool) {
		t.Helper()
		began := time.Now()
		m = maps.until(what, func(m *spec.Map) bool { return cond(m.Sets[0].Members[0], m.Sets[0].State) })
		took := time.Since(began)
		t.Logf("%s: told after %v", what, took)
		if best, ok := quickest[what]; !ok || took < best {
			quickest[what] = took
		}
	}
	for range 3 {
		life := m.Sets[0].Members[0].Life
		pid := p.sites[0].processes()[0].pid
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		until("the end", func(b spec.Member, _ spec.SetState) bool { return b.Ended == life })
		if m.Sets[0].Members[0].Addr == "" {
			m = maps.until("the next process", func(m *spec.Map) bool { return m.Sets[0].Members[0].Addr != "" })
		}
		if now := m.Sets[0].Members[0]; now.Life == "" || now.Life == life || now.Ended != life {
			t.Errorf("the next process: %+v", now)
		}
		state, revision, err := api.ReadSetState(ctx, []string{p.sites[0].socket}, m.ID, 1)
		if err == nil {
			go api.SwapSetState(ctx, []string{p.sites[0].socket}, m.ID, 1, revision, reign(state, m.Sets[0].Members[2].ID))
			until("the state", func(_ spec.Member, s spec.SetState) bool { return s.Epoch == state.Epoch+1 })
		} else {
			t.Error(err)
		}
	}
	for what, took := range quickest {
		if took > patient(100*time.Millisecond) {
			t.Errorf("%s: told after %v at best", what, took)
		}
	}
	before := m
	p.sites[0].halt()
	p.sites[0].again()
	m = must[*spec.Map](t)(api.FetchMap(ctx, []string{p.sites[1].addr}, "v"))
	if m.Sets[0].Members[0] != before.Sets[0].Members[0] {
		t.Errorf("a restart of the daemon made %+v of %+v", m.Sets[0].Members[0], before.Sets[0].Members[0])
	}
	// Stopped in order, by the last word its process has ended too.
	must[api.Volume](t)(p.sites[1].conn.VolumeStop(ctx, api.VolumeRequest{Name: "v"}))
	m = must[*spec.Map](t)(api.FetchMap(ctx, []string{p.sites[1].addr}, "v"))
	for i, b := range m.Sets[0].Members {
		if b.Life != "" || b.Ended != before.Sets[0].Members[i].Life {
			t.Errorf("after the stop: %+v", b)
		}
	}
}
