package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A shape is how many bricks a volume has and the words of `volume create`
// that bind them, the same in Mortar and GlusterFS.
type shape struct {
	bricks int
	words  []string
}

var shapes = map[string]shape{
	"single":    {1, nil},
	"dist3":     {3, nil},
	"rep3":      {3, []string{"replica", "3"}},
	"dist2rep2": {4, []string{"replica", "2"}},
	"disp4+2":   {6, []string{"disperse", "6", "redundancy", "2"}},
}

// peers says how each target is brought up, by the name that -peers has for it.
var peers = map[string]func(context.Context, *site, string) (target, error){
	"glusterfs": bringGlusterFS,
	"loopback":  bringLoopback,
	"ext4":      bringExt4,
}

// paths makes the bricks' directories of a volume and returns its arguments
// for `volume create`.
func (sh shape) paths(s *site, host, owner string) ([]string, error) {
	args := append([]string{}, sh.words...)
	for i := range sh.bricks {
		dir, err := s.make(owner, fmt.Sprintf("b%d", i+1))
		if err != nil {
			return nil, err
		}
		args = append(args, host+":"+dir)
	}
	return args, nil
}

// bringExt4 is a directory of the disk that the bricks of all others lie on.
func bringExt4(ctx context.Context, s *site, _ string) (target, error) {
	dir, err := s.make("plain")
	kernel, _ := output(ctx, "uname", "-r") // only for the record
	return target{name: "ext4", about: "ext4 of Linux " + strings.TrimSpace(kernel), dir: dir}, err
}

// loopbackVersion is fixed, so that figures of different days compare.
const loopbackVersion = "v2.12.1"

// bringLoopback mounts go-fuse's own loopback example over a directory of the
// disk: what a Go FUSE process costs by itself.
func bringLoopback(ctx context.Context, s *site, _ string) (target, error) {
	t := target{name: "loopback", about: "go-fuse " + loopbackVersion + " example/loopback", fstype: "fuse.loopback"}
	bin := filepath.Join(s.dir, "bin")
	install := "GOBIN=" + bin
	if err := command(ctx, "env", install, "go", "install", "github.com/hanwen/go-fuse/v2/example/loopback@"+loopbackVersion); err != nil {
		return t, err
	}
	data, err := s.make("loopback")
	if err != nil {
		return t, err
	}
	if t.dir, err = s.mountPoint("loopback"); err != nil {
		return t, err
	}
	if err := s.serve("loopback", filepath.Join(bin, "loopback"), "-allow-other", "-q", t.dir, data); err != nil {
		return t, err
	}
	// It leaves by itself when it is unmounted; only if that fails must it be ended.
	s.later("unmount loopback", func(ctx context.Context) error { return unmount(ctx, t.dir) })
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return t, await(bounded, "the loopback is mounted", func() bool { return mountType(t.dir) != "" })
}

// bringGlusterFS makes, starts and mounts a volume of Debian's GlusterFS, which
// it installs if need be.
func bringGlusterFS(ctx context.Context, s *site, shapeName string) (target, error) {
	t := target{name: "glusterfs", fstype: "fuse.glusterfs"}
	if err := installed(ctx, s, "glusterd", "glusterfs-server", "glusterfs-client"); err != nil {
		return t, err
	}
	version, err := output(ctx, "glusterfs", "--version")
	if err != nil {
		return t, err
	}
	t.about = glusterVersion(version)
	// All of GlusterFS's programs are links to this one.
	s.later("end GlusterFS's processes", func(ctx context.Context) error { return s.endProcesses(ctx, "glusterfsd") })
	if err := startGlusterd(ctx, s); err != nil {
		return t, err
	}
	host, err := os.Hostname()
	if err != nil {
		return t, err
	}
	gluster := func(ctx context.Context, args ...string) error {
		return command(ctx, "gluster", append([]string{"--mode=script", "volume"}, args...)...)
	}
	name := "mortar-bench-" + strings.ReplaceAll(shapeName, "+", "-")
	drop := func(ctx context.Context) error {
		_ = gluster(ctx, "stop", name, "force") // it may have been created only
		return gluster(ctx, "delete", name)
	}
	if gluster(ctx, "info", name) == nil {
		if err := drop(ctx); err != nil { // of a run that was killed
			return t, err
		}
	}
	bricks, err := shapes[shapeName].paths(s, host, "glusterfs")
	if err != nil {
		return t, err
	}
	create := append(append([]string{"create", name}, bricks...), "force")
	if err := gluster(ctx, create...); err != nil {
		return t, err
	}
	s.later("delete GlusterFS's volume", drop)
	if err := gluster(ctx, "start", name); err != nil {
		return t, err
	}
	if t.dir, err = s.mountPoint("glusterfs"); err != nil {
		return t, err
	}
	log := filepath.Join(s.dir, "glusterfs.log")
	return t, command(ctx, "mount", "-t", "glusterfs", "-o", "log-file="+log, host+":/"+name, t.dir)
}

// startGlusterd starts GlusterFS's daemon if none answers. It is told by its log,
// which lies in the site, from one that was there before.
func startGlusterd(ctx context.Context, s *site) error {
	answers := func() bool { return command(ctx, "gluster", "volume", "list") == nil }
	if answers() {
		return nil
	}
	if err := command(ctx, "glusterd", "--log-file="+filepath.Join(s.dir, "glusterd.log")); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return await(bounded, "glusterd answers", answers)
}

// glusterVersion is the first line of `glusterfs --version` in short: "glusterfs 10.3".
func glusterVersion(output string) string {
	line, _, _ := strings.Cut(output, "\n")
	return strings.TrimSpace(strings.Replace(line, "glusterfs", "GlusterFS", 1))
}

// installed installs Debian's packages if a program is missing.
func installed(ctx context.Context, s *site, program string, packages ...string) error {
	if _, err := exec.LookPath(program); err == nil {
		return nil
	}
	s.say("installing %s", strings.Join(packages, " "))
	if err := command(ctx, "apt-get", "update", "-qq"); err != nil {
		return err
	}
	args := append([]string{"DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends"}, packages...)
	return command(ctx, "env", args...)
}
