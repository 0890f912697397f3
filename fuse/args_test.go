package fuse

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseMountArgs(t *testing.T) {
	with := func(source, host string, port int, volume, subdir, dir string, f func(*MountArgs)) MountArgs {
		a := MountArgs{Source: source, Host: Host{host, port}, Volume: volume, Subdir: subdir, Dir: dir, Options: DefaultOptions()}
		if f != nil {
			f(&a)
		}
		return a
	}
	for _, c := range []struct {
		line string
		want MountArgs
	}{
		{"h:/v /mnt", with("h:/v", "h", 0, "v", "", "/mnt", nil)},
		{"h:v /mnt", with("h:v", "h", 0, "v", "", "/mnt", nil)},
		{"h:24101:/v mnt", with("h:24101:/v", "h", 24101, "v", "", "mnt", nil)},
		{"127.0.0.1:/v/ mnt", with("127.0.0.1:/v/", "127.0.0.1", 0, "v", "", "mnt", nil)},
		{"[::1]:/v mnt", with("[::1]:/v", "::1", 0, "v", "", "mnt", nil)},
		{"[fe80::1%eth0]:24101:/v mnt", with("[fe80::1%eth0]:24101:/v", "fe80::1%eth0", 24101, "v", "", "mnt", nil)},
		{"h:/v/a//b/ mnt", with("h:/v/a//b/", "h", 0, "v", "a/b", "mnt", nil)},
		{"h:/v/.a mnt", with("h:/v/.a", "h", 0, "v", ".a", "mnt", nil)},
		{"h:/v/. mnt", with("h:/v/.", "h", 0, "v", "", "mnt", nil)},
		{"h:/v mnt -o acl -o noauto", with("h:/v", "h", 0, "v", "", "mnt", func(a *MountArgs) { a.ACL = true })},
		{"-oacl h:/v mnt -fnv", with("h:/v", "h", 0, "v", "", "mnt", func(a *MountArgs) { a.ACL, a.Fake, a.Verbose = true, true, true })},
		{"h:/v mnt -s -o strange -t fuse.mortar", with("h:/v", "h", 0, "v", "", "mnt", nil)},
		{"mount h:/v -- -dir", MountArgs{}}, // three words
		{"h:/v --foreground --options=acl -- -dir", with("h:/v", "h", 0, "v", "", "-dir", func(a *MountArgs) { a.ACL, a.Foreground = true, true })},
		{"h:/v mnt -o server-port=5", with("h:/v", "h", 5, "v", "", "mnt", func(a *MountArgs) { a.Port = 5 })},
		{"h:7:/v mnt -o server-port=5", with("h:7:/v", "h", 7, "v", "", "mnt", func(a *MountArgs) { a.Port = 5 })},
		{"--help", MountArgs{Help: true}},
		{"-V", MountArgs{Version: true}},
	} {
		got, err := ParseMountArgs(strings.Fields(c.line))
		if reflect.DeepEqual(c.want, MountArgs{}) {
			if err == nil {
				t.Errorf("%s: taken", c.line)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.line, got, err, c.want)
		}
	}
}

func TestParseMountArgsRefuses(t *testing.T) {
	for line, part := range map[string]string{
		"":                    "two arguments are needed",
		"h:/v":                "not 1",
		"h mnt":               "must be HOST:/VOLUME",
		"/dev/sda1 mnt":       "must be HOST:/VOLUME",
		":/v mnt":             "names no host",
		":7:/v mnt":           "names no host",
		"h:/ mnt":             "names no volume",
		"h:0:/v mnt":          "not a port",
		"h:x:/v mnt":          "not a port",
		"::1:/v mnt":          "into brackets: [::1]",
		"[::1:/v mnt":         "not an address in brackets",
		"[h]:/v mnt":          "not an address in brackets",
		"[::1] mnt":           "must be HOST:/VOLUME",
		"h:/v/../w mnt":       "leads out of the volume",
		"h:/v mnt -o":         "needs a value",
		"h:/v mnt -x":         "unknown option -x",
		"h:/v mnt --acl":      "unknown option --acl",
		"h:/v mnt -o strange": "unknown mount option",
	} {
		_, err := ParseMountArgs(strings.Fields(line))
		var u *UsageError
		if !errors.As(err, &u) || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v; want …%s…", line, err, part)
		}
	}
}

func TestHostString(t *testing.T) {
	for want, h := range map[string]Host{"a": {"a", 0}, "a:1": {"a", 1}, "[::1]": {"::1", 0}, "[::1]:2": {"::1", 2}} {
		if h.String() != want {
			t.Errorf("%s, not %s", h, want)
		}
	}
}

func TestParseMounts(t *testing.T) {
	const text = `36 35 98:0 / /mnt rw,noatime master:1 shared:2 - ext3 /dev/root rw
37 36 0:44 / /mnt/a\040b rw,relatime - fuse.mortar h:/v\134\011x rw,user_id=0
38 36 0:45 / /mnt/a\040b rw - fuse.mortar other rw
bad line
`
	got := parseMounts(text, "/mnt/a b")
	want := []mountInfo{{"0:44", "/mnt/a b", fsType, "h:/v\\\tx"}, {"0:45", "/mnt/a b", fsType, "other"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}
