// Package layering holds the table of what each room of the project may import,
// and the tests that hold the code to it and to the house's other habits: a
// package comment everywhere, files of a size that one can read, no room named
// "utils". The table is the short form of docs/architecture.md; who needs an
// import that it forbids has most likely put the code into the wrong room.
//
// Imports point one way:
//
//	cmd → {fuse, gateway, volume/manage, client, brick/server} → {dht, brick, client/remote …} → volume
//
// A layer takes a volume.FS (or Set, or Store) and gives one; it never knows
// which other layer it was given. Only four rooms know gRPC.
package layering

import (
	"fmt"
	"slices"
	"strings"
)

// module is the project's module path.
const module = "github.com/mortarfs/mortar"

// A rule says what the packages in and below a folder may import, besides each
// other and the standard library. The rule of the longest matching folder counts.
type rule struct {
	folder  string
	rooms   []string // folders of this project, each without what has a rule of its own below it; "*": all
	outside []string // modules of others, by prefix
	barred  []string // packages of the standard library that it may not use
}

// Modules of others, by what they are for.
var (
	system   = []string{"golang.org/x/sys/", "golang.org/x/sync/"}
	hashing  = []string{"github.com/cespare/xxhash/v2"}
	rpc      = []string{"google.golang.org/grpc", "google.golang.org/protobuf/", "google.golang.org/genproto/googleapis/rpc/", "github.com/planetscale/vtprotobuf/"}
	config   = []string{"go.etcd.io/", "go.uber.org/zap"}
	metrics  = []string{"github.com/prometheus/"}
	fuseLib  = []string{"github.com/hanwen/go-fuse/v2/"}
	commands = []string{"github.com/urfave/cli/v2"}
	erasure  = []string{"github.com/klauspost/reedsolomon"}
)

// worldly packages reach outside the process; what is pure has none of them.
var worldly = []string{"os", "os/exec", "os/signal", "net", "net/http", "log", "log/slog", "math/rand", "math/rand/v2"}

// rules is the table.
var rules = []rule{
	{folder: "volume"},
	{folder: "volume/locks", rooms: []string{"volume"}, barred: worldly},
	{folder: "volume/spec", rooms: []string{"volume"}, outside: hashing, barred: worldly},
	{folder: "volume/manage", rooms: []string{"volume", "volume/spec", "volume/manage/api", "volume/manage/quorum", "brick", "brick/wire", "dht"}, outside: join(system, rpc, config, metrics)},
	{folder: "volume/manage/api", rooms: []string{"volume", "volume/spec"}, outside: rpc},
	{folder: "volume/manage/quorum", outside: join(system, rpc, config)},

	{folder: "brick", rooms: []string{"volume", "volume/locks", "brick/internal", "brick/fsynclog"}, outside: join(system, hashing)},
	{folder: "brick/fsynclog", rooms: []string{"volume", "brick/internal"}, outside: system},
	{folder: "brick/internal", rooms: []string{"volume"}, outside: system},
	{folder: "brick/wire", rooms: []string{"volume"}, outside: join(system, rpc)},
	{folder: "brick/window", rooms: []string{"volume"}, outside: system},
	{folder: "brick/server", rooms: []string{"volume", "volume/locks", "volume/spec", "brick/wire", "brick/window"}, outside: join(system, rpc, metrics)},
	{folder: "brick/set", rooms: []string{"volume", "volume/spec", "brick/set/oplog", "brick/window"}, outside: join(system, erasure, hashing)},
	{folder: "brick/set/oplog", rooms: []string{"volume", "brick/internal"}, outside: system},

	{folder: "dht", rooms: []string{"volume", "volume/spec"}, outside: join(system, hashing)},

	{folder: "client", rooms: []string{"volume", "volume/spec", "volume/manage/api", "client/remote", "client/stripe", "client/behind", "dht", "brick/wire"}, outside: system},
	{folder: "client/remote", rooms: []string{"volume", "volume/locks", "volume/spec", "brick/wire", "brick/window"}, outside: join(system, rpc)},
	{folder: "client/behind", rooms: []string{"volume"}, outside: system},
	{folder: "client/stripe", rooms: []string{"volume", "volume/spec"}, outside: system},

	{folder: "fuse", rooms: []string{"volume"}, outside: join(system, fuseLib)},
	{folder: "gateway", rooms: []string{"volume"}, outside: []string{"*"}},

	{folder: "cmd", rooms: []string{"*"}, outside: join(system, commands, metrics)},
	{folder: "test", rooms: []string{"*"}, outside: []string{"*"}},
}

func join(lists ...[]string) []string { return slices.Concat(lists...) }

// ruleOf returns the rule of the longest folder that dir lies in, nil if none.
func ruleOf(dir string) *rule {
	var best *rule
	for i, r := range rules {
		if (dir == r.folder || strings.HasPrefix(dir, r.folder+"/")) && (best == nil || len(r.folder) > len(best.folder)) {
			best = &rules[i]
		}
	}
	return best
}

// judge returns what is wrong with the imports of the package in dir, a path
// below the module's root; standard tells packages of the standard library.
func judge(dir string, imports []string, standard func(string) bool) []string {
	r := ruleOf(dir)
	if r == nil {
		return []string{fmt.Sprintf("%s has no rule: say in test/layering/rules.go what it may import", dir)}
	}
	var wrong []string
	complain := func(imported, why string) {
		wrong = append(wrong, fmt.Sprintf("%s imports %s: %s", dir, imported, why))
	}
	for _, i := range imports {
		target, own := strings.CutPrefix(i, module+"/")
		switch {
		case own:
			t := ruleOf(target)
			if strings.HasPrefix(target, "test/") && r.folder != "test" {
				complain(target, "what lies below test is for tests")
			} else if t != r && !slices.Contains(r.rooms, "*") && (t == nil || !slices.Contains(r.rooms, t.folder)) {
				complain(target, fmt.Sprintf("%s may import only %s of this project", r.folder, listed(r.rooms)))
			}
		case i == "C":
			complain(i, "the binary is static and built without cgo")
		case standard(i):
			if slices.Contains(r.barred, i) {
				complain(i, r.folder+" is pure: it neither reaches outside nor throws dice")
			}
		case !slices.Contains(r.outside, "*") && !slices.ContainsFunc(r.outside, func(p string) bool { return strings.HasPrefix(i, p) }):
			complain(i, fmt.Sprintf("%s may use only %s and the standard library from outside", r.folder, listed(r.outside)))
		}
	}
	return wrong
}

func listed(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}
