package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// TestBadInput: a sentence on the right stream, an exit code, nothing asked of the daemon.
func TestBadInput(t *testing.T) {
	const usage = "\n Usage: gluster [options] <help> <peer> <pool> <volume>\n"
	long := strings.Repeat("a", 300)
	for _, c := range []struct {
		line string
		out  string // beginning of stdout
		err  string // beginning of stderr
		code int
	}{
		{"frobnicate", "unrecognized word: frobnicate (position 0)\n" + usage, "", 1},
		{"volume frobnicate x", "unrecognized word: frobnicate (position 1)\n" + usage, "", 1},
		{"volume s v", "unrecognized word: s (position 1)\n" + usage, "", 1},
		{"v i v", "unrecognized word: i (position 1)\n" + usage, "", 1},
		{"p", "unrecognized word: p (position 0)\n" + usage, "", 1},
		{"VOLUME LIST", "unrecognized word: VOLUME (position 0)\n", "", 1},
		{"ver", "unrecognized word: ver (position 0)\n", "", 1}, // Mortar's own words are not shortened
		{"-V", "unrecognized word: -V (position 0)\n", "", 1},
		{"volume", "unrecognized command\n" + usage, "", 1},
		{"peer", "unrecognized command\n" + usage, "", 1},
		{"snapshot", "unrecognized command\n" + usage, "", 1},
		{"--frob volume list", "unrecognized option --frob\n" + usage, "", 255},
		{"--mode=foo volume list", "unrecognized option --mode=foo\n" + usage, "", 255},
		{"--xml=1 volume list", "unrecognized option --xml=1\n" + usage, "", 255},
		{"volume list --socket", "unrecognized option --socket\n" + usage, "", 255},
		{"--log-level=FOO volume list", "unrecognized option --log-level=FOO\n" + usage, "", 255},
		{"--timeout=0 volume list", "", "timeout value should be a positive integer\n", 254},
		{"--timeout=x volume list", "", "timeout value should be a positive integer\n", 254},
		{"--log-file=/no/such/dir/f volume list", "", "log file: open /no/such/dir/f: no such file or directory\n", 1},
		{"volume create", "", "\nUsage:\nvolume create <NEW-VOLNAME> ", 1},
		{"volume create v", "", "\nUsage:\nvolume create <NEW-VOLNAME> ", 1},
		{"volume create v force", "", "No bricks specified\n", 1},
		{"volume create a.b h:/b", "", "Volume name should not contain \".\" character.\nVolume names can only contain", 1},
		{"volume create all h:/b", "", "\"all\" cannot be the name of a volume.\n\nUsage:\n", 1},
		{"volume create a/b h:/b", "", "Volume name \"a/b\" should not contain \"/\" character.\n", 1},
		{"volume create -x h:/b", "", "Volume name must not begin with \"-\".\n", 1},
		{"volume create " + long + " h:/b", "", "Volume name exceeds 256 characters.\n", 1},
		{"volume create v foo", "", "Wrong brick type: foo, use <HOSTNAME>:<export-dir-abs-path>\n\nUsage:\n", 1},
		{"volume create v h:rel/b", "", "Wrong brick type: h:rel/b, use <HOSTNAME>:<export-dir-abs-path>\n", 1},
		{"volume create v h:/b force h:/c", "", "Wrong brick type: force, use ", 1},
		{"volume create v a,b:/b", "", "internet address 'a,b' does not conform to standards\n", 1},
		{"volume create v h:/b h:/b/", "", "Found duplicate exports h:/b/\n", 1},
		{"volume create v h:/b h:/b/c", "", "Brick: h:/b/c not available. Brick may be containing or be contained by an existing brick.\n", 1},
		{"volume create v replica 1 h:/a h:/b", "", "replica count should be greater than 1\n", 1},
		{"volume create v replica x h:/a h:/b", "", "replica count should be greater than 1\n", 1},
		{"volume create v replica", "", "No bricks specified\n", 1},
		{"volume create v replica 3 h:/a h:/b", "", "number of bricks is not a multiple of replica count\n", 1},
		{"volume create v replica 2 replica 2 h:/a h:/b", "", "replica option given twice\n", 1},
		{"volume create v stripe 3 h:/a h:/b", "", "number of bricks is not a multiple of stripe count\n", 1},
		{"volume create v replica 4 arbiter 2 h:/a h:/b", "", "For arbiter configuration, replica count must be 2 and arbiter count must be 1. The 3rd brick of the replica will be the arbiter\n", 1},
		{"volume create v replica 2 thin-arbiter 1 h:/a h:/b h:/c", "", "thin-arbiter: this version of Mortar", 1},
		{"volume create v disperse 2 h:/a h:/b", "", "disperse count must be greater than 2\n", 1},
		{"volume create v disperse 3 h:/a h:/b", "", "number of bricks is not a multiple of disperse count\n", 1},
		{"volume create v disperse 3 redundancy 2 h:/a h:/b h:/c", "", "redundancy must be greater than or equal to 1 and less than 2 for a disperse 3 volume\n", 1},
		{"volume create v disperse 3 replica 3 h:/a h:/b h:/c", "", "replicated-dispersed volume is not supported\n", 1},
		{"volume create v transport rdma h:/a", "", "transport rdma: Mortar knows the transport tcp only\n", 1},
		{"volume create v transport xyz h:/a", "", "incorrect transport protocol specified: xyz\n", 1},
		{"volume start", "", "\nUsage:\nvolume start <VOLNAME> [force]\n\n", 1},
		{"volume start v foo", "", "\nUsage:\nvolume start <VOLNAME> [force]\n\n", 1},
		{"volume stop v force foo", "", "\nUsage:\nvolume stop <VOLNAME> [force]\n\n", 1},
		{"volume delete v foo", "", "\nUsage:\nvolume delete <VOLNAME>\n\n", 1},
		{"volume info v foo", "", "\nUsage:\nvolume info [all|<VOLNAME>]\n\n", 1},
		{"volume status v bogus bogus", "", "bogus is not a valid status option\n\nUsage:\nvolume status ", 1},
		{"volume status all bogus", "", "bogus is not a valid status option\n", 1},
		{"volume status v h:/b detail x", "", "\nUsage:\nvolume status ", 1},
		{"volume status v mem", "", "volume status mem: this version of Mortar does not have this command yet.\n", 1},
		{"volume status v shd", "", "Volume v has no service shd\n", 1},
		{"volume get v", "", "\nUsage:\nvolume get <VOLNAME|all> <key|all>\n\n", 1},
		{"volume set", "", "\nUsage:\nvolume set <VOLNAME> <KEY> <VALUE>\n\n", 1},
		{"volume set v k", "", "\nUsage:\nvolume set ", 1},
		{"volume set v k v k", "", "\nUsage:\nvolume set ", 1},
		{"volume set v group g", "", "volume set: failed: volume set VOLNAME group: this version of Mortar", 1},
		{"volume reset", "", "\nUsage:\nvolume reset <VOLNAME> [option] [force]\n\n", 1},
		{"volume reset v a b c", "", "\nUsage:\nvolume reset ", 1},
		{"peer probe", "", "\nUsage:\npeer probe ", 1},
		{"peer probe a b", "", "\nUsage:\npeer probe ", 1},
		{"peer probe a,b", "", "a,b is an invalid address\n\nUsage:\npeer probe ", 1},
		{"peer probe h:0", "", "h:0 is an invalid address: \"0\" is not a port\n", 1},
		{"peer probe h:/b", "", "h:/b is an invalid address: \"/b\" is not a port\n", 1},
		{"peer probe " + long, "", long[:256] + "… is an invalid address\n", 1},
		{"peer detach", "", "\nUsage:\npeer detach ", 1},
		{"peer detach h forced", "", "\nUsage:\npeer detach ", 1},
		{"peer detach h force now", "", "\nUsage:\npeer detach ", 1},
		{"peer detach [::1]:x", "", "[::1]:x is an invalid address: \"x\" is not a port\n", 1},
		{"cluster", "unrecognized command\n" + usage, "", 1},
		{"cluster stat", "unrecognized word: stat (position 1)\n" + usage, "", 1},
		{"clus status", "unrecognized word: clus (position 0)\n" + usage, "", 1},
		{"cluster status x", "", "\nUsage:\ncluster status\n\n", 1},
		{"cluster recover now", "", "\nUsage:\ncluster recover [--yes]\n\n", 1},
		{"cluster backup", "", "\nUsage:\ncluster backup <FILE>|- [force]\n\n", 1},
		{"cluster backup f forced", "", "\nUsage:\ncluster backup ", 1},
		{"cluster backup - --xml", "", "A backup to standard output leaves no room there for --xml or --json: name a file.\n\nUsage:\n", 1},
		{"cluster backup /no/such/dir/f force", "", "cluster backup: failed: /no/such/dir: no such file or directory\n", 1},
		{"cluster backup /dev/null force", "", "cluster backup: failed: /dev/null is there already and not an ordinary file: name another\n", 1},
		{"cluster backup /", "", "cluster backup: failed: / is there already and not an ordinary file: name another\n", 1},
		{"cluster restore", "", "\nUsage:\ncluster restore <FILE>|- [--yes]\n\n", 1},
		{"cluster restore a b", "", "\nUsage:\ncluster restore ", 1},
		{"cluster restore /no/such/file", "", "cluster restore: failed: /no/such/file: no such file or directory\n", 1},
		{"cluster restore /dev/null", "", "cluster restore: failed: /dev/null is empty: it is no backup of a configuration\n", 1},
		{"cluster restore /dev/zero", "", "cluster restore: failed: /dev/zero is larger than 40 MiB: it is no backup of a configuration\n", 1},
		{"cluster restore /", "", "cluster restore: failed: /: is a directory\n", 1},
		{"peer status x", "", "\nUsage:\npeer status\n\n", 1},
		{"pool list x", "", "\nUsage:\npool list\n\n", 1},
		{"volume quota v list", "", "volume quota: this version of Mortar does not have this command yet.\n", 1},
		{"snapshot create s v", "", "snapshot create: this version of Mortar does not have this command yet.\n", 1},
		{"vol rebal v status", "", "volume rebalance: this version of Mortar", 1},
		{"system:: getspec v", "", "system:: getspec: this version of Mortar", 1},
		{"--xml daemon", "", "daemon must be the first word of the command line, its options after it.\n", 1},
	} {
		f := sampled()
		before := len(f.volumes)
		r := run(f, "gluster --mode=script "+c.line)
		if r.code != c.code || !strings.HasPrefix(r.out, c.out) || !strings.HasPrefix(r.err, c.err) || (c.out == "") != (r.out == "") || (c.err == "") != (r.err == "") {
			t.Errorf("%s: exit %d, want %d\nstdout: %q\nstderr: %q", c.line, r.code, c.code, r.out, r.err)
		}
		if len(f.requests) > 0 || len(f.volumes) != before {
			t.Errorf("%s: the daemon was asked for %+v", c.line, f.requests)
		}
	}
}

