package manage

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// A volume over three servers, changed from each of them; every one tells the same.
func TestVolumeOverServers(t *testing.T) { // not beside others: it measures
	p := newPool(t, 3)
	p.grow()
	ctx := t.Context()
	bricks := p.bricks(2)
	timed := func(what string, f func() error) {
		t.Helper()
		began := time.Now()
		if err := f(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if took := time.Since(began); took > patient(time.Second) {
			t.Errorf("%s took %v", what, took)
		} else {
			t.Logf("%s took %v", what, took)
		}
	}
	timed("create", func() error {
		_, err := p.sites[1].conn.VolumeCreate(ctx, api.CreateRequest{Name: "v", Bricks: bricks})
		return err
	})
	timed("start", func() error {
		_, err := p.sites[2].conn.VolumeStart(ctx, api.VolumeRequest{Name: "v"})
		return err
	})
	timed("set", func() error { _, err := p.sites[0].set("21"); return err })
	var texts []string
	for _, s := range p.sites {
		s.online(6)
		info := must[[]api.Volume](t)(s.conn.VolumeInfo(ctx, api.VolumeRequest{}))
		status := must[[]api.VolumeStatus](t)(s.conn.VolumeStatus(ctx, api.StatusRequest{}))
		m := must[*spec.Map](t)(api.FetchMap(ctx, []string{s.addr}, "v"))
		texts = append(texts, fmt.Sprintf("%+v\n%+v\n%+v", info, status, *m))
		for i, set := range m.Sets {
			if host, _, _ := strings.Cut(set.Members[0].Addr, ":"); host != p.sites[i/2].addr {
				t.Errorf("set %d is at %s", set.ID, set.Members[0].Addr)
			}
		}
		if n := len(s.processes()); n != 2 {
			t.Errorf("%d brick processes on %s", n, s.addr)
		}
	}
	for _, b := range must[[]api.VolumeStatus](t)(p.sites[1].conn.VolumeStatus(ctx, api.StatusRequest{Name: "v", Detail: true}))[0].Bricks {
		if b.Disk == nil || b.Disk.Total == 0 {
			t.Errorf("what lies under %s is not known: %+v", b.Name, b.Disk)
		}
	}
	if texts[0] != texts[1] || texts[1] != texts[2] {
		t.Errorf("the answers differ:\n%s", strings.Join(texts, "\n\n"))
	}
	// A brick that can't be made is found on its own server, and nothing is made anywhere.
	bad := p.bricks(3)
	_, path, _ := spec.ParseBrick(bad[8])
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := p.sites[0].conn.VolumeCreate(ctx, api.CreateRequest{Name: "w", Bricks: []string{bad[2], bad[5], bad[8]}})
	refused(t, err, api.ErrGeneric, "The provided path "+bad[8]+" which is already present, is not a directory")
	if _, path, _ = spec.ParseBrick(bad[2]); exists(path) {
		t.Error("the first brick was made")
	}
	for host, want := range map[string]string{
		"192.0.2.7": "Host 192.0.2.7 is not in 'Peer in Cluster' state", "no-such.invalid": "Failed to find host no-such.invalid",
	} {
		_, err := p.sites[0].conn.VolumeCreate(ctx, api.CreateRequest{Name: "w", Bricks: []string{host + ":/b"}})
		refused(t, err, api.ErrGeneric, want)
	}
	serverAway(t, p)
}

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }

