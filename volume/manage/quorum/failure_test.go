package quorum

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"
)

func TestFailures(t *testing.T) {
	t.Parallel()
	p := newPool(t, 4)
	a, d := p[0], p[3]
	a.put("mortar/a", "1")
	if h := d.Health(context.Background()); !h.Quorum || len(h.Voters) != 3 {
		t.Fatalf("a client finds %+v", h)
	}
	leader := slices.IndexFunc(p[:3], func(v *server) bool { return v.leads() })
	gone := p[leader]
	begun := time.Now()
	gone.kill()
	p[(leader+1)%3].eventually("follow another leader", func(ctx context.Context) error {
		if h := p[(leader+1)%3].Health(ctx); !h.Quorum || !slices.ContainsFunc(h.Voters, func(v VoterHealth) bool { return v.Leads }) {
			return fmt.Errorf("the health is %+v", h)
		}
		return nil
	})
	took := time.Since(begun)
	if t.Logf("another leader after %v", took); took > 6*time.Second { // 1 to 2 s on a machine that is not busy
		t.Errorf("without the leader, there was another only after %v", took)
	}
	for _, v := range p {
		if v.Store != nil {
			v.put("mortar/a", "2")
		}
	}
	t.Logf("changes from all servers after %v", time.Since(begun))
	second := p[(leader+1)%3]
	survivor := p[(leader+2)%3]
	second.kill()
	for _, v := range []*server{survivor, d} {
		v.eventually("miss the majority", func(ctx context.Context) error {
			begun := time.Now()
			h := v.Health(ctx)
			if took := time.Since(begun); took > 2100*time.Millisecond {
				t.Errorf("Health took %v", took)
			}
			if h.Quorum || h.Answer != 1 || len(h.Voters) != 3 || h.Majority != 2 {
				return fmt.Errorf("the health is %+v", h)
			}
			return nil
		})
	}
	if step := Plan(p.servers(), survivor.mustMembers(), 3); step.Kind != StepNone {
		t.Errorf("without a majority the plan is %v", step)
	}
	gone.open()
	survivor.put("mortar/a", "3")
	gone.has("mortar/a", "3")
	d.has("mortar/a", "3")
	// The dead one is replaced by the client.
	p.rest(3)
	d.healthy(3)
	if st := d.Status(); st.Role != Voter {
		t.Errorf("the server that takes the place is %s", st.Role)
	}
	second.open() // finds itself removed
	second.has("mortar/a", "3")
	p.roles(roleOf(p[0], second), roleOf(p[1], second), roleOf(p[2], second), Voter)
}

func roleOf(v, client *server) Role {
	if v == client {
		return Client
	}
	return Voter
}

// mustMembers are the members as the server's own member knows them; the own one answers.
func (v *server) mustMembers() []Member {
	_, m := v.now()
	list := m.members()
	for i := range list {
		list[i].Answers = list[i].ID == m.id()
	}
	return list
}

func (v *server) leads() bool {
	_, m := v.now()
	return m != nil && m.etcd.Server.Lead() == m.id()
}

// kill ends the server as a kill does: without a word to the others.
func (v *server) kill() {
	v.stop()
	v.wg.Wait()
	if _, m := v.now(); m != nil {
		if m.serving != nil {
			m.serving.endClients()
			m.serving.peers.Close()
		}
		m.etcd.Server.HardStop()
		m.close(0) // has no leadership to hand on
		v.mu.Lock()
		v.mu.member = nil
		v.mu.Unlock()
	}
	v.close()
}

func TestLearnerGone(t *testing.T) {
	t.Parallel()
	a := newServer(t).open()
	p := pool{a}
	b, c := p.join(newServer(t).open()), p.join(newServer(t).open())
	p = append(p, b, c)
	ctx, cancel := limit()
	defer cancel()
	id, err := a.AddLearner(ctx, b.peer())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := a.AddLearner(ctx, b.peer()); err != nil || again != id {
		t.Errorf("added again: %x, %v; want %x", again, err, id)
	}
	if err := a.Promote(ctx, id); !errors.Is(err, ErrNotReady) {
		t.Errorf("a learner that never ran is promoted: %v", err)
	}
	if err := b.BecomeLearner(ctx, b.host); err != nil {
		t.Fatal(err)
	}
	b.kill()
	if err := a.Promote(ctx, id); !errors.Is(err, ErrNotReady) {
		t.Errorf("a learner that is gone is promoted: %v", err)
	}
	a.put("mortar/a", "1") // as if there were no learner
	p.rest(3)              // 1 voter; b's place is taken back
	a.healthy(1)
	b.open() // finds itself removed
	p.rest(3)
	p.roles(Voter, Voter, Voter)
	b.has("mortar/a", "1")
	if err := a.Remove(ctx, id); err != nil {
		t.Errorf("the removal of a member that is gone: %v", err)
	}
}

// vote makes a client a voter, whatever Plan would say.
func (p pool) vote(v *server) {
	v.t.Helper()
	v.eventually("vote", func(ctx context.Context) error {
		id, err := p[0].AddLearner(ctx, v.peer())
		if err != nil {
			return err
		}
		if err := v.BecomeLearner(ctx, v.host); err != nil {
			return err
		}
		return p[0].Promote(ctx, id)
	})
}

// A voter that accepts connections and says nothing holds up nobody for long.
func TestSilentVoter(t *testing.T) {
	t.Parallel()
	p := newPool(t, 4)
	d := p[3]
	d.put("mortar/a", "1")
	at := slices.IndexFunc(p, func(v *server) bool { return v.endpoint() == d.Status().Endpoint })
	silent := p[at]
	silent.kill()
	for _, address := range []string{silent.endpoint(), net.JoinHostPort(silent.host, strconv.Itoa(testPort))} {
		l, err := net.Listen("tcp", address) // the kernel accepts
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	begun := time.Now()
	d.put("mortar/a", "2")
	took := time.Since(begun)
	if t.Logf("the client goes on after %v", took); took > 10*time.Second { // 5 s on a machine that is not busy
		t.Errorf("the client goes on only after %v", took)
	}
	for _, v := range p {
		if v == silent {
			continue
		}
		begun := time.Now()
		h := v.Health(context.Background())
		if took := time.Since(begun); took > 2100*time.Millisecond || h.Answer != 2 {
			t.Errorf("Health took %v: %+v", took, h)
		}
		v.has("mortar/a", "2")
	}
	p[(at+1)%3].close() // hands on, or has nothing to hand on, in bounded time
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("all of it took %v", took)
	}
}