// TestRefused: what the daemon refuses, with gluster's words before it.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ line, err string }{
		{"volume start nosuch", "volume start: nosuch: failed: Volume nosuch does not exist\n"},
		{"volume stop nosuch", "volume stop: nosuch: failed: Volume nosuch does not exist\n"},
		{"volume delete nosuch", "volume delete: nosuch: failed: Volume nosuch does not exist\n"},
		{"volume status nosuch", "Volume nosuch does not exist\n"},
		{"volume status newv", "Volume newv is not started\n"},
		{"volume status distribute gtest:/d/77", "No brick gtest:/d/77 in volume distribute\n"},
		{"volume get nosuch all", "volume get option: failed: Volume nosuch does not exist\n"},
		{"volume set nosuch network.ping-timeout 20", "volume set: failed: Volume nosuch does not exist\n"},
		{"volume set newv network.ping-timout 1", "volume set: failed: option : network.ping-timout does not exist\nDid you mean network.ping-timeout"},
		{"volume set newv network.timeout 0", "volume set: failed: '0' in 'option network.timeout 0' is out of range [1 - 600]\n"},
		{"volume reset nosuch", "volume reset: failed: Volume nosuch does not exist\n"},
	} {
		f := sampled()
		newv(api.Created)(f)
		r := run(f, "mortar --mode=script "+c.line)
		if r.code != 1 || r.out != "" || !strings.HasPrefix(r.err, c.err) {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", c.line, r.code, r.out, r.err)
		}
		r = run(f, "mortar --json --mode=script "+c.line)
		var j jsonFailure
		if err := json.Unmarshal([]byte(r.out), &j); err != nil || j.Error.Message == "" || r.code != 1 || r.err != "" {
			t.Errorf("%s --json: exit %d, %v, %q %q", c.line, r.code, err, r.out, r.err)
		}
	}
}