// serverAway is what can be done while the third of the servers of "v" is not there.
func serverAway(t *testing.T, p *pool) {
	t.Helper()
	ctx, c := t.Context(), p.sites[0].conn
	gone := p.sites[2]
	gone.halt()
	want := "Host " + gone.addr + " not connected"
	for what, f := range map[string]func() error{
		"stop":  func() error { _, err := c.VolumeStop(ctx, api.VolumeRequest{Name: "v"}); return err },
		"start": func() error { _, err := c.VolumeStart(ctx, api.VolumeRequest{Name: "v"}); return err },
		"create": func() error {
			_, err := c.VolumeCreate(ctx, api.CreateRequest{Name: "w", Bricks: []string{gone.addr + ":" + gone.dir + "/w"}})
			return err
		},
	} {
		began := time.Now()
		err := f()
		if took := time.Since(began); err == nil || err.Error() != want && what != "start" || took > patient(3*time.Second) {
			t.Errorf("%s: %v after %v, want %q", what, err, took, want)
		}
	}
	if took, err := p.sites[1].set("22"); err != nil || took > patient(3*time.Second) {
		t.Errorf("set: %v after %v", err, took)
	}
	began := time.Now()
	if _, err := c.VolumeStop(ctx, api.VolumeRequest{Name: "v", Force: true}); err != nil {
		t.Errorf("forced stop: %v", err)
	}
	if took := time.Since(began); took > patient(3*time.Second) {
		t.Errorf("the forced stop took %v", took)
	}
	must[api.Volume](t)(c.VolumeDelete(ctx, api.VolumeRequest{Name: "v"})) // a stopped one's bricks have nothing to do
	if list := must[[]api.Volume](t)(c.VolumeInfo(ctx, api.VolumeRequest{})); len(list) != 0 {
		t.Errorf("volumes after the delete: %+v", list)
	}
	if n := len(gone.processes()); n != 2 {
		t.Errorf("%d brick processes on the server that is away", n)
	}
	gone.again()
	eventually(t, "the bricks end when their server is back", func() bool { return len(gone.processes()) == 0 })
}

// Changes of one volume from several servers at once: each succeeds or is told
// that another is in progress, and the volume is what the last one made it.
func TestAtOnceFromSeveralServers(t *testing.T) {
	t.Parallel()
	p := newPool(t, 3)
	p.grow()
	ctx := t.Context()
	const busy = "Another transaction is in progress for v. Please try again after some time."
	var wg sync.WaitGroup
	made := make(chan error, 3)
	for i, s := range p.sites {
		wg.Go(func() {
			_, err := s.conn.VolumeCreate(ctx, api.CreateRequest{Name: "v", Bricks: p.bricks(3)[i*3 : i*3+3]})
			made <- err
		})
	}
	wg.Wait()
	close(made)
	succeeded := 0
	for err := range made {
		switch {
		case err == nil:
			succeeded++
		case err.Error() != busy && err.Error() != "Volume v already exists":
			t.Errorf("create: %v", err)
		}
	}
	if succeeded != 1 {
		t.Fatalf("%d creates succeeded", succeeded)
	}
	var mu sync.Mutex
	last := ""
	for round := range 5 {
		for i, s := range p.sites {
			wg.Go(func() {
				_, err := s.conn.VolumeStart(ctx, api.VolumeRequest{Name: "v", Force: true})
				if err != nil && err.Error() != busy {
					t.Errorf("start: %v", err)
				}
				value := fmt.Sprint(100 + 10*round + i)
				_, err = s.set(value)
				switch {
				case err == nil:
					mu.Lock()
					last += " " + value
					mu.Unlock()
				case err.Error() != busy:
					t.Errorf("set: %v", err)
				}
			})
		}
		wg.Wait()
	}
	info := must[[]api.Volume](t)(p.sites[1].conn.VolumeInfo(ctx, api.VolumeRequest{Name: "v"}))[0]
	value := info.Options[len(info.Options)-1].Value
	if info.State != api.Started || !strings.Contains(last, " "+value) {
		t.Errorf("%v, the option is %s of%s", info.State, value, last)
	}
	p.sites[0].online(3)
	setAtOnce(t, p)
}

// setAtOnce sets a different option of "v" at each server at once: while no task is
// under way none is refused, and none takes another's back.
func setAtOnce(t *testing.T, p *pool) {
	t.Helper()
	ctx := t.Context()
	names := []string{"network.timeout", "cluster.min-free-disk", "diagnostics.brick-log-level"}
	for _, values := range [][]string{{"31", "3%", "ERROR"}, {"32", "4%", "DEBUG"}, {"33", "5%", "WARNING"}} {
		var wg sync.WaitGroup
		for i, s := range p.sites {
			wg.Go(func() {
				if _, err := s.conn.VolumeSet(ctx, api.SetRequest{Name: "v", Pairs: []string{names[i], values[i]}}); err != nil {
					t.Errorf("set of %s: %v", names[i], err)
				}
			})
		}
		wg.Wait()
		m := must[*spec.Map](t)(api.FetchMap(ctx, []string{p.sites[0].addr}, "v"))
		for i, name := range names {
			if m.Options[name] != values[i] {
				t.Errorf("%s is %q, and was set to %s", name, m.Options[name], values[i])
			}
		}
	}
}
