package spec

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
)

// says fails unless err is an Invalid with this text ("" for nil).
func says(t *testing.T, what string, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
		if !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s: %v is not EINVAL", what, err)
		}
	}
	if got != want {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func TestCheckVolumeName(t *testing.T) {
	for name, want := range map[string]string{
		"demo": "", "a-B_9": "", "9": "", "_x": "", strings.Repeat("v", 256): "",
		"":                       "Volume name must not be empty.",
		"-x":                     `Volume name must not begin with "-".`,
		"all":                    `"all" cannot be the name of a volume.`,
		"end-volume":             `"end-volume" cannot be the name of a volume.`,
		"a/b":                    `Volume name "a/b" should not contain "/" character.`,
		"a.b":                    "Volume name should not contain \".\" character.\nVolume names can only contain alphanumeric, '-' and '_' characters.",
		"größe":                  "Volume name should not contain \"ö\" character.\nVolume names can only contain alphanumeric, '-' and '_' characters.",
		"a b":                    "Volume name should not contain \" \" character.\nVolume names can only contain alphanumeric, '-' and '_' characters.",
		strings.Repeat("v", 257): "Volume name exceeds 256 characters.",
	} {
		says(t, name, CheckVolumeName(name), want)
	}
}

func TestParseBrick(t *testing.T) {
	for brick, want := range map[string][2]string{
		"h:/b":                   {"h", "/b"},
		"node_1.example.com:/b/": {"node_1.example.com", "/b"},
		"10.0.0.1://a///b//":     {"10.0.0.1", "/a/b"},
		"127.0.0.2:/b":           {"127.0.0.2", "/b"},
		"localhost:/b":           {"localhost", "/b"},
		"[fe80::1]:/b":           {"fe80::1", "/b"},
		"fe80::1:/b":             {"fe80::1", "/b"},
		"h:/a:/b":                {"h", "/a:/b"},
		"h:/with space/ä":        {"h", "/with space/ä"},
	} {
		host, path, err := ParseBrick(brick)
		if host != want[0] || path != want[1] || err != nil {
			t.Errorf("%s: %q %q %v", brick, host, path, err)
		}
		if h, p, err := ParseBrick(JoinBrick(host, path)); h != host || p != path || err != nil {
			t.Errorf("%s joined and parsed: %q %q %v", brick, h, p, err)
		}
	}
	wrong := func(b string) string {
		return "Wrong brick type: " + b + ", use <HOSTNAME>:<export-dir-abs-path>"
	}
	for brick, want := range map[string]string{
		"": wrong(""), "h": wrong("h"), ":/b": wrong(":/b"), "h:b": wrong("h:b"), "/b": wrong("/b"), "h:/b\nx": wrong("h:/b?x"),
		"a,b:/b":    "internet address 'a,b' does not conform to standards",
		"-a:/b":     "internet address '-a' does not conform to standards",
		"a..b:/b":   "internet address 'a..b' does not conform to standards",
		"[1.2]:/b":  "internet address '1.2' does not conform to standards",
		"f::g:/b":   "internet address 'f::g' does not conform to standards",
		"h:/a/../b": `Brick path /a/../b must not contain ".."`,
		"h:/a/.":    `Brick path /a/. must not contain "."`,
		"h:/":       "Brick path / of h:/ is the root of the file system, use a directory of its own",
		"h:///":     "Brick path / of h:/// is the root of the file system, use a directory of its own",
		"h:/" + strings.Repeat("a", BrickPathMax): "Brick path is too long: 3841 bytes, at most 3840 are allowed",
	} {
		_, _, err := ParseBrick(brick)
		says(t, brick, err, want)
	}
}

func TestCheckPeer(t *testing.T) {
	for _, s := range []string{"h", "server1.example.", "10.0.0.1", "h:24100", "10.0.0.1:7", "::1", "[::1]", "[::1]:65535", "a_b"} {
		if err := CheckPeer(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"", ":", "h:", "h:0", "h:65536", "h:x", ":7", "a,b", "a b", "a/b", "-a", "a..b", "[h]", "[h]:7", "[::1", "::1]", "[]", "f::g",
		"h:/b", "a\nb", strings.Repeat("a", 300)} {
		if err := CheckPeer(s); err == nil || !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), " is an invalid address") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzParseBrick(f *testing.F) {
	for _, s := range []string{"h:/b", "[::1]:/x", "::1:/x//", ":", "[]:/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, path, err := ParseBrick(s)
		if err != nil {
			return
		}
		h, p, err := ParseBrick(JoinBrick(host, path))
		if h != host || p != path || err != nil {
			t.Errorf("%q gives %q %q; joined and parsed: %q %q %v", s, host, path, h, p, err)
		}
	})
}

func TestCheckBricks(t *testing.T) {
	names, err := CheckBricks([]string{"h:/a/", "h:/ab", "i:/a"})
	if strings.Join(names, " ") != "h:/a h:/ab i:/a" || err != nil {
		t.Errorf("%v %v", names, err)
	}
	for list, want := range map[string]string{
		"h:/a h:/a/":  "Found duplicate exports h:/a/",
		"h:/a h:/a/b": "Brick: h:/a/b not available. Brick may be containing or be contained by an existing brick.",
		"h:/a/b h:/a": "Brick: h:/a not available. Brick may be containing or be contained by an existing brick.",
	} {
		_, err := CheckBricks(strings.Fields(list))
		says(t, list, err, want)
	}
}

func TestShape(t *testing.T) {
	for _, c := range []struct {
		shape Shape
		want  string
	}{
		{Shape{Bricks: 1}, ""},
		{Shape{Bricks: 7}, ""},
		{Shape{Bricks: 6, Replica: 3}, ""},
		{Shape{Bricks: 3, Replica: 2, Arbiter: 1}, ""},
		{Shape{Bricks: 6, Replica: 3, Arbiter: 1}, ""},
		{Shape{Bricks: 4, Stripe: 2, Replica: 2}, ""},
		{Shape{Bricks: 6, Disperse: 3, Redundancy: 1}, ""},
		{Shape{Bricks: 3, Disperse: 3}, ""},
		{Shape{}, "No bricks specified"},
		{Shape{Bricks: 2, Replica: 1}, "replica count should be greater than 1"},
		{Shape{Bricks: 17, Replica: 17}, "replica count should be at most 16"},
		{Shape{Bricks: 2, Stripe: 1}, "stripe count should be greater than 1"},
		{Shape{Bricks: 4, Replica: 3}, "number of bricks is not a multiple of replica count"},
		{Shape{Bricks: 4, Replica: 3, Arbiter: 1}, "number of bricks is not a multiple of replica count"},
		{Shape{Bricks: 3, Stripe: 2}, "number of bricks is not a multiple of stripe count"},
		{Shape{Bricks: 6, Stripe: 6, Replica: 2}, "number of bricks given 6 is not a multiple of the product of stripe and replica count 12"},
		{Shape{Bricks: 4, Replica: 4, Arbiter: 1}, "For arbiter configuration, replica count must be 2 and arbiter count must be 1. The 3rd brick of the replica will be the arbiter"},
		{Shape{Bricks: 3, Disperse: 3, Replica: 3}, "replicated-dispersed volume is not supported"},
		{Shape{Bricks: 2, Disperse: 2}, "disperse count must be greater than 2"},
		{Shape{Bricks: 4, Disperse: 3}, "number of bricks is not a multiple of disperse count"},
		{Shape{Bricks: 4, Disperse: 4, Redundancy: 2}, "redundancy must be greater than or equal to 1 and less than 2 for a disperse 4 volume"},
	} {
		says(t, "", c.shape.Check(), c.want)
		if served := c.shape.Served() == nil; served != (c.shape.Stripe == 0 && c.shape.Disperse == 0) {
			t.Errorf("%+v: served is %v", c.shape, served)
		}
	}
}

// TestTable: the whole table parses, every default is a value that may be set,
// and all of GlusterFS's names are there.
func TestTable(t *testing.T) {
	theirs, effects := 0, 0
	for _, o := range Options() {
		domain, short, ok := strings.Cut(o.Name, ".")
		if !ok || domain == "" || short == "" || o.Key == "" || o.Help == "" {
			t.Errorf("%+v: a name without domain, or no help", o)
		}
		if o.Limited && o.Min > o.Max {
			t.Errorf("%s: range %d … %d", o.Name, o.Min, o.Max)
		}
		if o.Default != "" && o.Default != notSet && o.Name != "cluster.server-quorum-type" && o.Name != "changelog.changelog-dir" {
			if err := o.Check(o.Default); err != nil {
				t.Errorf("%s: the default is refused: %v", o.Name, err)
			}
		}
		if strings.Contains(glusterfs, "\n"+o.Name+"\t") {
			theirs++
		}
		if o.Effect {
			effects++
			if o.Default == "" || strings.Contains(o.Help, "no effect") {
				t.Errorf("%s: an option with effect has a default and says what it does", o.Name)
			}
		}
	}
	if theirs != 395 || effects == 0 {
		t.Errorf("%d of GlusterFS's 395 names, %d with effect", theirs, effects)
	}
	for _, name := range clusterOptions {
		if o, err := Lookup(name); err != nil || !o.Global {
			t.Errorf("%s is not of the cluster: %v", name, err)
		}
	}
	for _, s := range Fresh(true) {
		says(t, s.Name, Validate(s.Name, s.Value), "")
	}
}

func TestLookup(t *testing.T) {
	for name, want := range map[string]string{
		"performance.cache-size": "performance.cache-size",
		"cache-size":             "performance.cache-size",
		"ping-timeout":           "network.ping-timeout",
		"timeout":                "network.timeout", // features.timeout has no effect
		"shd-max-threads":        "cluster.shd-max-threads",
		"user.anything.at-all":   "user.anything.at-all",
	} {
		if o, err := Lookup(name); o.Name != want || err != nil {
			t.Errorf("%s: %s %v", name, o.Name, err)
		}
	}
	for name, want := range map[string]string{
		"network.ping-timout":             "option : network.ping-timout does not exist\nDid you mean network.ping-timeout?",
		"performance.cache-sise":          "option : performance.cache-sise does not exist\nDid you mean performance.cache-size?",
		"network.timeuot":                 "option : network.timeuot does not exist\nDid you mean network.timeout?",
		"perfromance.cache-size":          "option : perfromance.cache-size does not exist\nDid you mean performance.cache-size?",
		"cluster.cache-size":              "option : cluster.cache-size does not exist\nDid you mean performance.cache-size?",
		"user.":                           "option : user. does not exist",
		"zzzzzzzzzzzzzzz":                 "option : zzzzzzzzzzzzzzz does not exist",
		"":                                "option :  does not exist",
		"a\nb" + strings.Repeat("c", 300): "option : a?b" + strings.Repeat("c", 253) + "… does not exist",
	} {
		_, err := Lookup(name)
		says(t, name, err, want)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// TestValidate: the phrases are those that GlusterFS 10.3 printed.
func TestValidate(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"features.read-only", "on", ""},
		{"features.read-only", "Disable", ""},
		{"features.read-only", "maybe", "option read-only maybe: 'maybe' is not a valid boolean value"},
		{"performance.cache-size", "xyz", `invalid number format "xyz" in option "cache-size"`},
		{"performance.cache-size", "64MB", ""},
		{"performance.cache-size", "1KB", "'1024' in 'option cache-size 1KB' is smaller than minimum value '4194304'"},
		{"network.ping-timeout", "5000", "'5000' in 'option ping-timeout 5000' is out of range [0 - 1013]"},
		{"network.ping-timeout", "5x", `invalid time format "5x" in "option ping-timeout"`},
		{"network.timeout", "10min", ""},
		{"network.timeout", "11min", "'660' in 'option network.timeout 11min' is out of range [1 - 600]"},
		{"network.timeout", "0", "'0' in 'option network.timeout 0' is out of range [1 - 600]"},
		{"network.timeout", "-1", `invalid time format "-1" in "option network.timeout"`},
		{"cluster.min-free-disk", "110%", "'110.000000' in 'option min-free-disk 110%' is out of range [0 - 100]"},
		{"cluster.min-free-disk", "xx", `invalid number format "xx" in "option min-free-disk"`},
		{"cluster.min-free-disk", "7.5%", ""},
		{"cluster.min-free-disk", "10GB", ""},
		{"cluster.min-free-inodes", "110", "'110.000000' in 'option min-free-inodes 110' is out of range [0 - 100]"},
		{"cluster.min-free-inodes", "-3", "'-3.000000' in 'option min-free-inodes -3' is out of range [0 - 100]"},
		{"cluster.read-hash-mode", "9", "'9' in 'option read-hash-mode 9' is out of range [0 - 5]"},
		{"cluster.read-hash-mode", "x", `invalid number format "x" in option "read-hash-mode"`},
		{"diagnostics.brick-log-level", "LOUD", "option log-level LOUD: 'LOUD' is not valid (possible options are DEBUG, WARNING, ERROR, INFO, CRITICAL, NONE, TRACE.)"},
		{"storage.create-mask", "0755", ""},
		{"storage.create-mask", "1777", "'1777' in 'option create-mask 1777' is out of range [0000 - 0777]"},
		{"server.statedump-path", "foo", "option statedump-path foo: 'foo' is not an absolute path name"},
		{"server.statedump-path", "/a/../b", "invalid path given '/a/../b'"},
		{"auth.allow", "10.0.0.1,192.168.*,fe80::/64,@lab,host.example", ""},
		{"auth.allow", "a b", "option allow a b: 'a b' is not a valid internet-address-list"},
		{"auth.allow", "10.0.0.1,,", "option allow 10.0.0.1,,: '10.0.0.1,,' is not a valid internet-address-list"},
		{"user.x", "anything", ""},
		{"user.x", "two\nlines", "option x: the value is longer than 4096 bytes or more than one line"},
		{"user.x", strings.Repeat("x", 4097), "option x: the value is longer than 4096 bytes or more than one line"},
	} {
		says(t, c.name+" "+c.value, Validate(c.name, c.value), c.want)
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "4096": 4096, "1KB": 1024, "1k": 1024, "2MiB": 2 << 20, "1.5MB": 3 << 19, "8G": 8 << 30, "1TB": 1 << 40,
		"1pb": 1 << 50, "10B": 10} {
		if n, ok := ParseSize(s); n != want || !ok {
			t.Errorf("%s: %d %v", s, n, ok)
		}
	}
	for _, s := range []string{"", "KB", "-1", "+1", "1XB", "1KBB", "1e3", "0x10", "9000PB", "99999999999999999999", "1.2.3", "1 KB", ".", "1EB", "nan", "9223372036854775808"} {
		if n, ok := ParseSize(s); ok {
			t.Errorf("%q: %d", s, n)
		}
	}
}

func TestParseSeconds(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "10": 10, "10s": 10, "10sec": 10, "2min": 120, "3h": 10800, "1hr": 3600, "2days": 172800, "1wk": 604800} {
		if n, ok := ParseSeconds(s); n != want || !ok {
			t.Errorf("%s: %d %v", s, n, ok)
		}
	}
	for _, s := range []string{"", "s", "-1", "1.5", "5x", "99999999999"} {
		if n, ok := ParseSeconds(s); ok {
			t.Errorf("%q: %d", s, n)
		}
	}
}