// TestRequests: what lines ask of the daemon.
func TestRequests(t *testing.T) {
	for _, c := range []struct {
		line string
		want any
	}{
		{"volume create w h1:/a//b/ [fe80::1]:/c", api.CreateRequest{Name: "w", Bricks: []string{"h1:/a/b", "[fe80::1]:/c"}}},
		{"vol cr w transport tcp h:/a force", api.CreateRequest{Name: "w", Bricks: []string{"h:/a"}, Transport: "tcp", Force: true}},
		{"volume create w --wignore h:/a", api.CreateRequest{Name: "w", Bricks: []string{"h:/a"}, Force: true}},
		{"volume create w replica 2 arbiter 1 h:/a h:/b h:/c", api.CreateRequest{Name: "w", Bricks: []string{"h:/a", "h:/b", "h:/c"}, Replica: 3, Arbiter: 1}},
		{"volume create w stripe 2 h:/a h:/b", api.CreateRequest{Name: "w", Bricks: []string{"h:/a", "h:/b"}, Stripe: 2}},
		{"volume create w disperse h:/a h:/b h:/c", api.CreateRequest{Name: "w", Bricks: []string{"h:/a", "h:/b", "h:/c"}, Disperse: 3}},
		{"volume create w disperse-data 2 redundancy 1 h:/a h:/b h:/c", api.CreateRequest{Name: "w", Bricks: []string{"h:/a", "h:/b", "h:/c"}, Disperse: 3, Redundancy: 1}},
		{"volume start newv force", api.VolumeRequest{Name: "newv", Force: true}},
		{"volume stop newv", api.VolumeRequest{Name: "newv"}},
		{"volume status distribute gtest:/d/a1 det", api.StatusRequest{Name: "distribute", Brick: "gtest:/d/a1", Detail: true}},
		{"volume status distribute clients", api.StatusRequest{Name: "distribute", Clients: true}},
		{"volume status all detail", api.StatusRequest{Detail: true}},
		{"volume set newv a 1 b 2", api.SetRequest{Name: "newv", Pairs: []string{"a", "1", "b", "2"}}},
		{"volume reset newv", api.ResetRequest{Name: "newv"}},
		{"volume reset newv force", api.ResetRequest{Name: "newv", Force: true}},
		{"volume reset newv all", api.ResetRequest{Name: "newv"}},
		{"volume reset newv a.b force", api.ResetRequest{Name: "newv", Option: "a.b", Force: true}},
	} {
		f := sampled()
		newv(api.Started)(f)
		run(f, "mortar --mode=script "+c.line)
		if len(f.requests) != 1 || !reflect.DeepEqual(f.requests[0], c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.line, f.requests, c.want)
		}
		if !f.closed {
			t.Errorf("%s: the connection was not closed", c.line)
		}
	}
}

