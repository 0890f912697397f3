package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is one machine of a test. Those of a Cluster have a network namespace,
// a host name and an /etc/hosts of their own; processes, users and the rest of
// the files are those of the machine that the test runs on.
type Machine struct {
	Name string // what the others call it
	IP   string
	Dir  string // everything of this machine lies below it

	t         testing.TB
	ns        *os.File // the network namespace; nil: the test's own
	port      string   // its end of the cable at the switch
	installed bool     // see installed.go
}

// letGo unmounts, for this machine only, the FUSE mounts of all but clusters. A daemon would
// else keep its copy of them, and with that their processes, while it runs: whoever
// unmounts one beside it, another package's tests, would wait for its end in vain.
const letGo = `mount --make-private /
while read -r _ at kind _; do
	case "$kind $at" in
	"fuse.mortar /var/tmp/mortar-test-"*) ;;
	fuse.*) umount -l "$at" 2>/dev/null || true ;;
	esac
done </proc/self/mounts
`

// enter is run by sh as machine $2: its host name, and $1 as /etc/hosts, seen by
// nobody else. Mounts below the test's directory, which is shared, are seen by all.
const enter = letGo + `mount --bind "$1" /etc/hosts; hostname "$2"
if [ -e "$3/boot_id" ]; then mount --bind "$3/boot_id" /proc/sys/kernel/random/boot_id; fi
shift 3; exec "$@"`

// command prepares a program to run on the machine; start starts it.
func (m *Machine) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	words := append([]string{name}, args...)
	if m.ns != nil {
		script := enter
		if m.installed {
			script = enterInstalled
		}
		words = append([]string{"unshare", "--mount", "--uts", "--propagation", "unchanged", "--", "/bin/sh", "-ec", script, "sh",
			m.hostsFile(), m.Name, m.Dir}, words...)
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = append(os.Environ(), dirVariable+"="+m.Dir+"/")
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func (m *Machine) start(cmd *exec.Cmd) error { return m.do(cmd.Start) }

// do runs f on a thread that stands in the machine's network: sockets that f
// makes and processes that it starts belong there.
func (m *Machine) do(f func() error) error { return within(m.ns, f) }

// within runs f on a thread in the network namespace; nil: where we are.
func within(ns *os.File, f func() error) error {
	if ns == nil {
		return f()
	}
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so that nobody
		// else is given one that stands somewhere else.
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Exec runs a program on the machine until it ends, at most Deadline. It finds
// mortar in PATH; env is added to the environment.
func (m *Machine) Exec(env []string, name string, args ...string) Result {
	m.t.Helper()
	r, err := m.exec(env, name, args...)
	if err != nil {
		m.t.Fatalf("%s: %v", m.Name, err)
	}
	return r
}

func (m *Machine) exec(env []string, name string, args ...string) (Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Deadline)
	defer cancel()
	cmd := m.command(ctx, name, args...)
	path := filepath.Dir(Binary(m.t))
	if m.installed {
		path = "/usr/local/bin"
		// Processes are seen by all machines, and a daemon knows its own by its socket.
		cmd.Env = append(cmd.Env, "MORTAR_SOCKET=/run/"+m.Name+".sock")
	}
	cmd.Env = append(append(cmd.Env, "PATH="+path+":"+os.Getenv("PATH")), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := m.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	line := strings.Join(append([]string{name}, args...), " ")
	if ctx.Err() != nil {
		return Result{}, fmt.Errorf("%s: still running after %v\n%s%s", line, Deadline, out.Bytes(), errs.Bytes())
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return Result{}, fmt.Errorf("%s: %w", line, err)
	}
	return Result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}, nil
}

// Sh runs a line of shell on the machine, as root there would, with mortar in PATH.
func (m *Machine) Sh(line string) Result {
	m.t.Helper()
	return m.Exec(nil, "/bin/sh", "-c", line)
}

func (m *Machine) hostsFile() string { return filepath.Join(m.Dir, "hosts") }

// Hosts makes lines the machine's /etc/hosts, from now on.
func (m *Machine) Hosts(lines ...string) {
	m.t.Helper()
	// In place: running processes have this very file at /etc/hosts.
	if err := os.WriteFile(m.hostsFile(), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// Reboots gives the machine a boot ID of its own, which is another after each
// PowerOff: programs started after that take it for booted anew.
func (m *Machine) Reboots() {
	m.t.Helper()
	id, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err == nil {
		// A new file: the processes of the former boot keep theirs.
		os.Remove(m.bootFile())
		err = os.WriteFile(m.bootFile(), id, 0o444)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *Machine) bootFile() string { return filepath.Join(m.Dir, "boot_id") }

// reboots tells whether Reboots was called.
func (m *Machine) reboots() bool {
	_, err := os.Stat(m.bootFile())
	return err == nil
}
