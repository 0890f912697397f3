package cluster

import (
	"os"
	"path/filepath"
	"testing"
)

// An installed machine is one as an administrator has it: Mortar is in
// /usr/local, everything is at its default place, and these directories are the
// machine's own, kept below its Dir:
//
//	/data /srv /root /run /var/lib /var/log   Dir/data …, Dir/lib, Dir/log
//	/usr/local/bin                            Dir/bin: mortar, systemctl
//	/sbin                                     as everywhere, and mount.mortar
//
// Its root is put together of those and of the test machine's other
// directories, on a tmpfs at /mnt that only its own processes see.
const enterInstalled = letGo + `
mount -t tmpfs -o mode=755 tmpfs /mnt
for d in /*; do
	case $d in /data | /srv | /root | /run | /mnt | /lost+found) continue ;; esac
	if [ -L "$d" ]; then cp -P "$d" "/mnt$d"; elif [ -d "$d" ]; then mkdir "/mnt$d"; mount --rbind "$d" "/mnt$d"; fi
done
for d in data srv root run; do mkdir "/mnt/$d"; mount --rbind "$3/$d" "/mnt/$d"; done
mount --bind "$3/lib" /mnt/var/lib
mount --bind "$3/log" /mnt/var/log
mount --bind "$3/bin" /mnt/usr/local/bin
sbin=$(readlink -f /sbin)
mount -t overlay -o "lowerdir=$3/sbin:$sbin" overlay "/mnt$sbin"
mount --bind "$1" /mnt/etc/hosts
hostname "$2"
shift 3
exec chroot /mnt "$@"`

// systemctl does what systemd does with docs/packaging/mortar.service.
const systemctl = `#!/bin/sh
stop() {
	pid=$(cat /run/mortar.pid 2>/dev/null) || return 0
	kill "$pid" 2>/dev/null
	while [ -e "/proc/$pid/exe" ]; do sleep 0.02; done
}
start() {
	setsid mortar daemon --pid-file /run/mortar.pid </dev/null >>/var/log/daemon.log 2>&1 &
	timeout 30 sh -c 'until mortar volume list >/dev/null 2>&1; do sleep 0.02; done'
	return 0
}
case "$*" in
"start mortar") start ;;
"stop mortar") stop ;;
"restart mortar") stop; start ;;
*) echo "systemctl: $*?" >&2; exit 1 ;;
esac
`

// NewInstalled makes a cluster of n servers, and a client, that are installed
// and whose daemons have never run. What runs there is started with Sh.
func NewInstalled(t testing.TB, n int) *Cluster {
	t.Helper()
	c := NewStopped(t, n)
	for _, m := range c.machines() {
		m.install()
	}
	return c
}

// install makes the machine's own directories.
func (m *Machine) install() {
	m.t.Helper()
	must := func(err error) {
		m.t.Helper()
		if err != nil {
			m.t.Fatal(err)
		}
	}
	m.installed = true
	for _, d := range []string{"data/1", "srv", "root", "run", "lib", "log", "bin", "sbin"} {
		must(os.MkdirAll(filepath.Join(m.Dir, d), 0o755))
	}
	must(os.Symlink(Binary(m.t), filepath.Join(m.Dir, "bin", "mortar")))
	must(os.Symlink("/usr/local/bin/mortar", filepath.Join(m.Dir, "sbin", "mount.mortar")))
	must(os.WriteFile(filepath.Join(m.Dir, "bin", "systemctl"), []byte(systemctl), 0o755))
}
