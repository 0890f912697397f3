package manage

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// theMap is the newest map of "v" at a site.
func (s *site) theMap() *spec.Map {
	s.t.Helper()
	return must[*spec.Map](s.t)(api.FetchMap(s.t.Context(), []string{s.addr}, "v"))
}

// swap changes the state of the set of "v".
func (s *site) swap(f func(spec.SetState) spec.SetState) {
	s.t.Helper()
	m := s.theMap()
	now, revision, err := api.ReadSetState(s.t.Context(), []string{s.socket}, m.ID, 1)
	if err == nil {
		_, err = api.SwapSetState(s.t.Context(), []string{s.socket}, m.ID, 1, revision, f(now))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// succeed has a member take over when the map says that the primary's process has
// ended, as a brick would; it returns when that has happened.
func (s *site) succeed(ctx context.Context, member string) {
	var primary string
	_ = s.conn.WatchMap(ctx, "v", func(m *spec.Map) error {
		set := m.Sets[0]
		if primary == "" {
			primary = set.State.Primary
		}
		if b := set.Member(primary); b != nil && b.Life == "" {
			s.swap(func(now spec.SetState) spec.SetState { return reign(now, member) })
			return context.Canceled
		}
		return nil
	})
}

// at is a brick directory of a site.
func (s *site) at(name string) string { return s.addr + ":" + filepath.Join(s.dir, name) }

func (s *site) replaceBrick(brick, with string) error {
	_, err := s.conn.VolumeReplaceBrick(s.t.Context(), api.BrickRequest{Name: "v", Brick: brick, With: with, Force: true})
	return err
}

func (s *site) resetBrick(brick, with string, force bool) error {
	_, err := s.conn.VolumeResetBrick(s.t.Context(), api.BrickRequest{Name: "v", Brick: brick, With: with, Force: force})
	return err
}

// serves checks that the member of "v" at this place is that brick, that it runs, and
// whether it is in sync.
func (s *site) serves(place int, name string, inSync bool) spec.Member {
	s.t.Helper()
	var b spec.Member
	eventually(s.t, name+" runs", func() bool {
		b = s.theMap().Sets[0].Members[place]
		return b.Addr != ""
	})
	m := s.theMap()
	if _, in := m.Sets[0].State.Seat(b.ID); in != inSync || b.Brick != name || len(m.Sets[0].Members) != 3 {
		s.t.Errorf("member %+v, in sync %v; the set: %+v", b, in, m.Sets[0])
	}
	return b
}

func TestReplaceBrick(t *testing.T) {
	t.Parallel()
	p := newPool(t, 3)
	p.grow()
	first, second, third := p.sites[0], p.sites[1], p.sites[2]
	m := p.replicated(api.CreateRequest{Replica: 3})
	old := m.Sets[0].Members
	first.swap(func(s spec.SetState) spec.SetState { return reign(s, old[0].ID) })

	// The primary's brick: another member takes over, then the brick loses its place.
	done := make(chan struct{})
	go func() { defer close(done); second.succeed(t.Context(), old[1].ID) }()
	began := time.Now()
	if err := third.replaceBrick(old[0].Brick, first.at("n1")); err != nil {
		t.Fatal(err)
	}
	comes(t, "the end of the member that takes over", done)
	t.Logf("replaced in %v", time.Since(began))
	b := first.serves(0, first.at("n1"), false)
	if s := first.theMap().Sets[0].State; b.ID == old[0].ID || s.Epoch != 2 || s.Primary != old[1].ID || len(s.InSync) != 2 {
		t.Errorf("the state: %+v", s)
	}
	if id, err := brick.ReadIdentity(filepath.Join(first.dir, "b1")); err != nil || id.BrickID != old[0].ID {
		t.Errorf("the old brick's directory: %+v %v", id, err)
	}
	eventually(t, "the old process has ended", func() bool { return len(first.processes()) == 1 })

	// Its quorum would be lost, and then its last copy.
	refused(t, first.replaceBrick(old[2].Brick, third.at("n3")), api.ErrGeneric,
		"Without brick "+old[2].Brick+" 1 of its set would be in sync, and the set needs 2 to go on (cluster.quorum-type): heal the others first, see `mortar volume heal v info`.")
	second.swap(func(s spec.SetState) spec.SetState { return s.Without(old[2].ID) })
	refused(t, first.replaceBrick(old[1].Brick, second.at("n2")), api.ErrGeneric,
		"Brick "+old[1].Brick+" is the only one of its set that has everything that was acknowledged: heal another first, see `mortar volume heal v info`.")

	badReplacements(t, p, old)
	serverGone(t, p, old)
}

func badReplacements(t *testing.T, p *pool, old []spec.Member) {
	t.Helper()
	first := p.sites[0]
	if err := os.WriteFile(filepath.Join(first.dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	must[api.Volume](t)(first.conn.VolumeCreate(ctx, api.CreateRequest{Name: "plain", Bricks: []string{first.at("p")}}))
	for _, c := range []struct{ brick, with, want string }{
		{first.at("nosuch"), first.at("n9"), "brick: " + first.at("nosuch") + " does not exist in volume: v"},
		{first.at("n1"), "rel/path", "Wrong brick type: rel/path, use <HOSTNAME>:<export-dir-abs-path>"},
		{first.at("n1"), "192.0.2.7:/b", "Host 192.0.2.7 is not in 'Peer in Cluster' state"},
		{first.at("n1"), first.at("n1"), "Brick: " + first.at("n1") + " not available. Brick may be containing or be contained by an existing brick."},
		{first.at("n1"), first.at("p"), "Brick: " + first.at("p") + " not available. Brick may be containing or be contained by an existing brick."},
		{first.at("n1"), first.at("file"), "The provided path " + first.at("file") + " which is already present, is not a directory"},
		{first.at("n1"), first.at("b1"), filepath.Join(first.dir, "b1") + " is already part of a volume"},
	} {
		refused(t, p.sites[1].replaceBrick(c.brick, c.with), api.ErrGeneric, c.want)
	}
	_, err := first.conn.VolumeReplaceBrick(ctx, api.BrickRequest{Name: "plain", Brick: first.at("p"), With: first.at("q"), Force: true})
	refused(t, err, api.ErrGeneric, "Volume plain is not of type replicate/disperse: what is on its bricks is nowhere else")
	_, err = first.conn.VolumeReplaceBrick(ctx, api.BrickRequest{Name: "nosuch", Brick: first.at("p"), With: first.at("q"), Force: true})
	refused(t, err, api.ErrNoVolume, "Volume nosuch does not exist")
	first.serves(0, first.at("n1"), false)
	if n := len(first.processes()); n != 1 {
		t.Errorf("%d processes", n)
	}
}

// serverGone replaces the brick of a server that does not come back.
func serverGone(t *testing.T, p *pool, old []spec.Member) {
	t.Helper()
	first, third := p.sites[0], p.sites[2]
	third.halt()
	for _, f := range third.processes() {
		_ = syscall.Kill(f.pid, syscall.SIGKILL)
	}
	began := time.Now()
	if err := first.replaceBrick(old[2].Brick, first.at("n3")); err != nil {
		t.Fatal(err)
	}
	t.Logf("replaced in %v", time.Since(began))
	first.serves(2, first.at("n3"), false)
	if s := first.theMap().Sets[0].State; len(s.InSync) != 1 || s.Primary != old[1].ID {
		t.Errorf("the state: %+v", s)
	}
	third.again() // after all
	eventually(t, "the old brick does not run", func() bool { return len(third.processes()) == 0 })
	first.serves(2, first.at("n3"), false)
}

func TestResetBrick(t *testing.T) {
	t.Parallel()
	p := newPool(t, 3)
	p.grow()
	first, second, third := p.sites[0], p.sites[1], p.sites[2]
	m := p.replicated(api.CreateRequest{Replica: 3})
	old := m.Sets[0].Members
	second.swap(func(s spec.SetState) spec.SetState { return reign(s, old[1].ID) })
	at, path := old[0].Brick, filepath.Join(first.dir, "b1")

	refused(t, third.resetBrick(at, at, false), api.ErrGeneric, "Source brick must be stopped. Please use gluster volume reset-brick <volname> <dst-brick> start.")
	for range 2 { // the second time nothing is left to do
		if err := third.resetBrick(at, "", false); err != nil {
			t.Fatal(err)
		}
	}
	if b := third.theMap().Sets[0]; b.Members[0].Addr != "" || b.Members[0].Ended != old[0].Life || len(b.State.InSync) != 2 || b.State.Epoch != 1 || len(first.processes()) != 0 {
		t.Errorf("out of service: %+v", b)
	}
	// It stays out of service, whatever is done with the volume.
	must[api.Volume](t)(third.conn.VolumeStart(t.Context(), api.VolumeRequest{Name: "v", Force: true}))
	if b := third.theMap().Sets[0]; b.Members[0].Addr != "" {
		t.Errorf("it runs: %+v", b)
	}
	refused(t, third.resetBrick(at, first.at("other"), false), api.ErrGeneric,
		"When destination brick is new, please use gluster volume replace-brick <volname> <src-brick> <dst-brick> commit force")
	// With its data it is the same brick.
	if err := third.resetBrick(at, at, false); err != nil {
		t.Fatal(err)
	}
	if b := first.serves(0, at, false); b.ID != old[0].ID || b.Life == old[0].Life {
		t.Errorf("the same brick: %+v", b)
	}
	// Emptied it is another.
	if err := third.resetBrick(at, "", false); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := third.resetBrick(at, at, false); err != nil {
		t.Fatal(err)
	}
	now := first.serves(0, at, false)
	if id, err := brick.ReadIdentity(path); err != nil || now.ID == old[0].ID || id.BrickID != now.ID {
		t.Errorf("another brick: %+v, identity %+v %v", now, id, err)
	}
	// What another brick left is taken with force only.
	if err := third.resetBrick(at, "", false); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := brick.Init(t.Context(), path, brick.Identity{VolumeID: newUUID(), Volume: "other", Set: 1, BrickID: newUUID()}); err != nil {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := brick.Init(t.Context(), path, brick.Identity{VolumeID: newUUID(), Volume: "other", Set: 1, BrickID: newUUID()}); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, third.resetBrick(at, at, false), api.ErrGeneric, path+" is already part of a volume")
	if err := third.resetBrick(at, at, true); err != nil {
		t.Fatal(err)
	}
	first.serves(0, at, false)
	lostDisk(t, first, at, path)
}

// lostDisk: a disk that was emptied under a brick is told of, with what to do.
func lostDisk(t *testing.T, s *site, at, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".ctl", []byte("fail"), 0o600); err != nil { // as a brick does that does not find itself
		t.Fatal(err)
	}
	for _, f := range s.processes() {
		_ = syscall.Kill(f.pid, syscall.SIGKILL)
	}
	eventually(t, "the brick is down", func() bool { return s.theMap().Sets[0].Members[0].Addr == "" })
	_, err := s.conn.VolumeStart(t.Context(), api.VolumeRequest{Name: "v", Force: true})
	if err == nil || !strings.Contains(err.Error(), "run `mortar volume reset-brick v "+at+" start` and then `mortar volume reset-brick v "+at+" "+at+" commit`") {
		t.Errorf("start of a brick whose disk is empty: %v", err)
	}
}
