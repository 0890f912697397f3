package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// Streams are what a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Terminal bool // In is a terminal: the shell shows its prompt
}

// Env is what the command line needs of the world. A zero field has a default
// where one is named.
type Env struct {
	Version string                                                       // of this build
	Getenv  func(string) string                                          // default os.Getenv
	Dial    func(ctx context.Context, target string) (api.Daemon, error) // default api.Dial; closed after use if it can be

	// What the binary is besides a command line. They get the arguments after
	// their own word, as they are, and return an exit code.
	Daemon, Brick, Mount func(ctx context.Context, args []string, s Streams) int
}

// The defaults of the command line.
const (
	// DefaultSocket is where the local daemon listens.
	DefaultSocket = api.DefaultSocket
	// DefaultTimeout is how long a command waits for its answer.
	DefaultTimeout = 120 * time.Second
	// LogDir is where the daemon, bricks and mounts log by default.
	LogDir = "/var/log/mortar"
	// DumpDir is where gluster's tools look for state dumps.
	DumpDir = "/run/mortar"
	// compatible is the GlusterFS release whose command we follow.
	compatible = "10.3"
)

// options are those that may stand anywhere on the line.
type options struct {
	xml, json bool
	script    bool // --mode=script, --yes: questions are answered with yes
	force     bool // --wignore: create as with force
	target    string
	timeout   time.Duration
	logFile   string
	logLevel  slog.Level
}

// session is one run: a command, or a shell's many.
type session struct {
	Streams
	env    Env
	prog   string // "gluster" or "mortar"
	opts   options
	daemon api.Daemon // nil until the first command that needs it
	log    *slog.Logger
	in     *bufio.Reader // over In, made by readLine
}

// Run executes the command line args, the program's name first, and returns the exit code.
func Run(ctx context.Context, args []string, s Streams, env Env) int {
	if env.Getenv == nil {
		env.Getenv = os.Getenv
	}
	if env.Dial == nil {
		env.Dial = func(ctx context.Context, target string) (api.Daemon, error) {
			c, err := api.Dial(ctx, target)
			if err != nil {
				return nil, err
			}
			return c, nil
		}
	}
	c := &session{Streams: s, env: env, prog: "mortar"}
	if len(args) > 0 {
		switch name := filepath.Base(args[0]); {
		case strings.HasPrefix(name, "mount.") && env.Mount != nil:
			return env.Mount(ctx, args[1:], s)
		case name == "gluster":
			c.prog = name
		}
		args = args[1:]
	}
	if code, ok := c.program(ctx, args); ok {
		return code
	}
	words, code := c.parse(args)
	if code >= 0 {
		return code
	}
	closeLog, err := c.openLog()
	if err != nil {
		fmt.Fprintln(s.Err, err)
		return 1
	}
	defer closeLog()
	defer c.hangUp()
	if len(words) == 0 {
		return c.shell(ctx)
	}
	return c.command(ctx, words)
}

// program runs the daemon, a brick or the mount helper, whose words have options of their own.
func (c *session) program(ctx context.Context, args []string) (code int, ok bool) {
	if len(args) == 0 {
		return 0, false
	}
	var f func(context.Context, []string, Streams) int
	switch args[0] {
	case "daemon":
		f = c.env.Daemon
	case "brick":
		f = c.env.Brick
	case "mount":
		f = c.env.Mount
	}
	if f == nil {
		return 0, false
	}
	return f(ctx, args[1:], c.Streams), true
}

// parse takes the options out of the line. The code is the exit code where the
// line is done with (--version), -1 where there is a command to run.
func (c *session) parse(args []string) (words []string, code int) {
	c.opts = options{timeout: DefaultTimeout, logLevel: slog.LevelInfo}
	c.opts.target = DefaultSocket
	if s := c.env.Getenv("MORTAR_SOCKET"); s != "" {
		c.opts.target = s
	}
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			words = append(words, args[i+1:]...)
			break
		}
		if !strings.HasPrefix(a, "--") {
			words = append(words, a)
			continue
		}
		name, value, given := strings.Cut(a[2:], "=")
		if !given && takesValue(name) && i+1 < len(args) {
			i++
			value, given = args[i], true
		}
		switch code := c.option(name, value, given); code {
		case -1:
		case 255:
			fmt.Fprintf(c.Out, "unrecognized option %s\n", a)
			c.usage()
			return nil, 255
		default:
			return nil, code
		}
	}
	return words, -1
}

