package cli

import (
	"bytes"
	"context"
	encoding "encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// result is what a run did.
type result struct {
	out, err string
	code     int
}

// run runs a line, words separated by spaces, "gluster" or "mortar" the first.
func run(f *fake, line string) result { return runInput(f, line, "") }

func runInput(f *fake, line, input string) result {
	return runWords(f, input, strings.Fields(line)...)
}

func runWords(f *fake, input string, words ...string) result {
	var out, errs bytes.Buffer
	code := Run(context.Background(), words, Streams{In: strings.NewReader(input), Out: &out, Err: &errs}, Env{
		Version: "1.2.3",
		Getenv:  func(string) string { return "" },
		Dial:    func(context.Context, string) (api.Daemon, error) { return f, nil },
	})
	return result{out.String(), errs.String(), code}
}

func fixture(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// stage brings the fake into the state in which a fixture was captured.
var stages = map[string]func(*fake){
	"volume-status-detail":  withDisks,
	"volume-status-clients": withClients,
	"volume-status-brickdown": func(f *fake) {
		b := &f.status["replicate"][1]
		b.Online, b.Port, b.PID = false, 0, -1
	},
	"heal-info-pending":         withPending,
	"heal-info-summary-pending": withPending,
	"heal-count-pending":        withPending,

	"create-dup":       newv(api.Created),
	"create-usedbrick": newv(api.Created),
	"start":            newv(api.Created),
	"start-again":      newv(api.Started),
	"stop":             newv(api.Started),
	"stop-again":       newv(api.Stopped),
	"delete-started":   newv(api.Started),
	"delete":           newv(api.Stopped),
}

func newv(s api.State) func(*fake) {
	return func(f *fake) { f.volumes = append(f.volumes, volumeOf("newv", f.newID, s, "gtest:/d/n1")) }
}

// captured lists the fixtures and the commands that gave them; failed ones have
// their text on stderr.
var captured = []struct {
	name, line string
	code       int
}{
	{"volume-list", "volume list", 0},
	{"volume-info", "volume info", 0},
	{"volume-info-disperse", "volume info disperse", 0},
	{"volume-info-distrep", "volume info distrep", 0},
	{"volume-info-replicate", "volume info replicate", 0},
	{"volume-info-missing", "volume info nosuch", 1},
	{"volume-status", "volume status", 0},
	{"volume-status", "volume status all", 0},
	{"volume-status-replicate", "volume status replicate", 0},
	{"volume-status-brickdown", "volume status replicate", 0},
	{"volume-status-detail", "volume status replicate detail", 0},
	{"volume-status-clients", "volume status replicate clients", 0},
	{"volume-status-tasks", "volume status distribute tasks", 0},
	{"volume-get", "volume get replicate cluster.self-heal-daemon", 0},
	{"global-get", "volume get all cluster.op-version", 0},
	{"set", "volume set replicate performance.readdir-ahead off", 0},
	{"set-bad2", "volume set replicate performance.cache-size xyz", 1},
	{"reset", "volume reset replicate", 0},
	{"create", "volume create newv gtest:/d/n1", 0},
	{"create-dup", "volume create newv gtest:/d/n2", 1},
	{"create-usedbrick", "volume create newv2 gtest:/d/n1", 1},
	{"start", "volume start newv", 0},
	{"start-again", "volume start newv", 1},
	{"stop", "volume stop newv", 0},
	{"stop-again", "volume stop newv", 1},
	{"delete", "volume delete newv", 0},
	{"delete-started", "volume delete newv", 1},
	{"heal-launch", "volume heal replicate", 0},
	{"heal-full", "volume heal replicate full", 0},
	{"heal-info", "volume heal replicate info", 0},
	{"heal-info-pending", "volume heal replicate info", 0},
	{"heal-info-sb", "volume heal replicate info split-brain", 0},
	{"heal-info-summary", "volume heal replicate info summary", 0},
	{"heal-info-summary-pending", "volume heal replicate info summary", 0},
	{"heal-heal-count", "volume heal replicate statistics heal-count", 0},
	{"heal-count-pending", "volume heal replicate statistics heal-count", 0},
	{"replace", "volume replace-brick replicate gtest:/d/b1 gtest:/d/b9 commit force", 0},
	{"replace-refused", "volume replace-brick replicate gtest:/d/b1 gtest:/d/used commit force", 1},
	{"reset-brick-start", "volume reset-brick replicate gtest:/d/b2 start", 0},
	{"reset-brick-commit", "volume reset-brick replicate gtest:/d/b2 gtest:/d/b2 commit force", 0},
	{"reset-brick-refused", "volume reset-brick replicate gtest:/d/b1 gtest:/d/b1 commit", 1},
	{"peer-status", "peer status", 0},
	{"pool-list", "pool list", 0},
	{"probe-self", "peer probe localhost", 0},
	{"detach-bad", "peer detach 10.99.1.1", 1},
	{"unknown", "volume frobnicate", 1},
	{"bare", "volume", 1},
}

// TestCaptured compares text and XML, byte for byte, with what GlusterFS 10.3
// printed on a server with the same volumes (less the self-heal daemon's rows, and
// the IDs of files to be healed).
func TestCaptured(t *testing.T) {
	for _, c := range captured {
		t.Run(strings.ReplaceAll(c.line, " ", "_"), func(t *testing.T) {
			prepared := func() *fake {
				f := sampled()
				if stage := stages[c.name]; stage != nil {
					stage(f)
				}
				return f
			}
			r := run(prepared(), "gluster --mode=script "+c.line)
			want := fixture(t, c.name+".txt")
			if c.code != 0 && c.name != "unknown" && c.name != "bare" {
				r.out, r.err = r.err, r.out
			}
			if r.out != want || r.err != "" || r.code != c.code {
				t.Errorf("exit %d, want %d; the other stream: %q\n%s", r.code, c.code, r.err, diff(r.out, want))
			}
			r = run(prepared(), "gluster --xml --mode=script "+c.line)
			if want := fixture(t, c.name+".xml"); r.out != want || r.err != "" {
				t.Errorf("exit %d; stderr: %q\n%s", r.code, r.err, diff(r.out, want))
			}
			if code := run(prepared(), "mortar --xml --mode=script "+c.line).code; code != c.code {
				t.Errorf("as mortar with --xml: exit %d, want %d", code, c.code)
			}
		})
	}
}

// diff shows the first line in which two texts differ.
func diff(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		a, b := "(end)", "(end)"
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return "line " + strconv.Itoa(i+1) + "\n got  " + strconv.Quote(a) + "\n want " + strconv.Quote(b)
		}
	}
	return "(the same)"
}

