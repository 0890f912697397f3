// Command mortar is the whole of Mortar in one binary: the command line, the
// daemon of a server, a brick's process and a mount. Run under the name gluster
// it is that command; under the name mount.mortar it is mount(8)'s helper.
// Here stands only what joins the rooms: each program is a function of a
// package of its own.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/cmd/cli"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	streams := cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Terminal: terminal(os.Stdin)}
	os.Exit(cli.Run(ctx, os.Args, streams, cli.Env{
		Version: version,
		Daemon:  runDaemon,
		Brick:   runBrick,
		Mount:   runMount,
	}))
}

// terminal reports whether f is one.
func terminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