// TestEmpty: nothing there is no failure.
func TestEmpty(t *testing.T) {
	for _, c := range []struct{ line, out, err string }{
		{"volume list", "", "No volumes present in cluster\n"},
		{"volume info", "", "No volumes present\n"},
		{"volume status", "", "No volumes present\n"},
		{"volume list --xml", xmlHead + "<cliOutput>\n  <opRet>0</opRet>\n  <opErrno>0</opErrno>\n  <opErrstr/>\n  <volList>\n    <count>0</count>\n  </volList>\n</cliOutput>\n", ""},
		{"volume info --xml", xmlHead + "<cliOutput>\n  <opRet>0</opRet>\n  <opErrno>0</opErrno>\n  <opErrstr/>\n  <volInfo>\n    <volumes>\n      <count>0</count>\n    </volumes>\n  </volInfo>\n</cliOutput>\n", ""},
		{"volume status --xml", xmlHead + "<cliOutput>\n  <opRet>0</opRet>\n  <opErrno>0</opErrno>\n  <opErrstr/>\n  <volStatus>\n    <volumes/>\n  </volStatus>\n</cliOutput>\n", ""},
		{"volume info --json", "{\n  \"volumes\": []\n}\n", ""},
		{"system:: uuid get", "UUID: " + peerID + "\n", ""},
	} {
		if r := run(&fake{}, "gluster "+c.line); r.out != c.out || r.err != c.err || r.code != 0 {
			t.Errorf("%s: exit %d\nstdout %q\nstderr %q", c.line, r.code, r.out, r.err)
		}
	}
	f := &fake{}
	newv(api.Created)(f)
	if r := run(f, "gluster volume status"); r.out != " \n" || r.err != "Volume newv is not started\n" || r.code != 0 {
		t.Errorf("a volume that is not started: %+v", r)
	}
}

