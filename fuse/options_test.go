package fuse

import (
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseOptions(t *testing.T) {
	with := func(f func(*Options)) Options {
		o := DefaultOptions()
		f(&o)
		return o
	}
	for _, c := range []struct {
		list string
		want Options
	}{
		{"", DefaultOptions()},
		{"defaults", DefaultOptions()},
		{"rw,_netdev,noauto,user,nofail,x-systemd.automount,X-mount.mkdir=0700,comment=a b", DefaultOptions()},
		{"ro", with(func(o *Options) { o.ReadOnly, o.Flags = true, unix.MS_RDONLY })},
		{"ro,rw", DefaultOptions()},
		{"acl,selinux", with(func(o *Options) { o.ACL, o.SELinux = true, true })},
		{"attribute-timeout=0,entry-timeout=2.5,negative-timeout=3s", with(func(o *Options) {
			o.AttributeTimeout, o.EntryTimeout, o.NegativeTimeout = 0, 2500*time.Millisecond, 3*time.Second
		})},
		{"attribute-timeout=1e30", with(func(o *Options) { o.AttributeTimeout = timeoutMax })},
		{"direct-io-mode=enable", with(func(o *Options) { o.DirectIO = true })},
		{"direct-io-mode=on,direct-io-mode=disable", DefaultOptions()},
		{"direct-io-mode=yes,direct-io-mode=no", DefaultOptions()},
		{"use-readdirp=no", with(func(o *Options) { o.NoReadDirPlus = true })},
		{"use-readdirp=yes", DefaultOptions()},
		{"log-level=WARNING,log-file=/a/b=c", with(func(o *Options) { o.LogLevel, o.LogFile = slog.LevelWarn, "/a/b=c" })},
		{"log-level=trace", with(func(o *Options) { o.LogLevel, o.Trace = slog.LevelDebug, true })},
		{"noatime,nodev,nosuid,noexec,sync,dirsync,nodiratime", with(func(o *Options) {
			o.Flags = unix.MS_NOATIME | unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_SYNCHRONOUS |
				unix.MS_DIRSYNC | unix.MS_NODIRATIME
		})},
		{"noatime,relatime,nosuid,suid", with(func(o *Options) { o.Flags = unix.MS_RELATIME })},
		{"server-port=24101,read-ahead=128", with(func(o *Options) { o.Port, o.ReadAhead = 24101, 128 })},
		{"backup-volfile-servers=b:c:24101:[::1]:5:[fe80::1]", with(func(o *Options) {
			o.Backups = []Host{{"b", 0}, {"c", 24101}, {"::1", 5}, {"fe80::1", 0}}
		})},
		{"backupvolfile-server=b", with(func(o *Options) { o.Backups = []Host{{"b", 0}} })},
		{"fetch-attempts=3,volume-name=x,gid-timeout=1,lru-limit=0,no-root-squash,reader-thread-count=4,transport=tcp", DefaultOptions()},
		{"remount,ro", with(func(o *Options) { o.Remount, o.ReadOnly, o.Flags = true, true, unix.MS_RDONLY })},
	} {
		got, err := ParseOptions(c.list, false)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, %v; want %+v", c.list, got, err, c.want)
		}
	}
}

func TestParseOptionsRefuses(t *testing.T) {
	for list, part := range map[string]string{
		"atribute-timeout=1":          `unknown mount option "atribute-timeout"; did you mean "attribute-timeout"?`,
		"loglevel=INFO":               `did you mean "log-level"?`,
		"attribute-timeout=-1":        "not a number of seconds",
		"attribute-timeout=NaN":       "not a number of seconds",
		"entry-timeout=":              "needs a value",
		"entry-timeout":               "needs a value",
		"ro=1":                        "takes no value",
		"direct-io-mode=maybe":        "neither enable nor disable",
		"log-level=LOUD":              "none of",
		"log-file=here":               "not an absolute path",
		"transport=rdma":              "only tcp",
		"kernel-writeback-cache=yes":  "not supported: the kernel's write-back cache",
		"server-port=0":               "not a number from 1 to 65535",
		"backup-volfile-servers=a::b": "empty host",
		"backup-volfile-servers=[::1": "bracket",
		"=x":                          "unknown mount option",
	} {
		if _, err := ParseOptions(list, false); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v; want …%s…", list, err, part)
		}
	}
	if _, err := ParseOptions("nonsense=1,ro", true); err != nil {
		t.Errorf("sloppy: %v", err)
	}
}

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		a, b string
		n    int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"acl", "acl", 0}} {
		if n := edits(c.a, c.b); n != c.n {
			t.Errorf("%q %q: %d, not %d", c.a, c.b, n, c.n)
		}
	}
}
