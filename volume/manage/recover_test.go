package manage

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/manage/quorum"
	"github.com/mortarfs/mortar/volume/spec"
)

// started makes and starts a volume "v" with one brick on each site.
func (p *pool) started() {
	p.t.Helper()
	c := p.sites[0].conn
	must[api.Volume](p.t)(c.VolumeCreate(p.t.Context(), api.CreateRequest{Name: "v", Bricks: p.bricks(1)}))
	must[api.Volume](p.t)(c.VolumeStart(p.t.Context(), api.VolumeRequest{Name: "v"}))
}

// online waits until all bricks of the volume "v" are, as s sees it.
func (s *site) online(bricks int) {
	s.t.Helper()
	eventually(s.t, "all bricks are online", func() bool {
		st, err := s.conn.VolumeStatus(s.t.Context(), api.StatusRequest{Name: "v"})
		if err != nil || len(st[0].Bricks) != bricks {
			return false
		}
		for _, b := range st[0].Bricks {
			if !b.Online {
				return false
			}
		}
		return true
	})
}

// set sets an option of "v" and says how long it took.
func (s *site) set(value string) (time.Duration, error) {
	began := time.Now()
	_, err := s.conn.VolumeSet(s.t.Context(), api.SetRequest{Name: "v", Pairs: []string{"network.timeout", value}})
	return time.Since(began), err
}