// TestShapes compares element paths only: volumes unlike those of the fixtures
// give no element that gluster does not have, and miss none.
func TestShapes(t *testing.T) {
	f := sampled()
	f.volumes[2] = volumeOf("other", "11111111-2222-3333-4444-555555555555", api.Started, "10.0.0.1:/x/y", "[fe80::1]:/z", "h:/w")
	withDisks(f)
	withClients(f)
	for _, b := range f.volumes[2].Bricks {
		f.status["other"] = append(f.status["other"], api.BrickStatus{Brick: b, Online: b.Path == "/z", Port: 1, PID: 2})
	}
	for line, name := range map[string]string{
		"volume info other":              "volume-info-disperse",
		"volume status other":            "volume-status",
		"volume status":                  "volume-status",
		"volume status replicate detail": "volume-status-detail",
		"volume status all clients":      "volume-status-clients",
		"volume get other all":           "volume-get",
		"volume list":                    "volume-list",
		"volume info none":               "volume-info-missing",
	} {
		got, want := paths(t, run(f, "mortar --xml "+line).out), paths(t, fixture(t, name+".xml"))
		if line == "volume status all clients" { // only one has clients here, but no brick lacks the count
			got = slices.DeleteFunc(got, func(p string) bool { return strings.Contains(p, "/client/") })
			want = slices.DeleteFunc(want, func(p string) bool { return strings.Contains(p, "/client/") })
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", line, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
}

// paths returns the paths of all elements and attributes, sorted, each once.
func paths(t *testing.T, doc string) []string {
	t.Helper()
	var list, at []string
	d := encoding.NewDecoder(strings.NewReader(doc))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			slices.Sort(list)
			return slices.Compact(list)
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, doc)
		}
		switch e := token.(type) {
		case encoding.StartElement:
			at = append(at, e.Name.Local)
			list = append(list, strings.Join(at, "/"))
			for _, a := range e.Attr {
				list = append(list, strings.Join(at, "/")+"@"+a.Name.Local)
			}
		case encoding.EndElement:
			at = at[:len(at)-1]
		}
	}
}

// TestGetAll compares the whole table of options with a fresh volume's; ours
// has Mortar's own at its end.
func TestGetAll(t *testing.T) {
	for line, name := range map[string]string{"volume get distribute all": "get-all.txt", "volume get all all": "get-global.txt"} {
		r := run(sampled(), "gluster "+line)
		want := fixture(t, name)
		if !strings.HasPrefix(r.out, want) {
			t.Errorf("%s: %s", line, diff(r.out, want))
		}
		if name == "get-all.txt" && !strings.Contains(r.out[len(want):], "network.timeout") {
			t.Errorf("network.timeout is missing:\n%s", r.out[len(want):])
		}
	}
}

// TestLongNames: gluster breaks the names of bricks after 43 characters.
func TestLongNames(t *testing.T) {
	want := fixture(t, "volume-status-long.txt")
	f := &fake{status: map[string][]api.BrickStatus{}}
	var names, lines []string
	for _, l := range strings.Split(want, "\n")[3:] {
		if l == " " {
			break
		}
		lines = append(lines, l)
	}
	var states []api.BrickStatus
	name := ""
	for _, l := range lines {
		fields := strings.Fields(l)
		if strings.HasSuffix(l, "  ") { // the last line of a brick
			name += strings.TrimPrefix(strings.TrimSpace(l[:nameWidth]), "Brick ")
			n := len(fields)
			states = append(states, api.BrickStatus{Online: true, Port: number(t, fields[n-4]), PID: number(t, fields[n-1])})
			names, name = append(names, name), ""
			continue
		}
		name += strings.TrimPrefix(l, "Brick ")
	}
	v := volumeOf("v", "id", api.Started, names...)
	for i := range states {
		states[i].Brick = v.Bricks[i]
	}
	f.volumes, f.status["v"] = []api.Volume{v}, states
	if r := run(f, "gluster volume status v"); r.out != want {
		t.Error(diff(r.out, want))
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
