package manage

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

func TestLifeOfAVolume(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	st, _ := s.run(s.config())
	c, ctx := s.dial(), t.Context()
	if st.Store != "" || !isUUID(st.ID) || !strings.HasPrefix(st.Listen, "127.0.0.1:") {
		t.Errorf("status %+v", st)
	}
	bricks := s.bricks(3, "b")
	v := must[api.Volume](t)(c.VolumeCreate(ctx, api.CreateRequest{Name: "demo", Bricks: bricks}))
	if v.State != api.Created || len(v.Bricks) != 3 || v.Bricks[2].Name != bricks[2] || v.Bricks[0].PeerID != st.ID {
		t.Errorf("created %+v", v)
	}
	_, err := c.VolumeStatus(ctx, api.StatusRequest{Name: "demo"})
	refused(t, err, api.ErrGeneric, "Volume demo is not started")

	v = must[api.Volume](t)(c.VolumeStart(ctx, api.VolumeRequest{Name: "demo"}))
	if v.State != api.Started {
		t.Errorf("started: %v", v.State)
	}
	status := must[[]api.VolumeStatus](t)(c.VolumeStatus(ctx, api.StatusRequest{Detail: true}))
	if len(status) != 1 || len(status[0].Bricks) != 3 {
		t.Fatalf("status %+v", status)
	}
	for _, b := range status[0].Bricks {
		if !b.Online || b.Port == 0 || b.PID < 1 || b.Disk == nil || b.Disk.Total == 0 || b.Disk.FileSystem == "" {
			t.Errorf("brick %+v, disk %+v", b, b.Disk)
		}
	}
	m := must[*spec.Map](t)(api.FetchMap(ctx, []string{st.Listen}, "demo"))
	if !m.Started || m.ID != v.ID || len(m.Sets) != 3 || m.Sets[2].ID != 3 || m.RootHome != 1 || len(m.Layouts) != 1 || len(m.Layouts[0].Ranges) != 3 {
		t.Errorf("map %+v", m)
	}
	for i, set := range m.Sets {
		if !strings.HasPrefix(set.Members[0].Addr, "127.0.0.1:") || set.Members[0].Brick != bricks[i] {
			t.Errorf("member %+v", set.Members[0])
		}
	}
	refusals(t, c)
	must[api.Volume](t)(c.VolumeStop(ctx, api.VolumeRequest{Name: "demo"}))
	if p := s.processes(); len(p) != 0 {
		t.Errorf("processes after the stop: %+v", p)
	}
	_, err = c.VolumeStop(ctx, api.VolumeRequest{Name: "demo"})
	refused(t, err, api.ErrGeneric, "Volume demo is not in the started state")
	must[api.Volume](t)(c.VolumeDelete(ctx, api.VolumeRequest{Name: "demo"}))
	if l := must[[]api.Volume](t)(c.VolumeInfo(ctx, api.VolumeRequest{})); len(l) != 0 {
		t.Errorf("volumes after the delete: %+v", l)
	}
	path := strings.TrimPrefix(bricks[0], "localhost:")
	_, err = c.VolumeCreate(ctx, api.CreateRequest{Name: "again", Bricks: bricks})
	refused(t, err, api.ErrGeneric, path+" is already part of a volume")
	if err := os.WriteFile(path+"/file", []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	must[api.Volume](t)(c.VolumeCreate(ctx, api.CreateRequest{Name: "again", Bricks: bricks, Force: true}))
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != 2 || entries[0].Name() != ".mortar" || !strings.HasPrefix(entries[1].Name(), asideName) {
		t.Fatalf("after the forced create: %v %v", entries, err)
	}
	if b, err := os.ReadFile(path + "/" + entries[1].Name() + "/file"); string(b) != "kept" {
		t.Errorf("the old volume's file: %q %v", b, err)
	}
	must[api.Volume](t)(c.VolumeStart(ctx, api.VolumeRequest{Name: "again"}))
}

// refusals of a started volume "demo".
func refusals(t *testing.T, c *api.Conn) {
	t.Helper()
	ctx := t.Context()
	_, err := c.VolumeStart(ctx, api.VolumeRequest{Name: "demo"})
	refused(t, err, api.ErrGeneric, "Volume demo already started")
	_, err = c.VolumeDelete(ctx, api.VolumeRequest{Name: "demo"})
	refused(t, err, api.ErrGeneric, "Volume demo has been started.Volume needs to be stopped before deletion.")
	_, err = c.VolumeCreate(ctx, api.CreateRequest{Name: "demo", Bricks: []string{"localhost:/x/y"}})
	refused(t, err, 0, "Volume demo already exists")
	for _, f := range []func() error{
		func() error { _, err := c.VolumeStart(ctx, api.VolumeRequest{Name: "nosuch"}); return err },
		func() error { _, err := c.VolumeStop(ctx, api.VolumeRequest{Name: "nosuch"}); return err },
		func() error { _, err := c.VolumeDelete(ctx, api.VolumeRequest{Name: "nosuch"}); return err },
		func() error { _, err := c.VolumeInfo(ctx, api.VolumeRequest{Name: "nosuch"}); return err },
		func() error { _, err := c.VolumeStatus(ctx, api.StatusRequest{Name: "nosuch"}); return err },
		func() error { _, err := c.VolumeGet(ctx, api.GetRequest{Name: "nosuch", Key: "all"}); return err },
		func() error { _, err := api.FetchMap(ctx, []string{c.Target()}, "nosuch"); return err },
	} {
		refused(t, f(), api.ErrNoVolume, "Volume nosuch does not exist")
	}
	_, err = c.VolumeStatus(ctx, api.StatusRequest{Name: "demo", Brick: "localhost:/no/such"})
	refused(t, err, api.ErrGeneric, "No brick localhost:/no/such in volume demo")
}

func TestBrickDies(t *testing.T) {
	s := newSite(t)
	s.run(s.config())
	c, ctx := s.dial(), t.Context()
	must[api.Volume](t)(c.VolumeCreate(ctx, api.CreateRequest{Name: "v", Bricks: s.bricks(2, "b")}))
	must[api.Volume](t)(c.VolumeStart(ctx, api.VolumeRequest{Name: "v"}))
	maps := watch(t, s.socket)
	first := maps.next().Sets[0].Members[0]

	pid := brickPID(t, c, "v", 0)
	killed := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	now := maps.until("the brick is up again", func(m *spec.Map) bool {
		b := m.Sets[0].Members[0]
		return b.Ended == first.Life && b.Addr != ""
	}).Sets[0].Members[0]
	if now.Addr != first.Addr {
		t.Errorf("the brick was at %s and is at %s now: who knew the old place must hear of the new", first.Addr, now.Addr)
	}
	if took := time.Since(killed); took > patient(time.Second) {
		t.Errorf("up again after %v", took)
	}
	if now := brickPID(t, c, "v", 0); now == pid || now < 1 {
		t.Errorf("process %d before and %d after", pid, now)
	}
	must[api.Volume](t)(c.VolumeStop(ctx, api.VolumeRequest{Name: "v"}))
	if p := s.processes(); len(p) != 0 {
		t.Errorf("processes after the stop: %+v", p)
	}
}

func brickPID(t *testing.T, c *api.Conn, volume string, i int) int {
	t.Helper()
	return must[[]api.VolumeStatus](t)(c.VolumeStatus(t.Context(), api.StatusRequest{Name: volume}))[0].Bricks[i].PID
}

func TestBrickThatCannotStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run(s.config())
	c, ctx := s.dial(), t.Context()
	bricks := s.bricks(2, "b")
	must[api.Volume](t)(c.VolumeCreate(ctx, api.CreateRequest{Name: "v", Bricks: bricks}))
	for ctl, want := range map[string]string{"fail": "ended: the disk has gone fishing. See its log ", "mute": "did not register within 3s"} {
		s.control(2, ctl)
		_, err := c.VolumeStart(ctx, api.VolumeRequest{Name: "v"})
		if err == nil || !strings.Contains(err.Error(), "Brick "+bricks[1]+" can't be started: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", ctl, err)
		}
		if v := must[[]api.Volume](t)(c.VolumeInfo(ctx, api.VolumeRequest{Name: "v"})); v[0].State != api.Created {
			t.Errorf("%s: state %v", ctl, v[0].State)
		}
		if p := s.processes(); len(p) != 0 {
			t.Errorf("%s: processes %+v", ctl, p)
		}
	}
	s.control(2, "fail")
	must[api.Volume](t)(c.VolumeStart(ctx, api.VolumeRequest{Name: "v", Force: true}))
	if brickPID(t, c, "v", 0) < 1 || brickPID(t, c, "v", 1) != -1 {
		t.Error("forced start: one brick should run and one not")
	}
	s.control(2, "")
	must[api.Volume](t)(c.VolumeStart(ctx, api.VolumeRequest{Name: "v", Force: true}))
	if brickPID(t, c, "v", 1) < 1 {
		t.Error("start force does not start the missing brick")
	}
}

