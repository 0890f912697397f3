package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/mortarfs/mortar/volume/manage/api"
)

const welcome = "Welcome to gluster prompt, type 'help' to see the available commands.\n"

// TestShell: commands from stdin stop at the first that fails, as gluster's do.
func TestShell(t *testing.T) {
	list := fixture(t, "volume-list.txt")
	for _, c := range []struct {
		input, out string
		code       int
	}{
		{"volume list\n", welcome + list, 0},
		{"volume list", welcome + list, 0},
		{"\n\n  \nquit\nvolume list\n", welcome, 0},
		{"volume list\nexit\nvolume list\n", welcome + list, 0},
		{"volume info nosuch\nvolume list\n", welcome, 1},
		{"volume list\nvolume start distribute x\nvolume list\n", welcome + list, 1},
	} {
		if r := runInput(sampled(), "gluster", c.input); r.out != c.out || r.code != c.code {
			t.Errorf("%q: exit %d\n%s", c.input, r.code, diff(r.out, c.out))
		}
	}
	if r := runInput(sampled(), "gluster --xml", "volume list\n"); r.out != welcome+fixture(t, "volume-list.xml") {
		t.Errorf("--xml: %s", r.out)
	}
	if r := runInput(sampled(), "gluster", strings.Repeat("x", lineMax+1)); r.code != 1 || !strings.Contains(r.err, "line of the input longer") {
		t.Errorf("a line without end: exit %d, %q", r.code, r.err)
	}
}

// TestPrompt: at a terminal there is a prompt, and failures do not end it.
func TestPrompt(t *testing.T) {
	var out, errs bytes.Buffer
	in := strings.NewReader("volume info nosuch\nvolume stop distribute\ny\nquit\n")
	f := sampled()
	code := Run(context.Background(), []string{"mortar"}, Streams{In: in, Out: &out, Err: &errs, Terminal: true}, Env{
		Dial: func(context.Context, string) (api.Daemon, error) { return f, nil }})
	want := "Welcome to mortar prompt, type 'help' to see the available commands.\n" +
		"mortar> mortar> Stopping volume will make its data inaccessible. Do you want to continue? (y/n) volume stop: distribute: success\nmortar> "
	if code != 0 || out.String() != want || errs.String() != "Volume nosuch does not exist\n" {
		t.Errorf("exit %d\n%s\n%q", code, diff(out.String(), want), errs.String())
	}
}

func TestQuestions(t *testing.T) {
	const stop = "Stopping volume will make its data inaccessible. Do you want to continue? (y/n) "
	const erase = "Deleting volume will erase all information about the volume. Do you want to continue? (y/n) "
	for _, c := range []struct {
		line, input, out string
		code             int
		stopped          bool
	}{
		{"volume stop newv", "y\n", stop + "volume stop: newv: success\n", 0, true},
		{"volume stop newv", "YES\n", stop + "volume stop: newv: success\n", 0, true},
		{"volume stop newv", "n\n", stop, 0, false},
		{"volume stop newv", "No\n", stop, 0, false},
		{"volume stop newv", "foo\n", stop + "Invalid input, please enter y/n\n", 1, false},
		{"volume stop newv", "", stop + "\nInvalid input, please enter y/n\n", 1, false},
		{"volume stop newv --mode=script", "", "volume stop: newv: success\n", 0, true},
		{"volume stop newv --mode=interactive", "y", stop + "volume stop: newv: success\n", 0, true},
		{"volume delete newv", "n\n", erase, 0, false},
	} {
		f := sampled()
		newv(api.Started)(f)
		r := runInput(f, "gluster "+c.line, c.input)
		v, err := f.find("newv")
		if err != nil || r.out != c.out || r.code != c.code || (v.State == api.Stopped) != c.stopped {
			t.Errorf("%s, %q: exit %d, %q, %v", c.line, c.input, r.code, r.out, v)
		}
	}
	f := sampled()
	if r := runInput(f, "gluster volume stop distribute --xml", "y\n"); r.err != stop || !strings.HasPrefix(r.out, xmlHead) {
		t.Errorf("with --xml the question belongs on stderr: %+v", r)
	}
}