func TestValues(t *testing.T) {
	v := Values{"network.timeout": "2min", "features.read-only": "yes", "cluster.min-free-disk": "1GB", "performance.cache-size": "bad", "cluster.read-hash-mode": "3"}
	if d := v.Duration("network.timeout"); d != 2*time.Minute {
		t.Error(d)
	}
	if !v.Bool("features.read-only") || v.Int("cluster.read-hash-mode") != 3 || v.String("auth.allow") != "*" {
		t.Error("values that are set")
	}
	if n := v.Size("performance.cache-size"); n != 32<<20 {
		t.Errorf("a bad value is not the default: %d", n)
	}
	if n := v.Share("cluster.min-free-disk", 100); n != 1<<30 {
		t.Error(n)
	}
	var none Values
	if none.Duration("network.timeout") != 10*time.Second || none.Bool("features.read-only") || none.Share("cluster.min-free-disk", 200) != 20 || none.Int("cluster.read-hash-mode") != 1 {
		t.Error("defaults")
	}
}

func TestList(t *testing.T) {
	list := List(map[string]string{"network.timeout": "5", "nfs.disable": "off"})
	at := map[string]Shown{}
	for _, s := range list {
		at[s.Name] = s
	}
	if at["network.timeout"] != (Shown{"network.timeout", "5", false}) || at["nfs.disable"].Value != "off" || at["cluster.min-free-disk"] != (Shown{"cluster.min-free-disk", "10%", true}) {
		t.Errorf("%v", at)
	}
	cluster := ListCluster(map[string]string{"cluster.server-quorum-ratio": "60"})
	if len(cluster) != 11 || cluster[0] != (Shown{"cluster.server-quorum-ratio", "60", false}) || !cluster[1].Default || cluster[2].Default {
		t.Errorf("%v", cluster)
	}
	if _, err := Get("no.such", nil); err == nil {
		t.Error("an option that does not exist is shown")
	}
	if o := Helped(); !o[0].Effect || o[len(o)-1].Effect {
		t.Error("help does not begin with the options that have an effect")
	}
}
