package client

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// member serves Peers as the brick with this ID and returns where.
func member(t *testing.T, id string) (*server.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(server.Config{VolumeID: "v", BrickID: id, Peer: func(_ context.Context, msg, _ []byte) ([]byte, error) {
		return append([]byte(id+" heard "), msg...), nil
	}})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
		<-tick.C
	}
}

// ownSet is a map of one set, of members with these IDs at these addresses.
func ownSet(members ...string) *spec.Map {
	m := &spec.Map{Version: 1, Volume: "vol", ID: "v", Started: true, Sets: []spec.Set{{ID: 1}}}
	for i := 0; i < len(members); i += 2 {
		m.Sets[0].Members = append(m.Sets[0].Members, spec.Member{ID: members[i], Addr: members[i+1], Brick: "host:/" + members[i]})
	}
	return m
}

// Peers follow the map: who is a member, and where.
func TestPeers(t *testing.T) {
	_, b := member(t, "peers-test-b")
	_, c := member(t, "peers-test-c")
	p := NewPeers("peers-test-a", "the test", slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = p.Close() })
	asks := func(all map[string]*Peer, id string) {
		t.Helper()
		peer := all[id]
		if peer == nil {
			t.Fatalf("%s is missing", id)
		}
		eventually(t, id+" is up", peer.Up)
		if answer, err := peer.Call(t.Context(), []byte("hello"), nil); err != nil || string(answer) != id+" heard hello" {
			t.Errorf("%q, %v", answer, err)
		}
	}
	first := p.Update(ownSet("peers-test-a", "", "peers-test-b", "", "peers-test-c", c))
	if len(first) != 2 {
		t.Fatalf("%v", first)
	}
	asks(first, "peers-test-c")
	if _, err := first["peers-test-b"].Call(t.Context(), nil, nil); volume.ReasonOf(err) != volume.Unavailable {
		t.Errorf("one that does not run: %v", err)
	}
	second := p.Update(ownSet("peers-test-a", "", "peers-test-b", b))
	if len(second) != 1 || second["peers-test-b"] != first["peers-test-b"] {
		t.Fatalf("%v", second)
	}
	asks(second, "peers-test-b")
	if _, err := first["peers-test-c"].Call(t.Context(), nil, nil); volume.ReasonOf(err) != volume.Unavailable || first["peers-test-c"].Up() {
		t.Errorf("one that is no member: %v", err)
	}
	if third := p.Update(ownSet("peers-test-b", b, "peers-test-c", c)); len(third) != 0 {
		t.Errorf("who is no member himself has peers: %v", third)
	}
}

// A set's remote goes to the primary that the map names, or to whoever serves.
func TestSetsFollowPrimary(t *testing.T) {
	m := ownSet("a", "1:1", "b", "2:2")
	set := &m.Sets[0]
	for primary, want := range map[string]int{"": -1, "a": 0, "b": 1, "gone": -1} {
		set.State.Primary = primary
		if all, i := targets(set); i != want || len(all) != 2 || all[1].BrickID != "b" || all[1].Addr != "2:2" {
			t.Errorf("primary %q: %d of %v", primary, i, all)
		}
	}
	set.Members = set.Members[:1]
	if _, i := targets(set); i != 0 {
		t.Errorf("of a single one: %d", i)
	}
	if got := bricks(&spec.Set{Members: []spec.Member{{Brick: "h:/a"}, {Brick: "i:/b"}}}); got != "h:/a, i:/b" {
		t.Error(got)
	}
}
