package manage

import (
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// brickArgs is the command line of a brick's process. The names of the flags
// are `mortar brick`'s. The port is the one that clients know, 0: none; the
// process takes another if it is not free.
func (d *daemon) brickArgs(o order, port int, logFile string) []string {
	level := "info"
	if s := o.volume.options()["diagnostics.brick-log-level"]; s != "" {
		level = strings.ToLower(s)
	}
	return append(append([]string(nil), d.cfg.BrickCommand...),
		"--volume", o.volume.Name,
		"--volume-id", o.volume.ID,
		"--set", strconv.Itoa(int(o.brick.Set)),
		"--brick", o.brick.ID,
		"--path", o.brick.Path,
		"--listen", net.JoinHostPort(d.host, strconv.Itoa(port)),
		"--daemon", d.cfg.Socket,
		"--log-file", logFile,
		"--log-level", level,
		"--processors", strconv.Itoa(processors(runtime.NumCPU(), d.supervisor.bricks())),
	)
}

// processors is how many processors one of a server's brick processes may use
// at a time: twice its even share. If each took all of them, as Go programs do,
// idle threads of one would be woken for the work of another; with three
// bricks and a mount on two processors that cost a tenth of all requests' time.
func processors(cpus, bricks int) int {
	return max(1, min(cpus, 2*cpus/max(1, bricks)))
}

// brickLog is the log of a brick's process.
func (d *daemon) brickLog(volume, path string) string {
	name := volume + strings.ReplaceAll(path, "/", "-") + ".log"
	if len(name) > 255 {
		name = name[:100] + "…" + name[len(name)-140:]
	}
	return filepath.Join(d.cfg.BrickLogs, name)
}

// clientHost is the host by which clients reach a brick: the address that this
// daemon was told to listen on, or else what the administrator called it.
func (d *daemon) clientHost(b brickRecord) string {
	if d.host != "" {
		return d.host
	}
	return b.Host
}
