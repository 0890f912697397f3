package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// healer tells what it is given, and notes what it is asked.
type healer struct {
	info wire.HealInfo
	full []bool
	err  error
}

func (h *healer) HealInfo(context.Context) wire.HealInfo { return h.info }

func (h *healer) StartHeal(_ context.Context, full bool) error {
	h.full = append(h.full, full)
	return h.err
}

func TestHeal(t *testing.T) {
	h := &healer{info: wire.HealInfo{Serving: true, Epoch: 7, Members: []wire.HealMember{
		{ID: "a", InSync: true, Connected: true, State: "in sync"},
		{ID: "b", State: "healing", Pending: 9, Entries: []string{"/d/f", "<gfid:1>"}, HealedFiles: 1, HealedBytes: 2, Total: 10,
			StartedAt: time.Unix(5, 0).UTC(), ETA: 3, LastErr: "once"},
	}}}
	r := newRaw(t, func(c *Config) { c.Heal = h })
	info, err := wire.FetchHeal(t.Context(), "none", r.addr)
	if err != nil || fmt.Sprintf("%+v", info) != fmt.Sprintf("%+v", h.info) {
		t.Errorf("%+v, %v", info, err)
	}
	if err := errors.Join(wire.StartHeal(t.Context(), "none", r.addr, false), wire.StartHeal(t.Context(), "none", r.addr, true)); err != nil || fmt.Sprint(h.full) != "[false true]" {
		t.Errorf("%v, %v", h.full, err)
	}
	h.err = &volume.Error{Op: "heal", Errno: syscall.EIO, Reason: volume.NotPrimary}
	if err := wire.StartHeal(t.Context(), "none", r.addr, false); volume.ReasonOf(err) != volume.NotPrimary {
		t.Errorf("%v", err)
	}
	long := strings.Repeat("\x01", 4000) // six bytes each in JSON
	many := make([]string, 2*wire.HealEntriesMax)
	for i := range many {
		many[i] = long
	}
	short := make([]string, 2*wire.HealEntriesMax)
	h.info.Members = []wire.HealMember{{ID: "a", Entries: short}, {ID: "b", Entries: many}, {ID: "c", Entries: many}}
	info, err = wire.FetchHeal(t.Context(), "none", r.addr)
	if err != nil || len(info.Members) != 3 || len(info.Members[0].Entries) != wire.HealEntriesMax || len(info.Members[1].Entries) < 100 {
		t.Errorf("too much: %v", err)
	}
	alone := newRaw(t, nil)
	if info, err := wire.FetchHeal(t.Context(), "none", alone.addr); err != nil || info.Serving {
		t.Errorf("a set of one member: %+v, %v", info, err)
	}
	if err := wire.StartHeal(t.Context(), "none", alone.addr, true); volume.ErrnoOf(err) != syscall.EOPNOTSUPP {
		t.Errorf("a set of one member: %v", err)
	}
}