// control tells the fake brick bN how to behave.
func (s *site) control(n int, how string) {
	s.t.Helper()
	path := strings.TrimPrefix(s.bricks(n, "b")[n-1], "localhost:")
	if err := os.WriteFile(path+".ctl", []byte(how), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func TestStubbornBrick(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	cfg.StopTimeout = 200 * time.Millisecond
	s.run(cfg)
	c, ctx := s.dial(), t.Context()
	s.control(1, "stubborn")
	must[api.Volume](t)(c.VolumeCreate(ctx, api.CreateRequest{Name: "v", Bricks: s.bricks(1, "b")}))
	must[api.Volume](t)(c.VolumeStart(ctx, api.VolumeRequest{Name: "v"}))
	must[api.Volume](t)(c.VolumeStop(ctx, api.VolumeRequest{Name: "v"}))
	if p := s.processes(); len(p) != 0 {
		t.Errorf("processes after the stop: %+v", p)
	}
}

func TestDaemonRestarts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, stop := s.run(s.config())
	c, ctx := s.dial(), t.Context()
	must[api.Volume](t)(c.VolumeCreate(ctx, api.CreateRequest{Name: "v", Bricks: s.bricks(3, "b")}))
	must[api.Volume](t)(c.VolumeStart(ctx, api.VolumeRequest{Name: "v"}))
	maps := watch(t, s.socket)
	before := maps.next()
	pids := []int{brickPID(t, c, "v", 0), brickPID(t, c, "v", 1), brickPID(t, c, "v", 2)}
	stop()
	if p := s.processes(); len(p) != 3 {
		t.Fatalf("processes after the daemon's end: %+v", p)
	}
	_ = syscall.Kill(pids[1], syscall.SIGKILL) // while nobody looks
	var st syscall.WaitStatus
	_, _ = syscall.Wait4(pids[1], &st, 0, nil)

	s.run(s.config())
	c = s.dial()
	eventually(t, "the brick that died is up again", func() bool { return brickPID(t, c, "v", 1) > 0 })
	now := []int{brickPID(t, c, "v", 0), brickPID(t, c, "v", 1), brickPID(t, c, "v", 2)}
	if now[0] != pids[0] || now[1] == pids[1] || now[2] != pids[2] {
		t.Errorf("processes %v before, %v after", pids, now)
	}
	after := maps.until("of the new daemon, with the brick", func(m *spec.Map) bool {
		return m.Sets[1].Members[0].Addr != "" && m.Version > before.Version
	})
	if was, is := before.Sets[1].Members[0].Addr, after.Sets[1].Members[0].Addr; was != is {
		t.Errorf("the brick was at %s and is at %s now", was, is)
	}
	must[api.Volume](t)(c.VolumeStop(ctx, api.VolumeRequest{Name: "v"}))
	if p := s.processes(); len(p) != 0 {
		t.Errorf("processes after the stop: %+v", p)
	}
}

func TestOrphanIsEnded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, stop := s.run(s.config())
	c, ctx := s.dial(), t.Context()
	must[api.Volume](t)(c.VolumeCreate(ctx, api.CreateRequest{Name: "v", Bricks: s.bricks(1, "b")}))
	must[api.Volume](t)(c.VolumeStart(ctx, api.VolumeRequest{Name: "v"}))
	stop()
	if err := os.RemoveAll(s.state); err != nil { // the brick's volume is no more
		t.Fatal(err)
	}
	s.run(s.config())
	eventually(t, "the orphan is ended", func() bool { return len(s.processes()) == 0 })
}

