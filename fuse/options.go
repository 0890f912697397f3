package fuse

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Options are what mount's -o list asks for.
type Options struct {
	ReadOnly bool
	Remount  bool // change Flags of the mount that is there
	ACL      bool // POSIX ACLs are enforced and can be set
	SELinux  bool // security.selinux is an attribute like others; else it is not supported
	DirectIO bool // no pages in the kernel: each read and write goes to the volume

	LogLevel slog.Level
	LogFile  string // "": the default, see logFile
	Trace    bool   // log each request and reply; for finding out what the kernel asks

	AttributeTimeout time.Duration // how long the kernel believes attributes
	EntryTimeout     time.Duration // … and names
	NegativeTimeout  time.Duration // … and that a name is not there

	NoReadDirPlus bool
	Backups       []Host  // further daemons to ask for the volume
	Port          int     // of the volume's daemon, unless the source names one; 0: the default
	ReadAhead     int     // KiB that the kernel reads ahead of a sequential reader
	Flags         uintptr // mount(2)'s MS_ flags
}

// Defaults of Options.
const (
	defaultTimeout   = time.Second
	defaultReadAhead = 4 << 10 // KiB; measured, see setReadAhead
)

// DefaultOptions are what an empty list means.
func DefaultOptions() Options {
	return Options{
		LogLevel:         slog.LevelInfo,
		AttributeTimeout: defaultTimeout,
		EntryTimeout:     defaultTimeout,
		ReadAhead:        defaultReadAhead,
	}
}

// timeoutMax bounds the timeouts: what is meant as "for ever" is a day.
const timeoutMax = 24 * time.Hour

// An option's kind says what its value must be.
type kind int

const (
	flag    kind = iota // no value
	ignored             // any or no value, without effect
	valued              // a value, which set reads
	refused             // known from GlusterFS, but not here: help says why
)

type option struct {
	kind kind
	set  func(o *Options, value string) error
	help string // for refused
}

// ms makes a flag that sets and clears bits of mount(2)'s flags.
func ms(set, clear uintptr) option {
	return option{flag, func(o *Options, _ string) error {
		o.Flags = o.Flags&^clear | set
		return nil
	}, ""}
}

