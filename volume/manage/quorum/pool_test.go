package quorum

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// pool are servers in order of joining, the first of which founded it.
type pool []*server

// newPool starts a pool of n servers with the voters that it should have.
func newPool(t *testing.T, n int) pool {
	t.Helper()
	first := newServer(t).open()
	p := pool{first}
	for range n - 1 {
		p = append(p, p.join(newServer(t).open()))
	}
	p.rest(3)
	for _, v := range p {
		v.eventually("know the voters", func(context.Context) error {
			if e := v.Status().Pool.Endpoints; len(e) != Target(n, 3) {
				return fmt.Errorf("it knows %v", e)
			}
			return nil
		})
	}
	return p
}

// join makes a lone server a client of the pool, as a probe does.
func (p pool) join(v *server) *server {
	v.t.Helper()
	first := p[0]
	ctx, cancel := limit()
	defer cancel()
	if first.Status().Role == Alone {
		if err := first.Listen(ctx, first.host); err != nil {
			v.t.Fatal(err)
		}
	}
	if err := v.BecomeClient(ctx, first.Status().Pool); err != nil {
		v.t.Fatal(err)
	}
	return v
}

// servers are what Plan is told; a closed server is down.
func (p pool) servers() []Server {
	var out []Server
	for _, v := range p {
		out = append(out, Server{ID: v.cfg.ID, Peer: v.peer(), Up: v.Store != nil})
	}
	return out
}

// up is the first server that runs.
func (p pool) up() *server {
	return p[slices.IndexFunc(p, func(v *server) bool { return v.Store != nil })]
}

// step is one round of the controller on server v, and what the servers do about
// it. A closed server counts as dead at once.
func (p pool) step(ctx context.Context, v *server, most int) (Step, error) {
	list, err := v.Members(ctx)
	if err != nil {
		return Step{Kind: StepWait}, err
	}
	servers := p.servers()
	for i := range list {
		m := &list[i]
		m.Dead = !m.Answers && slices.ContainsFunc(servers, func(s Server) bool { return s.ID == m.Name && !s.Up })
	}
	step := Plan(servers, list, most)
	if step.Kind == StepNone {
		return step, nil
	}
	err = v.Do(ctx, step)
	for _, x := range p {
		if step.Kind == StepAdd && x.cfg.ID == step.Server && err == nil {
			err = x.BecomeLearner(ctx, x.host)
		}
	}
	return step, err
}

// rest plays the controller on the first server that runs until nothing is to be done.
func (p pool) rest(most int) []Step {
	t := p.up().t
	t.Helper()
	var done []Step
	deadline := time.Now().Add(60 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		step, err := p.step(ctx, p.up(), most)
		cancel()
		if step.Kind == StepNone && err == nil {
			return done
		}
		if err == nil && step.Kind != StepWait {
			done = append(done, step)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the pool does not come to rest: %v, %v", step, err)
		}
		if err != nil || step.Kind == StepWait {
			<-time.After(10 * time.Millisecond)
		}
	}
}

// roles waits until the servers have these roles and their stores agree.
func (p pool) roles(want ...Role) {
	p[0].t.Helper()
	for i, v := range p {
		v.eventually(fmt.Sprintf("be %s", want[i]), func(context.Context) error {
			if st := v.Status(); st.Role != want[i] || st.Err != nil {
				return fmt.Errorf("it is %s, %v", st.Role, st.Err)
			}
			return nil
		})
	}
}

// healthy waits until the server finds so many voters, all of which answer.
func (v *server) healthy(voters int) {
	v.t.Helper()
	v.eventually("be healthy", func(ctx context.Context) error {
		if h := v.Health(ctx); !h.Quorum || len(h.Voters) != voters || h.Answer != voters {
			return fmt.Errorf("the health is %+v", h)
		}
		return nil
	})
}

func TestGrowAndShrink(t *testing.T) {
	t.Parallel()
	a := newServer(t).open()
	p := pool{a}
	a.put("mortar/a", "1")
	for i := range 4 {
		begun := time.Now()
		p = append(p, p.join(newServer(t).open()))
		most := 3
		if len(p) == 5 {
			most = 5
		}
		p.rest(most)
		t.Logf("%d servers: %v", len(p), time.Since(begun))
		p[len(p)-1].put(fmt.Sprintf("mortar/%d", i), "x")
		for _, v := range p {
			v.has("mortar/a", "1")
			v.has(fmt.Sprintf("mortar/%d", i), "x")
		}
		want := map[int][]Role{
			2: {Voter, Client}, 3: {Voter, Voter, Voter},
			4: {Voter, Voter, Voter, Client}, 5: {Voter, Voter, Voter, Voter, Voter},
		}[len(p)]
		p.roles(want...)
		p[len(p)-1].healthy(Target(len(p), most))
	}
	for len(p) > 1 {
		gone := p[len(p)-1]
		p = p[:len(p)-1]
		if len(p) == 1 { // the first may go as well
			gone, p = p[0], pool{gone}
		}
		p.rest(3)
		ctx, cancel := limit()
		if role := gone.Status().Role; role == Voter || role == Learner {
			gone.eventually("find itself removed", func(context.Context) error {
				if st := gone.Status(); st.Role != Client {
					return fmt.Errorf("it is %s", st.Role)
				}
				return nil
			})
		}
		if err := gone.BecomeAlone(ctx, "22222222-2222-4222-8222-222222222222"); err != nil {
			t.Fatal(err)
		}
		cancel()
		if r, err := gone.Client().Get(context.Background(), "mortar/a"); err != nil || len(r.Kvs) != 0 {
			t.Errorf("a server that left still has the pool's records: %v, %v", r, err)
		}
		for _, v := range p {
			v.has("mortar/a", "1")
			v.healthy(Target(len(p), 3))
		}
	}
	p[0].put("mortar/last", "1")
}

func TestRestart(t *testing.T) {
	t.Parallel()
	p := newPool(t, 4)
	p[0].put("mortar/a", "1")
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}} {
		for _, i := range order {
			p[i].close()
		}
		for _, i := range []int{3, 1, 0, 2} {
			p[i].open() // none waits for the others
		}
		for _, v := range p {
			v.has("mortar/a", "1")
		}
		p.roles(Voter, Voter, Voter, Client)
	}
	for _, v := range p { // one after the other; the rest goes on
		v.close()
		for _, o := range p {
			if o != v {
				o.has("mortar/a", "1")
			}
		}
		begun := time.Now()
		v.open().has("mortar/a", "1")
		took := time.Since(begun)
		if t.Logf("a server answers %v after its restart", took); took > 6*time.Second { // tenths of a second on a machine that is not busy
			t.Errorf("a server answers only %v after its restart", took)
		}
	}
}
