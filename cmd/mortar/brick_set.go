package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/brick/set"
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/client"
	"github.com/mortarfs/mortar/dht"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// This file puts together the stack of a brick that is one of several members of
// its set. While the member is the primary:
//
//	server → owner → set (primary) → store, and over the wire the backups' sets
//
// and otherwise server → set (backup) → store, for other members only.

// newLife returns what tells this process from all others (spec.Member.Life).
func newLife() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// memberBrick is a brick that is a member of a set of several.
type memberBrick struct {
	o     brickOptions
	store *brick.Store
	sets  *client.Sets
	peers *client.Peers
	set   *set.Set
	srv   *server.Server
	m     atomic.Pointer[spec.Map]

	lockers atomic.Pointer[set.LockerRecord] // of the last reign

	mu struct {
		sync.Mutex
		owner *dht.Owner // while this member serves
	}
}

// newMember makes the brick's part of its set. Its server is to be told by serveWith.
func newMember(o brickOptions, life string, store *brick.Store, sets *client.Sets, m *spec.Map) (*memberBrick, error) {
	b := &memberBrick{o: o, store: store, sets: sets, peers: client.NewPeers(o.brick, "brick "+o.path, o.log)}
	b.m.Store(m)
	store.Hold()
	var err error
	b.set, err = set.New(set.Config{
		Set: o.set, Self: o.brick, Life: life, Member: store, Dir: filepath.Join(o.path, volume.Reserved, "log"),
		Authority: authority{b}, Lockers: store, Serve: b.serve, Logger: o.log,
	})
	if err == nil {
		err = b.update(m)
	}
	return b, err
}

// serveWith gives the server what it needs of the set, and learns of it.
func (b *memberBrick) serveWith(conf server.Config) *server.Server {
	conf.Set, conf.Peer, conf.Outcome, conf.Heal = nil, b.set.Handle, b.outcome, healer{b.set}
	conf.Lockers = func() server.Lockers { return *b.lockers.Load() }
	b.srv = server.New(conf)
	return b.srv
}

// update takes a newer map.
func (b *memberBrick) update(m *spec.Map) error {
	b.m.Store(m)
	peers := map[string]set.Peer{}
	for id, p := range b.peers.Update(m) {
		peers[id] = p
	}
	if err := b.set.Update(m, peers); err != nil {
		return err
	}
	others := b.sets.Update(m, false)
	b.mu.Lock()
	owner := b.mu.owner
	b.mu.Unlock()
	if owner == nil {
		return nil
	}
	return owner.Update(m, others)
}

// run plays the member's part.
func (b *memberBrick) run(ctx context.Context) { b.set.Run(ctx) }

// close gives everything up but the store; the set's Run has ended.
func (b *memberBrick) close() {
	_ = b.set.Close()
	_ = b.peers.Close()
}

// service is the owner upon the set, while this member is the primary.
type service struct {
	b      *memberBrick
	cancel context.CancelFunc
	done   sync.WaitGroup
	hidden func()
}

// serve is set.Config.Serve.
func (b *memberBrick) serve(r set.Reign) (set.Service, error) {
	m := b.m.Load()
	owner, err := dht.NewOwner(dht.OwnerConfig{Self: b.o.set, Map: m, Store: r.Store, Peers: b.sets.Update(m, false), Logger: b.o.log, Boot: r.Boot})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &service{b: b, cancel: cancel}
	b.mu.Lock()
	b.mu.owner = owner
	b.mu.Unlock()
	if now := b.m.Load(); now.Version > m.Version {
		if err := owner.Update(now, b.sets.Update(now, false)); err != nil {
			cancel()
			return nil, err
		}
	}
	s.done.Go(func() { owner.Run(ctx) })
	s.done.Go(func() { sweep(ctx, r.Store, b.o.log) })
	b.srv.SetBoot(setBoot(m.ID, b.o.set, r.Boot))
	s.hidden = func() {}
	b.lockers.Store(&r.Lockers)
	b.srv.SetBackend(owner)
	return s, nil
}

// setBoot names, for clients, a time in which the set has lost nothing.
func setBoot(volumeID string, id volume.SetID, boot string) (out wire.SessionID) {
	sum := sha256.Sum256([]byte(volumeID + "/" + boot + "/" + string(rune(id))))
	copy(out[:], sum[:])
	return out
}

// Hide implements set.Service.
func (s *service) Hide() { s.hidden = s.b.srv.SetBackend(nil) }

// Stop implements set.Service.
func (s *service) Stop() {
	s.b.mu.Lock()
	s.b.mu.owner = nil
	s.b.mu.Unlock()
	s.cancel()
	s.done.Wait()
	s.hidden()
}

// outcome is server.Config.Outcome: the owner knows of what takes several sets,
// the set of everything else, and has the last word (see dht.Owner.Outcome).
func (b *memberBrick) outcome(ctx context.Context, r volume.Request) (o wire.Outcome, executed, known bool) {
	b.mu.Lock()
	owner := b.mu.owner
	b.mu.Unlock()
	if owner == nil {
		<-ctx.Done() // whoever serves the set next is asked
		return o, false, false
	}
	state, err := owner.Outcome(ctx, r)
	if err != nil {
		return o, false, false
	}
	out, executed, known := b.set.Outcome(ctx, r)
	o = wire.Outcome{Attr: out.Attr, Offset: out.Offset}
	if !executed && state == dht.RequestExecuted {
		return o, true, true
	}
	return o, executed, known
}

// authority is the set's configuration store: the daemons.
type authority struct{ b *memberBrick }

func (a authority) targets() []string {
	return append([]string{a.b.o.daemon}, a.b.m.Load().Daemons...)
}

// Read implements set.Authority.
func (a authority) Read(ctx context.Context) (spec.SetState, set.Revision, error) {
	st, rev, err := api.ReadSetState(ctx, a.targets(), a.b.o.volumeID, a.b.o.set)
	return st, set.Revision(rev), err
}

// Swap implements set.Authority.
func (a authority) Swap(ctx context.Context, r set.Revision, next spec.SetState) (set.Revision, error) {
	rev, err := api.SwapSetState(ctx, a.targets(), a.b.o.volumeID, a.b.o.set, int64(r), next)
	if api.IsConflict(err) {
		err = set.ErrConflict
	}
	return set.Revision(rev), err
}

// healer is the set, for the daemon's questions about healing.
type healer struct{ s *set.Set }

// HealInfo implements wire.Healer.
func (h healer) HealInfo(ctx context.Context) wire.HealInfo {
	st := h.s.Status(ctx)
	info := wire.HealInfo{Serving: st.Serving, Epoch: st.Epoch}
	for _, m := range st.Members {
		info.Members = append(info.Members, wire.HealMember{
			ID: m.ID, InSync: m.InSync, Connected: m.Connected, State: m.State, Pending: m.Pending, Entries: m.Entries,
			HealedFiles: m.Healed, HealedBytes: m.Copied, Total: m.Healed + m.Pending, StartedAt: m.Started,
			ETA: int64((m.ETA + time.Second - 1) / time.Second), LastErr: m.LastErr,
		})
	}
	return info
}

// StartHeal implements wire.Healer.
func (h healer) StartHeal(ctx context.Context, full bool) error { return h.s.StartHeal(ctx, full) }