// optionTable is all options. Names that mount(8) itself or systemd eats, and
// those of GlusterFS that are harmless to leave out, are ignored.
func optionTable() map[string]option {
	t := map[string]option{
		"ro":          {kind: flag, set: func(o *Options, _ string) error { o.ReadOnly = true; return nil }},
		"rw":          {kind: flag, set: func(o *Options, _ string) error { o.ReadOnly = false; return nil }},
		"remount":     {kind: flag, set: func(o *Options, _ string) error { o.Remount = true; return nil }},
		"acl":         {kind: flag, set: func(o *Options, _ string) error { o.ACL = true; return nil }},
		"noacl":       {kind: flag, set: func(o *Options, _ string) error { o.ACL = false; return nil }},
		"selinux":     {kind: flag, set: func(o *Options, _ string) error { o.SELinux = true; return nil }},
		"nodev":       ms(unix.MS_NODEV, 0),
		"dev":         ms(0, unix.MS_NODEV),
		"nosuid":      ms(unix.MS_NOSUID, 0),
		"suid":        ms(0, unix.MS_NOSUID),
		"noexec":      ms(unix.MS_NOEXEC, 0),
		"exec":        ms(0, unix.MS_NOEXEC),
		"noatime":     ms(unix.MS_NOATIME, unix.MS_RELATIME|unix.MS_STRICTATIME),
		"atime":       ms(0, unix.MS_NOATIME),
		"relatime":    ms(unix.MS_RELATIME, unix.MS_NOATIME|unix.MS_STRICTATIME),
		"norelatime":  ms(0, unix.MS_RELATIME),
		"strictatime": ms(unix.MS_STRICTATIME, unix.MS_NOATIME|unix.MS_RELATIME),
		"nodiratime":  ms(unix.MS_NODIRATIME, 0),
		"diratime":    ms(0, unix.MS_NODIRATIME),
		"sync":        ms(unix.MS_SYNCHRONOUS, 0),
		"async":       ms(0, unix.MS_SYNCHRONOUS),
		"dirsync":     ms(unix.MS_DIRSYNC, 0),

		"log-level":              {kind: valued, set: setLogLevel},
		"log-file":               {kind: valued, set: setLogFile},
		"attribute-timeout":      {kind: valued, set: func(o *Options, v string) error { return setTimeout(&o.AttributeTimeout, v) }},
		"entry-timeout":          {kind: valued, set: func(o *Options, v string) error { return setTimeout(&o.EntryTimeout, v) }},
		"negative-timeout":       {kind: valued, set: func(o *Options, v string) error { return setTimeout(&o.NegativeTimeout, v) }},
		"direct-io-mode":         {kind: valued, set: func(o *Options, v string) error { return setBool(&o.DirectIO, v, true) }},
		"use-readdirp":           {kind: valued, set: func(o *Options, v string) error { return setBool(&o.NoReadDirPlus, v, false) }},
		"backup-volfile-servers": {kind: valued, set: setBackups},
		"backupvolfile-server":   {kind: valued, set: setBackups},
		"server-port":            {kind: valued, set: func(o *Options, v string) error { return setNumber(&o.Port, v, 1, 65535) }},
		"read-ahead":             {kind: valued, set: func(o *Options, v string) error { return setNumber(&o.ReadAhead, v, 0, 1<<20) }},
		"transport":              {kind: valued, set: setTransport},
	}
	for name, why := range map[string]string{
		"kernel-writeback-cache": "the kernel's write-back cache would overwrite what other mounts wrote",
		"worm":                   "there is no write-once mount",
		"aux-gfid-mount":         "files can't be reached by their ID",
		"root-squash":            "root is root on a mount",
		"enable-ino32":           "inode numbers have 64 bits",
	} {
		t[name] = option{kind: refused, help: why}
	}
	for _, name := range []string{
		"defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "comment",
		"mand", "nomand", "lazytime", "nolazytime", "iversion", "noiversion", "silent", "loud", "_rnetdev",
		"fetch-attempts", "volume-name", "volume-id", "volfile-check", "volfile-max-fetch-attempts", "background-qlen",
		"congestion-threshold", "gid-timeout", "lru-limit", "invalidate-limit", "mem-accounting", "no-mem-accounting",
		"no-root-squash", "capability", "resolve-gids", "reader-thread-count", "auto-invalidation", "event-history",
		"fopen-keep-cache", "attr-times-granularity", "oom-score-adj", "process-name", "brick-name", "global-threading",
		"thin-client", "io-engine", "allow_other", "default_permissions",
	} {
		t[name] = option{kind: ignored}
	}
	return t
}

// ParseOptions reads the list after -o: names and name=value, separated by
// commas, later ones over earlier ones. The error is one sentence. Sloppy
// (mount's -s) ignores what is unknown.
func ParseOptions(list string, sloppy bool) (Options, error) {
	o := DefaultOptions()
	table := optionTable()
	for item := range strings.SplitSeq(list, ",") {
		name, value, has := strings.Cut(strings.TrimSpace(item), "=")
		if name == "" && !has || strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "X-") {
			continue
		}
		opt, ok := table[name]
		switch {
		case !ok && sloppy:
			continue
		case !ok:
			return o, fmt.Errorf("unknown mount option %q; did you mean %q?", name, nearest(name, table))
		case opt.kind == ignored:
			continue
		case opt.kind == refused:
			return o, fmt.Errorf("mount option %q is not supported: %s", name, opt.help)
		case opt.kind == flag && has:
			return o, fmt.Errorf("mount option %q takes no value", name)
		case opt.kind == valued && value == "":
			return o, fmt.Errorf("mount option %q needs a value: %s=VALUE", name, name)
		}
		if err := opt.set(&o, value); err != nil {
			return o, fmt.Errorf("mount option %q: %w", name, err)
		}
	}
	if o.ReadOnly {
		o.Flags |= unix.MS_RDONLY
	}
	return o, nil
}