// TestPlaces: options stand anywhere, with their value attached or in the next
// word; words are shortened; -- ends the options.
func TestPlaces(t *testing.T) {
	want := run(sampled(), "gluster volume list --xml").out
	for _, line := range []string{
		"gluster --xml volume list", "gluster volume --xml list", "gluster vol li --xml", "mortar v li --xml --timeout 5",
		"gluster --mode=script --nolog --inet6 --secure-mgmt=off --log-level=ERROR --wignore-partition --xml -- volume list",
		"/usr/sbin/gluster volume list extra --xml",
	} {
		if r := run(sampled(), line); r.out != want || r.code != 0 {
			t.Errorf("%s: exit %d, %q %q", line, r.code, r.out, r.err)
		}
	}
}

// TestTarget: which daemon is asked.
func TestTarget(t *testing.T) {
	for _, c := range []struct{ line, socket, want string }{
		{"volume list", "", api.DefaultSocket},
		{"volume list", "/env.sock", "/env.sock"},
		{"--socket=/a/b volume list", "/env.sock", "/a/b"},
		{"volume --socket rel list", "", "./rel"},
		{"volume list --glusterd-sock=/c", "", "/c"},
		{"--remote-host=h volume list", "/env.sock", "h"},
		{"--remote-host=[::1]:77 volume list", "", "[::1]:77"},
	} {
		got := ""
		Run(context.Background(), append([]string{"mortar"}, strings.Fields(c.line)...), Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, Env{
			Getenv: func(name string) string {
				return map[string]string{"MORTAR_SOCKET": c.socket}[name]
			},
			Dial: func(_ context.Context, target string) (api.Daemon, error) {
				got = target
				return &fake{}, nil
			},
		})
		if got != c.want {
			t.Errorf("%q with MORTAR_SOCKET %q asks %q, want %q", c.line, c.socket, got, c.want)
		}
	}
}

// TestNoDaemon uses the real Dial: nothing listens there.
func TestNoDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "no.sock")
	for _, option := range []string{"", "--xml", "--json"} {
		var out, errs bytes.Buffer
		args := strings.Fields("gluster --socket " + socket + " volume list " + option)
		code := Run(context.Background(), args, Streams{Out: &out, Err: &errs}, Env{})
		said := out.String() + errs.String()
		if code != 1 || !strings.Contains(said, "mortar daemon") || !strings.Contains(said, socket) {
			t.Errorf("%s: exit %d, %q", option, code, said)
		}
		if option == "" && (out.Len() > 0 || strings.Count(said, "\n") != 1) {
			t.Errorf("not one line on stderr: %q %q", out.String(), errs.String())
		}
		if option == "--xml" && !strings.Contains(said, "<opRet>-1</opRet>\n  <opErrno>107</opErrno>\n  <opErrstr>") {
			t.Errorf("no envelope: %s", said)
		}
	}
}

func TestPrograms(t *testing.T) {
	var got []string
	program := func(name string) func(context.Context, []string, Streams) int {
		return func(_ context.Context, args []string, _ Streams) int {
			got = append([]string{name}, args...)
			return 7
		}
	}
	env := Env{Daemon: program("daemon"), Brick: program("brick"), Mount: program("mount")}
	for _, c := range []struct{ line, want string }{
		{"mortar daemon --socket /x --xml", "daemon --socket /x --xml"},
		{"mortar brick a b", "brick a b"},
		{"gluster mount h:/v /m -o ro", "mount h:/v /m -o ro"},
		{"/sbin/mount.mortar h:/v /m -o ro", "mount h:/v /m -o ro"},
	} {
		code := Run(context.Background(), strings.Fields(c.line), Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, env)
		if code != 7 || strings.Join(got, " ") != c.want {
			t.Errorf("%s: exit %d, %q", c.line, code, got)
		}
	}
}

func TestVersion(t *testing.T) {
	for line, want := range map[string]string{
		"gluster --version":           "glusterfs 10.3\n",
		"mortar --version":            "mortar 1.2.3\n",
		"mortar version":              "mortar 1.2.3\n",
		"mortar version --json":       "{\n  \"version\": \"1.2.3\"",
		"mortar --print-logdir":       LogDir + "\n",
		"mortar --print-statedumpdir": DumpDir + "\n",
	} {
		if r := run(nil, line); !strings.HasPrefix(r.out, want) || r.code != 0 {
			t.Errorf("%s: %+v", line, r)
		}
	}
}

func TestLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cli.log")
	run(sampled(), "mortar --log-file "+file+" volume start nosuch")
	b, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(b), "nosuch does not exist") || !strings.Contains(string(b), "code=1") {
		t.Errorf("%v: %s", err, b)
	}
}
