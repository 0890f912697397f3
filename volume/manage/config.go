package manage

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// DefaultStateDir is where a daemon keeps its state.
const DefaultStateDir = "/var/lib/mortar"

// Config says how to run a daemon. The zero value is the server's one daemon
// with all defaults.
type Config struct {
	StateDir string // DefaultStateDir if ""; made if missing (its parent must exist)
	Listen   string // ADDR[:PORT]; "" all addresses, port api.DefaultPort; port 0: one that is free. In a pool the next two ports are used too
	Socket   string // Unix socket, mode 0600; api.DefaultSocket if ""
	PidFile  string // written when the daemon listens, removed at its end; "" none
	LogFile  string // appended to; "" standard error. Not looked at if Logger is set
	LogLevel slog.Level
	Logger   *slog.Logger

	Version string // release, for Status

	BrickCommand []string // argv prefix of a brick process; nil: this executable with "brick"
	BrickLogs    string   // directory of the bricks' logs; "" STATEDIR/log/bricks

	StartTimeout time.Duration // for a brick process to attach; 15 s if 0
	StopTimeout  time.Duration // from SIGTERM to SIGKILL; 10 s if 0

	// Ready is called once when requests are answered and the configuration
	// store is open, with where the daemon listens.
	Ready func(api.Status)

	// step is called before each step of a change, with its name: tests end the process there.
	step func(name string)
	// aliveTTL is how long a daemon that has gone counts as there; 5 s if 0, at least 2.
	aliveTTL time.Duration
	// deadAfter is how long a voter may give no sign before it is replaced; 30 s if 0.
	deadAfter time.Duration
	// patience is how long a request waits for a store that is being opened; 5 s if 0.
	patience time.Duration
	// rootDevice overrides the device number that counts as the root partition's.
	rootDevice *uint64
}

// complete fills in the defaults and makes paths absolute.
func (c *Config) complete() error {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.StateDir, DefaultStateDir)
	def(&c.Socket, api.DefaultSocket)
	def(&c.Version, "unknown")
	if c.BrickLogs == "" {
		c.BrickLogs = filepath.Join(c.StateDir, "log", "bricks")
	}
	for _, p := range []*string{&c.StateDir, &c.Socket, &c.PidFile, &c.LogFile, &c.BrickLogs} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	if len(c.Socket) > 107 {
		return fmt.Errorf("the socket's path %s is too long: %d bytes, a Unix socket's may have 107", c.Socket, len(c.Socket))
	}
	if len(c.BrickCommand) == 0 {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("the path of this program is not known, so bricks can't be started: %w", err)
		}
		c.BrickCommand = []string{self, "brick"}
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = 15 * time.Second
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = 10 * time.Second
	}
	if c.patience == 0 {
		c.patience = 5 * time.Second
	}
	if c.aliveTTL == 0 {
		c.aliveTTL = aliveTTL
	}
	if c.deadAfter == 0 {
		c.deadAfter = deadAfter
	}
	if c.step == nil {
		c.step = func(string) {}
	}
	return nil
}

// parseListen reads "ADDR[:PORT]". host is "" for all addresses.
func parseListen(s string) (host string, port int, err error) {
	host, port = s, api.DefaultPort
	if h, p, err := net.SplitHostPort(s); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return "", 0, fmt.Errorf("--listen %s: %q is not a port", s, p)
		}
		host, port = h, int(n)
	}
	host = strings.Trim(host, "[]")
	if host == "*" {
		host = ""
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = ""
	}
	if host != "" && net.ParseIP(host) == nil && strings.Contains(host, ":") {
		return "", 0, fmt.Errorf("--listen %s: give ADDR or ADDR:PORT", s)
	}
	return host, port, nil
}

// logger returns the logger to use and what closes its file.
func (c *Config) logger() (*slog.Logger, func(), error) {
	if c.Logger != nil {
		return c.Logger, func() {}, nil
	}
	out, done := os.Stderr, func() {}
	if c.LogFile != "" {
		f, err := os.OpenFile(c.LogFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			return nil, nil, fmt.Errorf("the log file can't be opened: %w", err)
		}
		out, done = f, func() { f.Close() }
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: c.LogLevel})), done, nil
}