// A brick's state is recorded again when the answer was lost. That it was
// written the first time already must not make a new map.
func TestRecordedAgain(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	dir := t.TempDir()
	s, err := quorum.Open(ctx, quorum.Config{
		Dir: filepath.Join(dir, "etcd"), StateFile: filepath.Join(dir, "quorum.json"),
		ID: newUUID(), Cluster: newUUID(), MaxRecord: recordMax, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := &daemon{cfg: Config{step: func(string) {}}, store: s}
	o := order{&volumeRecord{ID: newUUID()}, brickRecord{ID: newUUID()}}
	key := haveKey(o.volume.ID, o.brick.ID)
	record := func(h haveRecord) *mvccpb.KeyValue {
		t.Helper()
		if err := d.writeHave(ctx, o, h); err != nil {
			t.Fatal(err)
		}
		r, err := s.Client().Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Kvs) == 0 {
			return nil
		}
		return r.Kvs[0]
	}
	h := haveRecord{V: recordVersion, Generation: 2, Is: running, PID: 7, Port: 24200}
	if kv := record(h); kv != nil {
		t.Errorf("the state of a brick without a volume was recorded: %s", kv.Value)
	}
	if _, err := s.Client().Put(ctx, key, encode(haveRecord{V: recordVersion})); err != nil {
		t.Fatal(err)
	}
	first := record(h)
	if string(first.Value) != encode(h) {
		t.Errorf("recorded: %s", first.Value)
	}
	if again := record(h); again.ModRevision != first.ModRevision {
		t.Errorf("recorded again: revision %d after %d", again.ModRevision, first.ModRevision)
	}
	h.Generation++
	if other := record(h); other.ModRevision == first.ModRevision || string(other.Value) != encode(h) {
		t.Errorf("another state: revision %d, %s", other.ModRevision, other.Value)
	}
}

// Two of three voters lost: volumes go on, changes are refused at once, the
// survivor is made the cluster, and the others come back to it.
func TestMajorityLostAndRecovered(t *testing.T) {
	t.Parallel()
	p := newPool(t, 3)
	p.grow()
	p.started()
	ctx := t.Context()
	last := p.sites[2]
	if _, err := last.conn.ClusterRecover(ctx); err == nil || !strings.Contains(err.Error(), "A majority of the voters answers (3 of 3): there is nothing to recover") {
		t.Errorf("recover of a whole cluster: %v", err)
	}
	maps := watch(t, p.sites[0].addr)
	before := maps.next()
	if len(before.Daemons) != 3 {
		t.Errorf("the map names the daemons %v", before.Daemons)
	}
	if _, err := p.sites[1].set("11"); err != nil {
		t.Fatal(err)
	}
	if before.Options["network.timeout"] != "11" {
		before = maps.until("with the option", func(m *spec.Map) bool { return m.Options["network.timeout"] == "11" })
	}
	// Asked while there is a majority, so the last one knows all that the others do.
	if m := must[*spec.Map](t)(api.FetchMap(ctx, []string{last.addr}, "v")); m.Version != before.Version {
		t.Errorf("version %d at one server, %d at another, and nothing has changed", m.Version, before.Version)
	}
	p.sites[0].halt()
	p.sites[1].halt()

	took, err := last.set("12")
	if err == nil || !strings.Contains(err.Error(), "1 of the 3 voters of the configuration store answers, and nothing can be changed without a majority of them") || !strings.Contains(err.Error(), "mortar cluster recover") {
		t.Errorf("a change without a majority: %v", err)
	}
	if took > patient(3*time.Second) {
		t.Errorf("it was refused after %v", took)
	}
	began := time.Now()
	info := must[[]api.Volume](t)(last.conn.VolumeInfo(ctx, api.VolumeRequest{Name: "v"}))
	if info[0].State != api.Started || info[0].Options[len(info[0].Options)-1].Value != "11" || len(info[0].Bricks) != 3 {
		t.Errorf("info without a majority: %+v", info[0])
	}
	if took := time.Since(began); took > patient(time.Second) {
		t.Errorf("info took %v", took)
	}
	c := must[api.Cluster](t)(last.conn.ClusterStatus(ctx))
	if c.Quorum || c.Trouble == "" || c.Voters != 3 || c.Answering != 1 || len(c.Servers) != 3 {
		t.Errorf("status without a majority: %+v", c)
	}
	// The last look around may have met a daemon that was ending; there are new ones (lookAge).
	eventually(t, "only the survivor is there", func() bool {
		list := must[[]api.Peer](t)(last.conn.PoolList(ctx))
		return !slices.ContainsFunc(list, func(peer api.Peer) bool { return peer.Connected != peer.Self })
	})
	// A daemon that starts now knows what the last one knew.
	last.halt()
	last.again()
	pid := brickPID(t, last.conn, "v", 2)
	if m := must[*spec.Map](t)(api.FetchMap(ctx, []string{last.addr}, "v")); m.Version != before.Version || pid < 1 {
		t.Errorf("after a start without a majority: version %d, want %d; pid %d", m.Version, before.Version, pid)
	}
	// A brick has seen a newer map than the survivor knows of.
	_, path, _ := spec.ParseBrick(last.bricks(1, "b")[0])
	seen := brick.Seen{Map: 7<<incarnationShift + 5, Layout: 4}
	if err := os.WriteFile(path+"/.mortar/map", seenFile(t, seen), 0o600); err != nil {
		t.Fatal(err)
	}
	c = must[api.Cluster](t)(last.conn.ClusterRecover(ctx))
	if !c.Quorum || c.Incarnation != 2 || c.Voters != 1 || len(c.Servers) != 3 {
		t.Errorf("recovered: %+v", c)
	}
	if took, err := last.set("13"); err != nil || took > patient(time.Second) {
		t.Errorf("a change after the recovery: %v %v", err, took)
	}
	eventually(t, "the maps are newer than any brick has seen", func() bool {
		m, err := api.FetchMap(ctx, []string{last.addr}, "v")
		return err == nil && m.Version > seen.Map && m.Layouts[0].Version > seen.Layout && m.Options["network.timeout"] == "13"
	})
	p.sites[0].again()
	p.sites[1].again()
	p.settled()
	for _, s := range p.sites {
		s.online(3)
		eventually(t, "it is in the recovered cluster", func() bool {
			c, err := s.conn.ClusterStatus(ctx)
			return err == nil && c.Incarnation == 2 && c.Quorum
		})
		if _, err := s.set("14"); err != nil {
			t.Errorf("%s: %v", s.addr, err)
		}
	}
	maps.until("the newest", func(m *spec.Map) bool { // who followed was never given an older one
		if m.Version < before.Version {
			t.Errorf("version %d after %d", m.Version, before.Version)
		}
		before = m
		return m.Options["network.timeout"] == "14"
	})
}

// seenFile is a brick's file of what it has seen.
func seenFile(t *testing.T, s brick.Seen) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := brick.Init(t.Context(), dir, brick.Identity{VolumeID: newUUID(), Volume: "x", Set: 1, BrickID: newUUID()}); err != nil {
		t.Fatal(err)
	}
	st, err := brick.Open(dir, brick.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.NoteSeen(s); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dir + "/.mortar/map")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A server without a vote can carry the cluster on too, from what it last saw.
func TestRecoveredFromAClient(t *testing.T) {
	t.Parallel()
	p := newPool(t, 2)
	p.grow()
	p.started()
	p.sites[1].online(2)
	p.sites[0].halt()
	second := p.sites[1]
	took, err := second.set("12")
	if err == nil || !strings.Contains(err.Error(), "The one voter of the configuration store does not answer") || took > patient(3*time.Second) {
		t.Errorf("a change without the voter: %v after %v", err, took)
	}
	c := must[api.Cluster](t)(second.conn.ClusterRecover(t.Context()))
	if !c.Quorum || c.Incarnation != 2 {
		t.Errorf("recovered: %+v", c)
	}
	if _, err := second.set("13"); err != nil {
		t.Error(err)
	}
	p.sites[0].again()
	p.sites[0].online(2)
	eventually(t, "the first server is in the recovered cluster", func() bool {
		c, err := p.sites[0].conn.ClusterStatus(t.Context())
		return err == nil && c.Quorum && c.Incarnation == 2 && c.Voters == 1 && c.Answering == 1
	})
}

// All servers' configuration is lost; a backup and the bricks' disks are there.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	p := newPool(t, 2)
	p.grow()
	p.started()
	ctx := t.Context()
	b := must[api.Backup](t)(p.sites[1].conn.ClusterBackup(ctx))
	maps := watch(t, p.sites[0].addr) // of a mount that lives through it all
	before := maps.next()
	if _, err := p.sites[0].conn.ClusterRestore(ctx, b); err == nil || !strings.Contains(err.Error(), "alone and has no volumes; this one is in a pool") {
		t.Errorf("restore onto a pool: %v", err)
	}
	for _, s := range p.sites {
		s.halt()
		if err := os.RemoveAll(s.state); err != nil {
			t.Fatal(err)
		}
	}
	first, old := p.sites[0], p.sites[0].status.ID
	first.again()
	for name, bad := range map[string][]byte{
		"is damaged or not Mortar's": []byte("hello"), "is damaged or not": b.Data[:len(b.Data)/2],
		"has the format version 9": []byte(strings.Replace(string(b.Data), `"v":1`, `"v":9`, 1)),
		"is damaged: its checksum": []byte(strings.Replace(string(b.Data), `"order":1`, `"order":7`, 1)),
	} {
		if _, err := first.conn.ClusterRestore(ctx, api.Backup{Data: bad}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := first.conn.VolumeInfo(ctx, api.VolumeRequest{Name: "v"})
	refused(t, err, api.ErrNoVolume, "Volume v does not exist")
	_, path, _ := spec.ParseBrick(first.bricks(1, "b")[0])
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := first.conn.ClusterRestore(ctx, b); err == nil || !strings.Contains(err.Error(), "of volume v is not there") {
		t.Errorf("without a brick's disk: %v", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	c := must[api.Cluster](t)(first.conn.ClusterRestore(ctx, b))
	if !c.Quorum || c.Incarnation != 2 || len(c.Servers) != 2 || !c.Servers[0].Self || c.Servers[0].ID != old {
		t.Errorf("restored: %+v", c)
	}
	eventually(t, "its brick is online", func() bool { return brickPID(t, first.conn, "v", 0) > 0 })
	if st := must[api.Status](t)(first.conn.Status(ctx)); st.ID != old {
		t.Errorf("it is %s and was %s", st.ID, old)
	}
	first.halt() // and the names hold
	first.again()
	eventually(t, "its brick is online", func() bool { return brickPID(t, first.conn, "v", 0) > 0 })
	if _, err := first.set("22"); err != nil {
		t.Error(err)
	}
	maps.until("the newest", func(m *spec.Map) bool {
		if m.Version <= before.Version {
			t.Errorf("version %d after %d", m.Version, before.Version)
		}
		return m.Options["network.timeout"] == "22"
	})
}
