package fuse

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume"
)

// Exit codes of a mount command, as mount(8) has them.
const (
	exitOK      = 0
	exitUsage   = 1  // incorrect invocation or permissions
	exitSystem  = 2  // out of memory, cannot fork …
	exitFailure = 32 // mount failure
)

// Connect finds the volume that a mount asks for. ctx ends when the volume is
// no longer needed, or the start is given up. If the FS is an io.Closer it is
// closed after the last request. The error is one sentence.
type Connect func(ctx context.Context, a MountArgs, log *slog.Logger) (volume.FS, error)

// Program is what Main needs to know of its surroundings.
type Program struct {
	Version        string
	Connect        Connect
	Stdout, Stderr io.Writer
	Processors     int // how many (GOMAXPROCS) Connect's volume needs for itself, beside those of its work
}

// statusFD tells a process that it is the one to serve, and through which
// descriptor it reports to the one that was called. The report is one line,
//
//	CODE SENTENCE\n
//
// with code 0 and no sentence once the mount is usable. An end without a
// report means that the process died.
const statusFD = "MORTAR_MOUNT_STATUS_FD"

// Main is the command "mortar mount" and mount.mortar: args is the line without
// the command's name. It returns the exit code, after the mount has become
// usable or was refused. The mount is served by a second process, a copy of
// this one (same arguments, so it gets here too) in a session of its own that
// writes to the log file; with --foreground it is served right here, until it is
// unmounted or ctx ends, which unmounts it.
func (p Program) Main(ctx context.Context, args []string) int {
	a, err := ParseMountArgs(args)
	if err == nil && a.Help {
		fmt.Fprint(p.Stdout, Usage)
		return exitOK
	}
	if err == nil && a.Version {
		fmt.Fprintln(p.Stdout, "mount.mortar", p.Version)
		return exitOK
	}
	if fd, err := strconv.Atoi(os.Getenv(statusFD)); err == nil && fd > 2 {
		return p.child(ctx, a, os.NewFile(uintptr(fd), "status"))
	}
	if err != nil {
		fmt.Fprintf(p.Stderr, "mount: %v\n", err)
		return exitUsage
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(p.Stderr, "mount: only root can mount a volume")
		return exitUsage
	}
	if a.Remount {
		return p.answer(remount(a))
	}
	if err := check(a); err != nil || a.Fake {
		return p.answer(err)
	}
	if a.Verbose {
		fmt.Fprintf(p.Stdout, "mount: %s on %s, type %s, log in %s\n", a.Source, a.Dir, fsType, logFile(a))
	}
	if a.Foreground {
		log := slog.New(slog.NewTextHandler(p.Stderr, &slog.HandlerOptions{Level: a.LogLevel}))
		return p.answer(p.serve(ctx, a, log, func() {}))
	}
	return p.parent(ctx, a)
}

// answer prints what went wrong and returns the exit code.
func (p Program) answer(err error) int {
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(p.Stderr, "mount: %v\n", err)
	return exitFailure
}

