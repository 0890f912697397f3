package spec

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// glusterfs.tsv lists GlusterFS 10.3's options, so that scripts that set them
// run. Lines that begin with # are comments; columns, separated by tabs:
//
//	name      domain.name
//	key       the name in messages about values; empty: what follows the dot
//	kind      GlusterFS's word for the form of the value
//	min, max  empty: none; max may be "inf"
//	values    allowed words, separated by commas; empty: any
//	default   as `volume get` shows it
//	flags     d listed by `volume get VOL all`, with "(DEFAULT)" while not set;
//	          p listed, without it; - not listed;
//	          h in `volume set help`; s survives a plain reset
//
// Those of the cluster are named in clusterOptions.
//
// Whatever Mortar itself acts by is declared in own, which takes precedence.
//
//go:embed glusterfs.tsv
var glusterfs string

// own is the table of Mortar's own options. Those of GlusterFS's names keep
// their place in its order and the way they are listed. Effect says whether
// anything acts by the option today; one without is accepted like GlusterFS's.
var own = [...]Option{
	{Name: "network.timeout", Effect: true, Kind: Duration, Limited: true, Min: 1, Max: 600, Default: "10",
		Help: "How long a mount waits for a brick that does not answer before the operation fails with EIO. In seconds."},
	{Name: "cluster.max-voters", Effect: true, Global: true, Kind: Text, Values: []string{"1", "3", "5"}, Default: "3",
		Help: "How many servers have a vote on the configuration, at most: 3 once there are 3 servers, 5 once there are 5. As many as this minus one, halved, may be lost."},
	{Name: "cluster.min-free-disk", Effect: true, Kind: PercentOrSize, Default: "10%",
		Help: "Free space that is kept on each brick: below it new files go to other bricks. A percentage of the brick's file system, or a size."},
	{Name: "cluster.quorum-type", Effect: true, Kind: Text, Values: []string{"none", "auto", "fixed"}, Default: "none", // of volumes without replica sets: see Implied
		Help: "How many bricks of a replica set must have every change before it is acknowledged: auto a majority (of two: one), fixed as many as cluster.quorum-count says, none one. A set with fewer waits for its bricks. Of replicated volumes auto is the default."},
	{Name: "cluster.quorum-count", Effect: true, Kind: Int, Limited: true, Min: 1, Max: ReplicaMax, Default: "(null)",
		Help: "With cluster.quorum-type fixed: how many bricks of a replica set must have every change before it is acknowledged. At most as many as the set has."},
	{Name: "cluster.self-heal-daemon", Effect: true, Kind: Bool, Default: "on",
		Help: "Whether bricks of a replica set that were away are healed by themselves. While it is off they stay out of sync until `volume heal` is asked for. `volume heal VOL enable` and `disable` set it."},
	{Name: "cluster.heal-rate", Effect: true, Kind: Size, Limited: true, Max: Unlimited, Default: "0",
		Help: "How many bytes a second are healed from one brick to another, at most. 0: as fast as it goes."},
	{Name: "performance.write-behind", Effect: true, Kind: Bool, Default: "on",
		Help: "Whether mounts hand small writes on together, up to 20 ms later and before close and fsync return. Off, or with a mount's attribute-timeout 0: each write is on its bricks when it returns."},
	{Name: "client.local-io", Effect: true, Kind: Bool, Default: "on",
		Help: "Whether a mount on the server of a brick reads that brick's files by itself, once they have been read a few times, through descriptors that the brick hands over. It sees the same as by asking the brick. Such reads are not in the figures that bricks give of their clients."},
	{Name: "diagnostics.brick-log-level", Effect: true, Kind: Text, Values: logLevels, Default: "INFO",
		Help: "The least important messages that go to the logs of the brick processes."},
	{Name: "diagnostics.client-log-level", Kind: Text, Values: logLevels, Default: "INFO",
		Help: "The least important messages that go to the logs of the mounts, where the mount was not given log-level."},
	{Name: "features.read-only", Effect: true, Kind: Bool, Default: "off",
		Help: "Makes the whole volume read-only for every mount: changes fail with EROFS."},
	{Name: "auth.allow", Effect: true, Kind: Addresses, Default: "*",
		Help: "The clients that may use the volume: addresses, networks, host names and patterns with *, separated by commas. The volume's own servers always may."},
	{Name: "auth.reject", Effect: true, Kind: Addresses, Default: "(null)",
		Help: "The clients that may not use the volume, though auth.allow names them. The volume's own servers always may."},
}