// TestInterrupted: neither the prompt nor a question holds up the end of the process.
func TestInterrupted(t *testing.T) {
	for _, line := range []string{"mortar", "mortar volume stop distribute"} {
		ctx, cancel := context.WithCancel(context.Background())
		in, w := io.Pipe()
		t.Cleanup(func() { w.Close() })
		f := sampled()
		done := make(chan int)
		go func() {
			done <- Run(ctx, strings.Fields(line), Streams{In: in, Out: io.Discard, Err: io.Discard, Terminal: true}, Env{
				Dial: func(context.Context, string) (api.Daemon, error) { return f, nil }})
		}()
		cancel()
		if code := <-done; code != 1 || len(f.requests) > 0 {
			t.Errorf("%s: exit %d, %v", line, code, f.requests)
		}
	}
}

// TestHelp: every command of gluster's grammar and of Mortar is listed, with a
// description, and can be found by its words.
func TestHelp(t *testing.T) {
	all := run(nil, "mortar help all").out
	for _, cmd := range commands() {
		if found, _ := find(commands(), strings.Fields(cmd.path)); found == nil || found.path != cmd.path {
			t.Errorf("%s can't be found by its words", cmd.path)
		}
		if cmd.group == "" || cmd.group == "system" {
			continue
		}
		if cmd.about == "" || !strings.HasPrefix(cmd.usage, cmd.path) {
			t.Errorf("%s: no description, or a usage of something else: %q", cmd.path, cmd.usage)
		}
		if !strings.Contains(all, "\n"+cmd.usage+" - "+cmd.about) {
			t.Errorf("help all lacks %s", cmd.path)
		}
	}
	volume := run(nil, "mortar volume help").out
	for _, word := range strings.Fields("add-brick barrier clear-locks create delete geo-replication get heal help info list log profile rebalance " +
		"remove-brick replace-brick reset reset-brick set start statedump status stop sync top") {
		if !strings.Contains(volume, "\nvolume "+word+" ") {
			t.Errorf("volume help lacks %s", word)
		}
	}
	for line, want := range map[string]string{
		"gluster help":                " peer help                - display help for peer commands\n volume help ",
		"gluster --help":              " peer help                - display help for peer commands\n",
		"gluster peer help":           "\ngluster peer commands\n======================\n\npeer detach ",
		"gluster volume help":         "\ngluster volume commands\n========================\n\nvolume add-brick ",
		"gluster volume bitrot help":  "\ngluster bitrot commands\n========================\n\nvolume bitrot ",
		"gluster volume quota help":   "\ngluster quota commands\n=======================\n\nvolume inode-quota ",
		"gluster snapshot help":       "\ngluster snapshot commands\n",
		"gluster global help":         "\ngluster global commands\n",
		"gluster volume set help":     "Option: cluster.min-free-disk\nDefault Value: 10%\nDescription: ",
		"gluster volume set help-xml": xmlHead + "<options><option><defaultValue>",
	} {
		if r := run(nil, line); r.code != 0 || !strings.HasPrefix(r.out, want) || r.err != "" {
			t.Errorf("%s: exit %d, %q\n%.300s", line, r.code, r.err, r.out)
		}
	}
	paths(t, run(nil, "gluster volume set help-xml").out) // well-formed
}

