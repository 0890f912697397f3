package main

import (
	"context"
	"fmt"
	"log/slog"

	urfave "github.com/urfave/cli/v2"

	"github.com/mortarfs/mortar/cmd/cli"
	"github.com/mortarfs/mortar/volume/manage"
	"github.com/mortarfs/mortar/volume/manage/api"
)

// runDaemon is `mortar daemon`: the daemon of a server, in the foreground.
func runDaemon(ctx context.Context, args []string, s cli.Streams) int {
	var cfg manage.Config
	var level string
	app := program("mortar daemon", "run this server's daemon in the foreground", s)
	app.Flags = []urfave.Flag{
		&urfave.StringFlag{Name: "state-dir", Value: manage.DefaultStateDir, Usage: "keep all state under `DIR`", Destination: &cfg.StateDir},
		&urfave.StringFlag{Name: "listen", Usage: fmt.Sprintf("listen on `ADDR[:PORT]`, in a pool of servers also on PORT+1 and PORT+2 (default: all addresses, port %d)", api.DefaultPort), Destination: &cfg.Listen},
		&urfave.StringFlag{Name: "socket", Value: api.DefaultSocket, Usage: "answer the command line on the Unix socket `PATH`", EnvVars: []string{"MORTAR_SOCKET"}, Destination: &cfg.Socket},
		&urfave.StringFlag{Name: "pid-file", Usage: "write the process ID to `FILE`", Destination: &cfg.PidFile},
		&urfave.StringFlag{Name: "log-file", Usage: "log to `FILE` instead of standard error", Destination: &cfg.LogFile},
		&urfave.StringFlag{Name: "log-level", Value: "info", Usage: "debug, info, warning or error", Destination: &level},
	}
	app.Action = func(c *urfave.Context) error {
		if c.Args().Present() {
			return fmt.Errorf("unexpected word %q; see mortar daemon --help", c.Args().First())
		}
		var err error
		if cfg.LogLevel, err = logLevel(level); err != nil {
			return err
		}
		cfg.Version = version
		return manage.Run(ctx, cfg)
	}
	return run(ctx, app, args, s)
}

// program is a sub-program with options of its own.
func program(name, usage string, s cli.Streams) *urfave.App {
	return &urfave.App{
		Name: name, HelpName: name, Usage: usage, HideVersion: true, HideHelpCommand: true,
		Reader: s.In, Writer: s.Out, ErrWriter: s.Err,
		ExitErrHandler: func(*urfave.Context, error) {}, // only main exits
		OnUsageError:   func(_ *urfave.Context, err error, _ bool) error { return fmt.Errorf("%w; see %s --help", err, name) },
	}
}

// run runs app and says what went wrong in one line.
func run(ctx context.Context, app *urfave.App, args []string, s cli.Streams) int {
	if err := app.RunContext(ctx, append([]string{app.Name}, args...)); err != nil {
		fmt.Fprintf(s.Err, "%s: %v\n", app.Name, err)
		return 1
	}
	return 0
}

// logLevel reads the level of a log in the words of slog or of GlusterFS.
func logLevel(s string) (slog.Level, error) {
	level, ok := cli.LogLevel(s)
	if !ok {
		return 0, fmt.Errorf("log level %q is none of debug, info, warning, error", s)
	}
	return level, nil
}
