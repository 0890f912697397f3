package manage

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// Each of these creates is refused with its sentence and changes nothing.
func TestCreateRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run(s.config())
	c, ctx := s.dial(), t.Context()
	path := func(name string) string { return filepath.Join(s.dir, name) }
	at := func(name string) string { return "localhost:" + path(name) }
	for name, contents := range map[string]string{"plain": "", "torn/.mortar/brick": "mortar-brick 1\nvolume-id 3f", "foreign/.mortar/brick": "hello\n"} {
		if err := os.MkdirAll(filepath.Dir(path(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path(name), []byte(contents), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must[api.Volume](t)(c.VolumeCreate(ctx, api.CreateRequest{Name: "old", Bricks: []string{at("used")}}))
	must[api.Volume](t)(c.VolumeCreate(ctx, api.CreateRequest{Name: "gone", Bricks: []string{at("left")}}))
	must[api.Volume](t)(c.VolumeDelete(ctx, api.VolumeRequest{Name: "gone"}))
	const unavailable = " not available. Brick may be containing or be contained by an existing brick."
	for _, test := range []struct {
		r    api.CreateRequest
		want string // a part of it is enough
	}{
		{api.CreateRequest{Name: "old", Bricks: []string{at("new")}}, "Volume old already exists"},
		{api.CreateRequest{Name: "a/b", Bricks: []string{at("new")}}, `"/" character`},
		{api.CreateRequest{Name: "", Bricks: []string{at("new")}}, "must not be empty"},
		{api.CreateRequest{Name: "v"}, "No bricks specified"},
		{api.CreateRequest{Name: "v", Bricks: []string{"localhost:relative"}}, "Wrong brick type: localhost:relative"},
		{api.CreateRequest{Name: "v", Bricks: []string{at("new"), at("new")}}, "duplicate exports"},
		{api.CreateRequest{Name: "v", Bricks: []string{at("new"), at("new/inner")}}, "Brick: " + at("new/inner") + unavailable},
		{api.CreateRequest{Name: "v", Bricks: []string{at("new"), strings.Replace(at("new"), "localhost", "127.0.0.1", 1)}}, unavailable},
		{api.CreateRequest{Name: "v", Bricks: []string{at("used")}, Force: true}, "Brick: " + at("used") + unavailable},
		{api.CreateRequest{Name: "v", Bricks: []string{at("used/inner")}, Force: true}, "Brick: " + at("used/inner") + unavailable},
		{api.CreateRequest{Name: "v", Bricks: []string{"localhost:" + s.dir}, Force: true}, "Brick: localhost:" + s.dir + unavailable},
		{api.CreateRequest{Name: "v", Bricks: []string{at("left")}}, path("left") + " is already part of a volume"},
		{api.CreateRequest{Name: "v", Bricks: []string{at("left/inner")}}, path("left/inner") + " or a prefix of it is already part of a volume"},
		{api.CreateRequest{Name: "v", Bricks: []string{at("left/inner")}, Force: true}, path("left/inner") + " or a prefix of it is already part of a volume"},
		{api.CreateRequest{Name: "v", Bricks: []string{at("torn")}}, path("torn/.mortar/brick") + " has no line \"volume-id\" where it belongs: it is truncated"},
		{api.CreateRequest{Name: "v", Bricks: []string{at("foreign")}}, "is not a brick's identity"},
		{api.CreateRequest{Name: "v", Bricks: []string{at("no/such")}}, "Failed to create brick directory for brick " + at("no/such") + ". Reason : No such file or directory"},
		{api.CreateRequest{Name: "v", Bricks: []string{at("plain")}}, "The provided path " + at("plain") + " which is already present, is not a directory"},
		{api.CreateRequest{Name: "v", Bricks: []string{at("plain/b")}}, "Failed to create brick directory for brick " + at("plain/b")},
		{api.CreateRequest{Name: "v", Bricks: []string{"localhost:/proc/b"}, Force: true}, "Setting extended attributes failed, reason: Operation not supported."},
		{api.CreateRequest{Name: "v", Bricks: []string{"localhost:/dev/shm"}}, "The brick localhost:/dev/shm is a mount point."},
		{api.CreateRequest{Name: "v", Bricks: []string{"192.0.2.7:/b"}}, "Host 192.0.2.7 is not in 'Peer in Cluster' state"},
		{api.CreateRequest{Name: "v", Bricks: []string{"127.0.0.77:/b"}}, "Host 127.0.0.77 is not in 'Peer in Cluster' state"},
		{api.CreateRequest{Name: "v", Bricks: []string{"no-such-host.invalid:/b"}}, "Failed to find host no-such-host.invalid"},
		{api.CreateRequest{Name: "v", Bricks: []string{at("n1"), at("n2")}, Replica: 2}, "Multiple bricks of a replicate volume are present on the same server. This setup is not optimal."},
		{api.CreateRequest{Name: "v", Bricks: []string{at("n1"), at("n2"), at("n3")}, Replica: 2}, "number of bricks is not a multiple of replica count"},
		{api.CreateRequest{Name: "v", Bricks: []string{at("n1"), at("n2"), at("n3")}, Disperse: 3}, "leave out disperse and redundancy"},
		{api.CreateRequest{Name: "v", Bricks: []string{at("n1"), at("n2")}, Stripe: 2}, "leave out stripe"},
		{api.CreateRequest{Name: "v", Bricks: []string{at("new")}, Transport: "rdma"}, "Mortar knows tcp only"},
	} {
		_, err := c.VolumeCreate(ctx, test.r)
		if err == nil {
			t.Errorf("%+v was made", test.r)
		} else if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v:\n     %v\nwant %s", test.r, err, test.want)
		}
	}
	if l := must[[]api.Volume](t)(c.VolumeInfo(ctx, api.VolumeRequest{})); len(l) != 1 {
		t.Errorf("volumes %+v", l)
	}
	for _, name := range []string{"new", "n1", "no", "used/inner", "left/inner"} {
		if _, err := os.Lstat(path(name)); !os.IsNotExist(err) {
			t.Errorf("%s was made: %v", name, err)
		}
	}
}

func TestRootPartition(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var st syscall.Stat_t
	if err := syscall.Stat(s.dir, &st); err != nil {
		t.Fatal(err)
	}
	cfg := s.config()
	cfg.rootDevice = &st.Dev
	s.run(cfg)
	c, bricks := s.dial(), s.bricks(1, "b")
	_, err := c.VolumeCreate(t.Context(), api.CreateRequest{Name: "v", Bricks: bricks})
	refused(t, err, api.ErrGeneric, "The brick "+bricks[0]+" is being created in the root partition. It is recommended that you don't use the system's root partition for storage backend. Or use 'force' at the end of the command if you want to override this behavior.")
	must[api.Volume](t)(c.VolumeCreate(t.Context(), api.CreateRequest{Name: "v", Bricks: bricks, Force: true}))
}

func TestOwnHosts(t *testing.T) {
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		listen, host string
		own          bool
	}{
		{"", "localhost", true}, {"", "LOCALHOST", true}, {"", "127.0.0.1", true}, {"", "127.0.0.9", true}, {"", "::1", true},
		{"", hostname, true}, {"", "192.0.2.1", false}, {"", "elsewhere", false},
		{"127.0.0.2", "127.0.0.2", true}, {"127.0.0.2", "127.0.0.1", false}, {"127.0.0.2", "localhost", true}, {"127.0.0.2", hostname, true},
		{"192.0.2.5", "192.0.2.5", true}, {"192.0.2.5", "127.0.0.1", true},
	} {
		d := &daemon{host: test.listen}
		if got := d.isOwnHost(test.host); got != test.own {
			t.Errorf("listening on %q, %q is its own: %v", test.listen, test.host, got)
		}
	}
}

func TestParseListen(t *testing.T) {
	for in, want := range map[string]string{
		"": "*:24100", "0.0.0.0": "*:24100", "[::]:5": "*:5", "*:7": "*:7", "127.0.0.2": "127.0.0.2:24100",
		"127.0.0.2:0": "127.0.0.2:0", "::1": "::1:24100", "[::1]:9": "::1:9", "host:80": "host:80",
	} {
		host, port, err := parseListen(in)
		if got := describeListen(host, port); err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"host:x", "host:70000", "a:b:c"} {
		if _, _, err := parseListen(in); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}
