package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// The full names of the methods that tell of a set's healing and that begin it.
const (
	HealMethod      = "/" + ServiceName + "/Heal"
	StartHealMethod = "/" + ServiceName + "/StartHeal"
)

// HealEntriesMax is how many entries are told of a member.
const HealEntriesMax = 1000

// healTextMax is how many bytes of entries are told of all members; in JSON they may take six times as many.
const healTextMax = 512 << 10

// HealInfo tells how a set of several members stands, for people.
type HealInfo struct {
	Serving bool         `json:"serving"` // the brick that was asked serves the set; else it knows little
	Epoch   uint64       `json:"epoch"`
	Members []HealMember `json:"members"`
}

// HealMember tells of one member, itself included.
type HealMember struct {
	ID          string    `json:"id"` // UUID of the brick
	InSync      bool      `json:"inSync"`
	Connected   bool      `json:"connected"`
	State       string    `json:"state"`             // "in sync", "absent", "healing", "full heal"
	Pending     uint64    `json:"pending"`           // keys that it lacks, as far as is known
	Entries     []string  `json:"entries,omitempty"` // the first of them: paths, or <gfid:ID>
	HealedFiles uint64    `json:"healedFiles"`       // since StartedAt
	HealedBytes uint64    `json:"healedBytes"`       // likewise
	Total       uint64    `json:"total"`             // keys that are to be healed; 0: not known
	StartedAt   time.Time `json:"startedAt,omitzero"`
	ETA         int64     `json:"eta"` // seconds; 0: not known, or nothing to do
	LastErr     string    `json:"lastErr,omitempty"`
}

// FetchHeal asks a brick how its set stands: on this machine by its own socket,
// else at addr. It makes a connection for it.
func FetchHeal(ctx context.Context, brick, addr string) (info HealInfo, err error) {
	b, err := invoke(ctx, brick, addr, HealMethod, nil)
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return info, fmt.Errorf("%w: how the set is healed: %w", ErrMalformed, err)
	}
	return info, nil
}

// StartHeal has a brick that serves its set begin to heal what is pending or,
// with full, compare everything. It does not wait for that to end. An error
// of the brick is a *volume.Error; if the brick does not serve the set, of Reason NotPrimary.
func StartHeal(ctx context.Context, brick, addr string, full bool) error {
	b, err := invoke(ctx, brick, addr, StartHealMethod, appendBool(nil, full))
	if err != nil {
		return err
	}
	r := NewReader(b)
	err = ParseStatus(&r)
	if !r.Done() {
		return malformed("the answer to the start of a heal")
	}
	return err
}

// cut takes away the entries that are too many for a message.
func (h *HealInfo) cut() {
	left := healTextMax
	for i := range h.Members {
		m := &h.Members[i]
		m.Entries = m.Entries[:min(len(m.Entries), HealEntriesMax)]
		for n, e := range m.Entries {
			if left -= len(e); left < 0 {
				m.Entries = m.Entries[:n]
				break
			}
		}
	}
}

// healHandler is gRPC's way to Service.Heal.
func healHandler(s any, ctx context.Context, receive func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var in In
	if err := receive(&in); err != nil {
		return nil, err
	}
	info := s.(Service).Heal(ctx)
	info.cut()
	b, err := json.Marshal(info)
	return &Out{Buffers: mem.BufferSlice{mem.SliceBuffer(b)}}, err
}

// startHealHandler is gRPC's way to Service.StartHeal.
func startHealHandler(s any, ctx context.Context, receive func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var in In
	if err := receive(&in); err != nil {
		return nil, err
	}
	r := NewReader(in.Batch)
	full := r.Bool()
	if !r.Done() {
		return nil, malformed("the start of a heal")
	}
	b := AppendStatus(nil, s.(Service).StartHeal(ctx, full))
	return &Out{Buffers: mem.BufferSlice{mem.SliceBuffer(b)}}, nil
}

// Healer is what a server tells of and begins heals by.
type Healer interface {
	// HealInfo returns what is the caller's.
	HealInfo(ctx context.Context) HealInfo
	// StartHeal begins a heal, which goes on when it returns. Errors: Reason NotPrimary.
	StartHeal(ctx context.Context, full bool) error
}