// check finds what can be found wrong before the volume is asked for.
func check(a MountArgs) error {
	if _, err := mountPoint(a.Dir, a.Source); err != nil {
		return err
	}
	fd, err := openDevice()
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// remount changes the flags of the mount on a.Dir.
func remount(a MountArgs) error {
	path, err := filepath.EvalSymlinks(a.Dir)
	if err != nil {
		return fmt.Errorf("mount point %s: %w", a.Dir, unwrapPath(err))
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	mounts, err := mountsOn(path)
	if err != nil {
		return err
	}
	if len(mounts) == 0 || mounts[len(mounts)-1].fsType != fsType {
		return fmt.Errorf("no volume is mounted on %s", a.Dir)
	}
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|a.Flags, ""); err != nil {
		return fmt.Errorf("remounting %s failed: %w", a.Dir, err)
	}
	return nil
}

// logFile is where the mount's process writes: as told, or a name made from
// the mount point, /mnt/a as mnt-a.log.
func logFile(a MountArgs) string {
	if a.LogFile != "" {
		return a.LogFile
	}
	path, err := filepath.Abs(a.Dir)
	if err != nil {
		path = a.Dir
	}
	name := strings.ReplaceAll(strings.Trim(path, "/"), "/", "-")
	if name == "" {
		name = "root"
	}
	return "/var/log/mortar/" + name + ".log"
}

// parent starts the process that serves, and waits for its report.
func (p Program) parent(ctx context.Context, a MountArgs) int {
	name := logFile(a)
	if a.LogFile == "" {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return p.answer(fmt.Errorf("no log file can be made: %w; name another with -o log-file=FILE", err))
		}
	}
	logs, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return p.answer(fmt.Errorf("the log file can't be opened: %w; name another with -o log-file=FILE", err))
	}
	defer logs.Close()
	report, status, err := os.Pipe()
	if err != nil {
		fmt.Fprintf(p.Stderr, "mount: %v\n", err)
		return exitSystem
	}
	defer report.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), statusFD+"=3")
	cmd.Stdout, cmd.Stderr = logs, logs
	cmd.ExtraFiles = []*os.File{status}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	status.Close()
	if err != nil {
		fmt.Fprintf(p.Stderr, "mount: %v\n", err)
		return exitSystem
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	line, _ := bufio.NewReader(report).ReadString('\n')
	code, sentence, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	n, err := strconv.Atoi(code)
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return p.answer(fmt.Errorf("the mount's process died; see %s", name))
	}
	if n != exitOK {
		fmt.Fprintf(p.Stderr, "mount: %s\n", sentence)
		cmd.Wait()
		return n
	}
	return exitOK
}

// child serves, and reports to the parent how that begins.
func (p Program) child(ctx context.Context, a MountArgs, status *os.File) int {
	os.Unsetenv(statusFD)
	unix.CloseOnExec(int(status.Fd()))
	if dir, err := filepath.Abs(a.Dir); err == nil {
		a.Dir = dir
	}
	os.Chdir("/") // hold no directory of the caller's; "/" always exists
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: a.LogLevel}))
	ready := false
	err := p.serve(ctx, a, log, func() {
		ready = true
		fmt.Fprintf(status, "%d\n", exitOK)
		status.Close()
	})
	if err == nil {
		return exitOK
	}
	log.Error("the mount failed", "error", err)
	if !ready {
		fmt.Fprintf(status, "%d %s\n", exitFailure, strings.ReplaceAll(err.Error(), "\n", "; "))
		status.Close()
	}
	return exitFailure
}

// serve mounts, calls ready when that is done, and returns when it is over. The
// end of ctx unmounts, if need be as umount -l does.
func (p Program) serve(ctx context.Context, a MountArgs, log *slog.Logger, ready func()) (err error) {
	// The volume must work until the last request, and so outlives ctx.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	giveUp := context.AfterFunc(ctx, end)
	processors := runtime.GOMAXPROCS(0)
	volumeFS, err := p.Connect(life, a, log)
	if err != nil {
		return err
	}
	if c, ok := volumeFS.(io.Closer); ok {
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	s, err := Mount(life, Config{FS: volumeFS, Dir: a.Dir, Source: a.Source, Subdir: a.Subdir, Options: a.Options, Logger: log})
	giveUp()
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(processors + idleReaders(processors) + p.Processors)
	log.Info("mounted", "source", a.Source, "on", s.Path(), "pid", os.Getpid())
	ready()
	select {
	case <-s.Done():
	case <-ctx.Done():
		if err := s.Unmount(); err != nil {
			log.Warn("still in use; unmounted from the tree only, until the last file is closed", "error", err)
			if err := s.Detach(); err != nil {
				return err
			}
		}
		s.Wait()
	}
	log.Info("unmounted", "source", a.Source, "from", s.Path())
	return nil
}
