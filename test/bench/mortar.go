package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// bringMortar runs a daemon of the given binary, with its state in the site,
// and creates, starts and mounts a volume.
func bringMortar(ctx context.Context, s *site, binary, shapeName string) (target, error) {
	t := target{name: "mortar", fstype: "fuse.mortar"}
	binary, err := filepath.Abs(binary)
	if err != nil {
		return t, err
	}
	version, err := output(ctx, binary, "version")
	if err != nil {
		return t, fmt.Errorf("no Mortar to measure (make build): %w", err)
	}
	t.about = mortarVersion(version)

	// A loopback address of this process's own keeps out of everybody's way.
	addr := fmt.Sprintf("127.25.%d.%d", os.Getpid()/250%250, os.Getpid()%250+1)
	state, socket := filepath.Join(s.dir, "mortar"), filepath.Join(s.dir, "mortar.sock")
	mortar := func(ctx context.Context, args ...string) error {
		return command(ctx, binary, append([]string{"--socket", socket, "--mode=script"}, args...)...)
	}
	s.later("end Mortar's processes", func(ctx context.Context) error { return s.endProcesses(ctx, filepath.Base(binary)) })
	if err := s.serve("mortar-daemon", binary, "daemon", "--state-dir", state, "--listen", addr, "--socket", socket,
		"--pid-file", filepath.Join(s.dir, "mortar.pid"), "--log-file", filepath.Join(s.dir, "mortar.log")); err != nil {
		return t, err
	}
	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var last error
	if err := await(bounded, "the daemon answers", func() bool {
		last = mortar(bounded, "volume", "list")
		return last == nil
	}); err != nil {
		return t, fmt.Errorf("%w: %v; its log: %s", err, last, tail(filepath.Join(s.dir, "mortar-daemon.log")))
	}

	bricks, err := shapes[shapeName].paths(s, addr, "mortar")
	if err != nil {
		return t, err
	}
	create := append(append([]string{"volume", "create", "bench"}, bricks...), "force")
	if err := mortar(ctx, create...); err != nil {
		return t, err
	}
	s.later("stop Mortar's volume", func(ctx context.Context) error { return mortar(ctx, "volume", "stop", "bench", "force") })
	if err := mortar(ctx, "volume", "start", "bench"); err != nil {
		return t, err
	}
	if t.dir, err = s.mountPoint("mortar"); err != nil {
		return t, err
	}
	return t, command(ctx, binary, "mount", addr+":/bench", t.dir, "-o", "log-file="+filepath.Join(s.dir, "mortar-mount.log"))
}

// mortarVersion is the first line of `mortar version` with the name in front.
func mortarVersion(output string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(output), "\n")
	line = strings.TrimSpace(strings.TrimPrefix(line, "mortar"))
	return "Mortar " + line
}

func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return lastLines(string(b), 5)
}
