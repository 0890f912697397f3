package manage

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/manage/api"
)

// healer is a brick that tells what it is told to.
type healer struct {
	info  wire.HealInfo
	asked chan bool
}

func (h *healer) HealInfo(context.Context) wire.HealInfo { return h.info }

func (h *healer) StartHeal(_ context.Context, full bool) error {
	if !h.info.Serving {
		return errors.New("not the primary")
	}
	h.asked <- full
	return nil
}

// serveHeal serves a brick of this UUID that tells of healing, and returns its port.
func serveHeal(t *testing.T, id string, h *healer) int {
	t.Helper()
	srv := server.New(server.Config{VolumeID: newUUID(), BrickID: id, Heal: h, Logger: slog.New(slog.DiscardHandler)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return l.Addr().(*net.TCPAddr).Port
}

// The member that says that it serves is believed, whatever the configuration knows.
func TestHealInfo(t *testing.T) {
	t.Parallel()
	v := &volumeRecord{V: replicatedV, Name: "v", ID: newUUID(), State: api.Started, Replica: 3}
	snap := newSnapshot(1)
	snap.volumes["v"] = v
	snap.have[v.ID] = map[string]*haveRecord{}
	healers := make([]*healer, 4)
	for i := range 4 {
		b := brickRecord{ID: newUUID(), Server: newUUID(), Host: "h", Path: "/b" + string(rune('1'+i)), Set: volume.SetID(i/3 + 1)}
		v.Bricks = append(v.Bricks, b)
		healers[i] = &healer{asked: make(chan bool, 1)}
		port := serveHeal(t, b.ID, healers[i])
		snap.have[v.ID][b.ID] = &haveRecord{Is: running, PID: 1, Port: port, Addr: net.JoinHostPort("127.0.0.1", "0")}
		snap.servers[b.Server] = &serverRecord{ID: b.Server, Addr: "127.0.0.1"}
		snap.alive[b.Server] = "life"
	}
	state := setRecord{}
	state.State.Primary = v.Bricks[0].ID
	snap.sets[setRef{v.ID, 1}], snap.sets[setRef{v.ID, 2}] = &state, &state
	began := time.Now().UTC().Truncate(time.Second)
	member := func(i int, m wire.HealMember) wire.HealMember { m.ID = v.Bricks[i].ID; return m }
	healers[0].info = wire.HealInfo{Serving: true, Epoch: 3} // not any more
	healers[1].info = wire.HealInfo{Serving: true, Epoch: 4, Members: []wire.HealMember{
		member(0, wire.HealMember{InSync: true, Connected: true, State: "in sync"}),
		member(1, wire.HealMember{InSync: true, State: "in sync"}),
		member(2, wire.HealMember{Connected: true, State: "healing", Pending: 5, Entries: []string{"/a"}, HealedFiles: 7, HealedBytes: 8, Total: 12, StartedAt: began, ETA: 30, LastErr: "it was cut off"}),
	}}
	dir := &stateDir{}
	dir.id.Store(newUUID())
	d := &daemon{log: slog.New(slog.DiscardHandler), dir: dir}
	got := d.healInfo(snap, v, d.askPrimaries(t.Context(), snap, v)).Bricks
	for i, role := range []string{api.RoleInSync, api.RolePrimary, api.RoleBehind, api.RoleBehind} {
		if b := got[i]; b.Role != role || !b.Connected || b.Known != (i < 3) || b.Set != v.Bricks[i].Set {
			t.Errorf("brick %d: %+v", i, b)
		}
	}
	b := got[2]
	if b.Ends.IsZero() || time.Until(b.Ends) > 31*time.Second {
		t.Errorf("done by %v", b.Ends)
	}
	b.Ends = time.Time{}
	if b.State != "healing" || b.Pending != 5 || len(b.Entries) != 1 || b.HealedFiles != 7 || b.HealedBytes != 8 || b.Total != 12 || !b.Started.Equal(began) || b.LastError != "it was cut off" {
		t.Errorf("%+v", b)
	}
}