func TestOptions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run(s.config())
	c, ctx := s.dial(), t.Context()
	must[api.Volume](t)(c.VolumeCreate(ctx, api.CreateRequest{Name: "v", Bricks: s.bricks(1, "b")}))
	set := func(pairs ...string) (api.SetReply, error) {
		return c.VolumeSet(ctx, api.SetRequest{Name: "v", Pairs: pairs})
	}
	get := func(key string) api.OptionValue {
		t.Helper()
		return must[[]api.OptionValue](t)(c.VolumeGet(ctx, api.GetRequest{Name: "v", Key: key}))[0]
	}
	if r := must[api.SetReply](t)(set("network.timeout", "20", "cluster.min-free-disk", "5%")); len(r.Notes) != 0 {
		t.Errorf("notes %v", r.Notes)
	}
	if r := must[api.SetReply](t)(set("performance.cache-size", "64MB")); len(r.Notes) != 1 {
		t.Errorf("notes of an option without effect: %v", r.Notes)
	}
	if o := get("network.timeout"); o.Value != "20" || o.Default {
		t.Errorf("got %+v", o)
	}
	if _, err := set("network.timeout", "30", "no.such.option", "1"); err == nil || !strings.HasPrefix(err.Error(), "option : no.such.option does not exist") {
		t.Errorf("unknown option: %v", err)
	}
	if _, err := set("network.timeout", "30", "cluster.min-free-disk", "lots"); err == nil {
		t.Error("a value that is none was taken")
	}
	if o := get("network.timeout"); o.Value != "20" {
		t.Errorf("a refused set changed something: %+v", o)
	}
	names := func() []string {
		var out []string
		for _, o := range must[[]api.Volume](t)(c.VolumeInfo(ctx, api.VolumeRequest{Name: "v"}))[0].Options {
			out = append(out, o.Name)
		}
		return out
	}
	want := []string{"nfs.disable", "transport.address-family", "storage.fips-mode-rchecksum", "network.timeout", "cluster.min-free-disk", "performance.cache-size"}
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("options %v, want %v", got, want)
	}
	must[api.SetReply](t)(c.VolumeReset(ctx, api.ResetRequest{Name: "v", Option: "network.timeout"}))
	if o := get("network.timeout"); !o.Default || o.Value != spec.Default("network.timeout") {
		t.Errorf("after the reset %+v", o)
	}
	must[api.SetReply](t)(c.VolumeReset(ctx, api.ResetRequest{Name: "v", Force: true}))
	if got := names(); len(got) != 0 {
		t.Errorf("after reset of all: %v", got)
	}
	if all := must[[]api.OptionValue](t)(c.VolumeGet(ctx, api.GetRequest{Name: "v", Key: "all"})); len(all) < 100 {
		t.Errorf("get all shows %d options", len(all))
	}
	m := must[*spec.Map](t)(api.FetchMap(ctx, []string{s.socket}, "v"))
	must[api.SetReply](t)(set("network.timeout", "7"))
	if n := must[*spec.Map](t)(api.FetchMap(ctx, []string{s.socket}, "v")); n.Options["network.timeout"] != "7" || n.Version <= m.Version {
		t.Errorf("map after the set %+v", n)
	}
}