func takesValue(name string) bool {
	switch name {
	case "mode", "socket", "glusterd-sock", "remote-host", "timeout", "log-file", "log-level", "secure-mgmt":
		return true
	}
	return false
}

// option sets one option. It returns -1, or the exit code where the line is done with.
func (c *session) option(name, value string, given bool) int {
	if given != takesValue(name) {
		return 255
	}
	switch name {
	case "xml":
		c.opts.xml = true
	case "json":
		c.opts.json = true
	case "mode":
		if value != "script" && value != "interactive" {
			return 255
		}
		c.opts.script = value == "script"
	case "yes":
		c.opts.script = true
	case "wignore":
		c.opts.force = true
	case "socket", "glusterd-sock":
		if c.opts.target = value; !strings.Contains(value, "/") {
			c.opts.target = "./" + value // a path, not a host
		}
	case "remote-host":
		c.opts.target = value
	case "timeout":
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n <= 0 {
			fmt.Fprintln(c.Err, "timeout value should be a positive integer")
			return 254
		}
		c.opts.timeout = time.Duration(n) * time.Second
	case "log-file":
		c.opts.logFile = value
	case "log-level":
		level, ok := LogLevel(value)
		if !ok {
			return 255
		}
		c.opts.logLevel = level
	case "nolog", "inet6", "secure-mgmt", "wignore-partition":
		// Accepted: there is no log unless asked for, the connection is what it
		// is, and the root partition takes a plain force.
	default:
		return c.question(name)
	}
	return -1
}

// question answers the options that ask for something and end the line.
func (c *session) question(name string) int {
	switch name {
	case "version":
		c.version()
	case "help":
		c.helpList()
		fmt.Fprintln(c.Out)
	case "print-logdir":
		fmt.Fprintln(c.Out, LogDir)
	case "print-statedumpdir":
		fmt.Fprintln(c.Out, DumpDir)
	default:
		return 255
	}
	return 0
}

// LogLevel reads the name of a level as GlusterFS or slog has it, in any case.
// NONE is above everything.
func LogLevel(s string) (slog.Level, bool) {
	switch strings.ToUpper(s) {
	case "TRACE", "DEBUG":
		return slog.LevelDebug, true
	case "INFO":
		return slog.LevelInfo, true
	case "WARNING", "WARN":
		return slog.LevelWarn, true
	case "ERROR", "CRITICAL":
		return slog.LevelError, true
	case "NONE":
		return slog.LevelError + 100, true
	}
	return 0, false
}

// openLog opens the file of --log-file, to which commands and failures go.
func (c *session) openLog() (closeLog func(), err error) {
	c.log = slog.New(slog.DiscardHandler)
	if c.opts.logFile == "" {
		return func() {}, nil
	}
	f, err := os.OpenFile(c.opts.logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	c.log = slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: c.opts.logLevel}))
	return func() { f.Close() }, nil
}

// dial connects to the daemon, once a session.
func (c *session) dial(ctx context.Context) (api.Daemon, error) {
	if c.daemon == nil {
		d, err := c.env.Dial(ctx, c.opts.target)
		if err != nil {
			return nil, err
		}
		c.daemon = d
	}
	return c.daemon, nil
}

func (c *session) hangUp() {
	if closer, ok := c.daemon.(io.Closer); ok {
		closer.Close()
	}
	c.daemon = nil
}

func (c *session) version() {
	if c.prog == "gluster" {
		fmt.Fprintf(c.Out, "glusterfs %s\nMortar %s, which follows that release's command line\n", compatible, c.env.Version)
		return
	}
	fmt.Fprintf(c.Out, "mortar %s\n", c.env.Version)
}

// usage is what gluster prints after a line that it does not understand.
func (c *session) usage() {
	fmt.Fprintf(c.Out, "\n Usage: %s [options] <help> <peer> <pool> <volume>\n"+
		" Options:\n"+
		" --help  Shows the help information\n"+
		" --version  Shows the version\n"+
		" --print-logdir  Shows the log directory\n"+
		" --print-statedumpdir Shows the state dump directory\n\n", c.prog)
}
