package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// scratch is where sites are made: on the root disk, never in a memory file system.
const scratch = "/var/tmp"

// A site is everything that a run has put up on this machine, under one
// directory of its own, and how to take it down again. Whatever is put up says
// first, with later, how it is undone.
type site struct {
	out  io.Writer // progress, for people
	dir  string    // mounts, logs, state; removed at the end
	disk string    // where all bricks and the plain directory lie
	undo []step
}

type step struct {
	what string
	do   func(context.Context) error
}

func newSite(out io.Writer) (*site, error) {
	dir, err := os.MkdirTemp(scratch, "mortar-bench-")
	if err != nil {
		return nil, err
	}
	s := &site{out: out, dir: dir, disk: filepath.Join(dir, "disk")}
	s.later("remove "+dir, func(context.Context) error { return removeUnmounted(dir) })
	return s, os.Mkdir(s.disk, 0o755)
}

func (s *site) say(format string, a ...any) { fmt.Fprintf(s.out, "bench: "+format+"\n", a...) }

// later has do called when the site is taken down, before what was given earlier.
func (s *site) later(what string, do func(context.Context) error) {
	s.undo = append(s.undo, step{what, do})
}

// takeDown undoes everything in reverse, goes on after failures, which it
// reports, and may be called twice. It heeds no cancellation but its own bound.
func (s *site) takeDown() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, u := range slices.Backward(s.undo) {
		if err := u.do(ctx); err != nil {
			s.say("could not %s: %v", u.what, err)
		}
	}
	s.undo = nil
}

// mountDisk puts s.disk on an ext4 of its own: a sparse image on a loop device,
// made whole at once, since ext4 else goes on initialising in the background.
// (The root disk of a virtual machine is too erratic to compare anything on.)
func (s *site) mountDisk(ctx context.Context, gib int) error {
	image := filepath.Join(s.dir, "disk.img")
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(gib) << 30); err != nil {
		return err
	}
	if err := command(ctx, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image); err != nil {
		return err
	}
	s.later("unmount "+s.disk, func(ctx context.Context) error { return unmount(ctx, s.disk) })
	return command(ctx, "mount", "-o", "loop", image, s.disk)
}

// make makes a directory of the site's disk and returns its path.
func (s *site) make(path ...string) (string, error) {
	dir := filepath.Join(append([]string{s.disk}, path...)...)
	return dir, os.MkdirAll(dir, 0o755)
}

// mountPoint makes a directory to mount on and sees to its unmounting.
func (s *site) mountPoint(name string) (string, error) {
	dir := filepath.Join(s.dir, "mnt", name)
	s.later("unmount "+dir, func(ctx context.Context) error { return unmount(ctx, dir) })
	return dir, os.MkdirAll(dir, 0o755)
}

// endProcesses ends whatever still runs program (a base name) on behalf of this
// site, which is told by the site's directory, unlike any other, among its arguments.
func (s *site) endProcesses(ctx context.Context, program string) error {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for _, pid := range s.processes(program) {
			_ = syscall.Kill(pid, signal) // it may just have ended
		}
		bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := await(bounded, "its processes end", func() bool { return len(s.processes(program)) == 0 })
		cancel()
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("still running: %v", s.processes(program))
}

// processes returns the IDs of all processes of a program that have the site's
// directory or disk in their arguments.
func (s *site) processes(program string) []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	var pids []int
	for _, dir := range dirs {
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil || filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != program {
			continue
		}
		args, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if pid, bad := strconv.Atoi(filepath.Base(dir)); err == nil && bad == nil &&
			(bytes.Contains(args, []byte(s.dir)) || bytes.Contains(args, []byte(s.disk))) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// await calls ready every few milliseconds until it is true or ctx ends.
func await(ctx context.Context, what string, ready func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("gave up waiting until %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// mountType returns the kernel's name for the file system mounted at exactly
// this directory, "" if none is.
func mountType(dir string) string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	return mountTypeIn(string(b), dir)
}

// mountTypeIn finds it in a mountinfo (proc(5)): fields, with the mount point
// the fifth, then a lone hyphen, then the type. The last mount on dir counts.
func mountTypeIn(mountinfo, dir string) string {
	found := ""
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if ok && len(fields) > 4 && len(rest) > 0 && fields[4] == dir {
			found = rest[0]
		}
	}
	return found
}

// unmount unmounts dir if anything is mounted there, lazily if it is busy.
func unmount(ctx context.Context, dir string) error {
	if mountType(dir) == "" {
		return nil
	}
	err := command(ctx, "umount", dir)
	if err != nil && command(ctx, "umount", "-l", dir) == nil {
		return fmt.Errorf("%w; it is detached", err)
	}
	return err
}

// removeUnmounted removes dir with all in it, but nothing if a file system is
// still mounted below, whose files would go as well.
func removeUnmounted(dir string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if bytes.Contains(b, []byte(" "+dir+"/")) {
		return fmt.Errorf("something is still mounted below %s", dir)
	}
	return os.RemoveAll(dir)
}

// command runs a program to its end; an error carries what it said.
func command(ctx context.Context, name string, args ...string) error {
	_, err := output(ctx, name, args...)
	return err
}

// output runs a program to its end and returns what it wrote to standard output.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out, all bytes.Buffer
	cmd.Stdout = io.MultiWriter(&out, &all)
	cmd.Stderr = &all
	cmd.WaitDelay = 5 * time.Second // a daemon that it left may hold the pipes
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastLines(all.String(), 5))
	}
	return out.String(), nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// serve starts a program that runs until the site is taken down, with its
// output in a log of the site.
func (s *site) serve(name, program string, args ...string) error {
	path := filepath.Join(s.dir, name+".log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the terminal's ^C is for us alone
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	s.later("end "+name, func(ctx context.Context) error {
		for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			_ = cmd.Process.Signal(signal) // it may have ended by itself
			select {
			case <-ended:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Second):
			}
		}
		return fmt.Errorf("process %d does not end", cmd.Process.Pid)
	})
	return nil
}