// TestJSON keeps the shapes of --json.
func TestJSON(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"volume list", `{"volumes":["disperse","distrep","distribute","replicate"]}`},
		{"volume info distribute", `{"volumes":[{"name":"distribute","id":"74742337-83e2-46d3-b8e6-4a0bb00bd731","status":"Started","type":"Distribute","transport":"tcp",` +
			`"stripe":1,"replica":1,"arbiter":0,"disperse":0,"redundancy":0,"bricks":[` +
			`{"name":"gtest:/d/a1","host":"gtest","path":"/d/a1","peer_id":"` + peerID + `","arbiter":false},` +
			`{"name":"gtest:/d/a2","host":"gtest","path":"/d/a2","peer_id":"` + peerID + `","arbiter":false}],"options":[` +
			`{"name":"storage.fips-mode-rchecksum","value":"on"},{"name":"transport.address-family","value":"inet"},{"name":"nfs.disable","value":"on"}]}]}`},
		{"volume status distribute gtest:/d/a1", `{"volumes":[{"name":"distribute","id":"74742337-83e2-46d3-b8e6-4a0bb00bd731","bricks":[` +
			`{"name":"gtest:/d/a1","host":"gtest","path":"/d/a1","peer_id":"` + peerID + `","arbiter":false,"online":true,"port":57318,"pid":176}]}]}`},
		{"volume status replicate gtest:/d/b2", `{"volumes":[{"name":"replicate","id":"4f8b5cee-19c4-464d-9ba7-70a6ed21bb63","bricks":[` +
			`{"name":"gtest:/d/b2","host":"gtest","path":"/d/b2","peer_id":"` + peerID + `","arbiter":false,"online":true,"port":59795,"pid":255,"set":1,"role":"out of sync","epoch":7}]}]}`},
		{"volume get distribute network.timeout", `{"options":[{"name":"network.timeout","value":"10","default":true}]}`},
		{"volume set distribute nfs.disable off", `{"notes":["n"]}`},
		{"volume reset distribute", `{"notes":[]}`},
		{"peer status", `{"peers":[]}`},
		{"pool list", `{"peers":[{"id":"` + peerID + `","host":"localhost","names":[],"connected":true,"state":"Peer in Cluster","address":"","release":"","self":true}]}`},
		{"volume start nosuch", `{"error":{"errno":30800,"message":"Volume nosuch does not exist"}}`},
		{"volume info nosuch", `{"error":{"errno":30806,"message":"Volume nosuch does not exist"}}`},
		{"volume create v x", `{"error":{"errno":30800,"message":"Wrong brick type: x, use <HOSTNAME>:<export-dir-abs-path>"}}`},
	} {
		f := sampled()
		f.notes = []string{"n"}
		withRoles(f)
		r := run(f, "mortar --json --mode=script "+c.line)
		var b bytes.Buffer
		if err := json.Compact(&b, []byte(r.out)); err != nil || b.String() != c.want || r.err != "" {
			t.Errorf("%s: %v\n got %s\nwant %s", c.line, err, b.String(), c.want)
		}
	}
}

// TestNotes: what the daemon has to add goes to stderr, stdout is gluster's.
func TestNotes(t *testing.T) {
	f := sampled()
	f.notes = []string{"nfs.disable has no effect"}
	if r := run(f, "gluster volume set distribute nfs.disable off"); r.out != "volume set: success\n" || r.err != "note: nfs.disable has no effect\n" || r.code != 0 {
		t.Errorf("%+v", r)
	}
}

// TestErrors: whatever an error is, it becomes a sentence and a number.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{context.DeadlineExceeded, "Request timed out after 3s\n"},
		{context.Canceled, "interrupted\n"},
		{errors.New("odd"), "odd\n"},
		{&api.Error{Errno: api.ErrUnreachable, Message: "gone."}, "Connection failed. gone. Start the daemon with `mortar daemon`.\n"},
	} {
		var out, errs bytes.Buffer
		code := Run(context.Background(), strings.Fields("mortar --timeout=3 volume list"), Streams{Out: &out, Err: &errs}, Env{
			Dial: func(context.Context, string) (api.Daemon, error) { return nil, c.err }})
		if code != 1 || errs.String() != c.want {
			t.Errorf("%v: exit %d, %q", c.err, code, errs.String())
		}
	}
}

func TestEscape(t *testing.T) {
	if got, want := escape("a<b>&\"c\"\r\x01\n"), "a&lt;b&gt;&amp;\"c\"&#13;?\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestHuman(t *testing.T) {
	for n, want := range map[uint64]string{0: "0Bytes", 1023: "1023Bytes", 1024: "1.0KB", 10 << 20: "10.0MB", 253023682560: "235.6GB", 3 << 50: "3.0PB", 3 << 60: "3072.0PB"} {
		if got := human(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