func setTimeout(d *time.Duration, v string) error {
	s, err := strconv.ParseFloat(strings.TrimSuffix(v, "s"), 64)
	if err != nil || math.IsNaN(s) || s < 0 {
		return fmt.Errorf("%q is not a number of seconds, 0 or more", v)
	}
	*d = time.Duration(min(s, timeoutMax.Seconds()) * float64(time.Second))
	return nil
}

// setBool reads a switch as GlusterFS writes it; to is what "on" sets.
func setBool(b *bool, v string, to bool) error {
	switch strings.ToLower(v) {
	case "enable", "enabled", "on", "yes", "true", "1":
		*b = to
	case "disable", "disabled", "off", "no", "false", "0", "auto":
		*b = !to
	default:
		return fmt.Errorf("%q is neither enable nor disable", v)
	}
	return nil
}

func setNumber(n *int, v string, low, high int) error {
	i, err := strconv.Atoi(v)
	if err != nil || i < low || i > high {
		return fmt.Errorf("%q is not a number from %d to %d", v, low, high)
	}
	*n = i
	return nil
}

// setLogLevel reads GlusterFS's levels, of which slog has four.
func setLogLevel(o *Options, v string) error {
	switch strings.ToUpper(v) {
	case "TRACE":
		o.LogLevel, o.Trace = slog.LevelDebug, true
	case "DEBUG":
		o.LogLevel = slog.LevelDebug
	case "INFO", "NOTICE":
		o.LogLevel = slog.LevelInfo
	case "WARNING", "WARN":
		o.LogLevel = slog.LevelWarn
	case "ERROR", "CRITICAL":
		o.LogLevel = slog.LevelError
	case "NONE":
		o.LogLevel = slog.Level(math.MaxInt32)
	default:
		return fmt.Errorf("%q is none of TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL, NONE", v)
	}
	return nil
}

func setLogFile(o *Options, v string) error {
	if !strings.HasPrefix(v, "/") {
		return fmt.Errorf("%q is not an absolute path", v)
	}
	o.LogFile = v
	return nil
}

func setTransport(_ *Options, v string) error {
	if v != "tcp" {
		return fmt.Errorf("%q: there is only tcp", v)
	}
	return nil
}

// setBackups reads HOST[:PORT] several times over, separated by colons: a number
// after a host is its port.
func setBackups(o *Options, v string) error {
	var hosts []Host
	for rest := v; rest != ""; {
		var part string
		if strings.HasPrefix(rest, "[") {
			end := strings.IndexByte(rest, ']')
			if end < 0 || end+1 < len(rest) && rest[end+1] != ':' {
				return fmt.Errorf("%q has a bracket without its other", v)
			}
			part, rest = rest[1:end], strings.TrimPrefix(rest[end+1:], ":")
		} else {
			part, rest, _ = strings.Cut(rest, ":")
		}
		if port, err := strconv.Atoi(part); err == nil && len(hosts) > 0 && hosts[len(hosts)-1].Port == 0 {
			if port < 1 || port > 65535 {
				return fmt.Errorf("%d is not a port", port)
			}
			hosts[len(hosts)-1].Port = port
			continue
		}
		if part == "" {
			return fmt.Errorf("%q has an empty host", v)
		}
		hosts = append(hosts, Host{Name: part})
	}
	o.Backups = append(o.Backups, hosts...)
	return nil
}

// nearest returns the known option with the least edits from name; of several,
// the first in order.
func nearest(name string, table map[string]option) string {
	best, least := "", math.MaxInt
	names := make([]string, 0, len(table))
	for n, o := range table {
		if o.kind != refused {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		if d := edits(name, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// edits counts the insertions, deletions and replacements between a and b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