var logLevels = []string{"DEBUG", "WARNING", "ERROR", "INFO", "CRITICAL", "NONE", "TRACE"}

// noEffect is the help of what is accepted for GlusterFS's sake.
const noEffect = "Accepted for compatibility with GlusterFS and stored with the volume; it has no effect in Mortar."

type optionTable struct {
	all     []Option
	byName  map[string]int // the first of a name
	byShort map[string]int
}

// table is built when it is first needed: most runs of the binary need none.
var table = sync.OnceValue(func() *optionTable {
	t := &optionTable{byName: make(map[string]int), byShort: make(map[string]int)}
	mine := make(map[string]Option, len(own))
	for _, o := range own {
		o.listed, o.marked, o.helped = !o.Global, true, true
		if !o.Effect {
			o.Help = noEffect
		}
		mine[o.Name] = o
	}
	taken := make(map[string]bool)
	for line := range strings.Lines(glusterfs) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		o := parseOption(strings.TrimSuffix(line, "\n"))
		if m, ok := mine[o.Name]; ok {
			m.Key, m.listed, m.marked, m.helped, m.Global, m.Sticky = o.Key, o.listed, o.marked, o.helped, o.Global, o.Sticky
			o, taken[o.Name] = m, true
		}
		t.add(o)
	}
	for _, o := range own {
		if !taken[o.Name] {
			m := mine[o.Name]
			m.Key = m.Name
			t.add(m)
		}
	}
	return t
})

func (t *optionTable) add(o Option) {
	i := len(t.all)
	t.all = append(t.all, o)
	if _, ok := t.byName[o.Name]; !ok {
		t.byName[o.Name] = i
	}
	_, short, _ := strings.Cut(o.Name, ".")
	if j, ok := t.byShort[short]; !ok || o.Effect && !t.all[j].Effect {
		t.byShort[short] = i
	}
}

// parseOption reads a line of glusterfs.tsv; a malformed one is a mistake in
// this source, found by any test.
func parseOption(line string) Option {
	c := strings.Split(line, "\t")
	if len(c) != 8 {
		panic(fmt.Sprintf("glusterfs.tsv: %d columns in %q", len(c), line))
	}
	_, short, _ := strings.Cut(c[0], ".")
	flags := c[7]
	o := Option{Name: c[0], Key: c[1], Kind: parseKind(c[2]), Default: c[6], Help: noEffect,
		Global: slices.Contains(clusterOptions[:], c[0]), Sticky: strings.Contains(flags, "s"),
		listed: !strings.Contains(flags, "-"), marked: strings.Contains(flags, "d"), helped: strings.Contains(flags, "h")}
	if o.Key == "" {
		o.Key = short
	}
	if c[3] != "" {
		o.Limited, o.Min, o.Max = true, parseBound(c[3]), parseBound(c[4])
	}
	if c[5] != "" {
		o.Values = strings.Split(c[5], ",")
	}
	return o
}

func parseBound(s string) int64 {
	if s == "" || s == "inf" {
		return Unlimited
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func parseKind(s string) Kind {
	switch s {
	case "any", "xlator", "priority_list":
		return Any
	case "bool":
		return Bool
	case "int":
		return Int
	case "sizet":
		return Size
	case "percent":
		return Percent
	case "percent_or_sizet":
		return PercentOrSize
	case "time":
		return Duration
	case "str":
		return Text
	case "mode":
		return Mode
	case "path":
		return Path
	case "internet_address_list", "client_auth_addr":
		return Addresses
	}
	panic("glusterfs.tsv: unknown kind " + s)
}
