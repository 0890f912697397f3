package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// statusParts are the words that may end `volume status`.
var statusParts = [...]string{"detail", "clients", "mem", "inode", "fd", "callpool", "tasks", "client-list"}

// volumeStatus is `volume status [all|VOL [BRICK]] [PART]`.
func volumeStatus(c *session, ctx context.Context, cmd *command, words []string) int {
	r, part, err := parseStatus(words[2:])
	if err != nil {
		return c.misused(cmd, err.Error())
	}
	fails := failure{op: "volStatus", output: "*", errno: generic}
	if notThere(part) {
		return c.fail(&api.Error{Errno: api.ErrGeneric, Message: notYetText("volume status " + part)}, fails)
	}
	if r.Brick == "nfs" || r.Brick == "shd" || r.Brick == "quotad" {
		return c.fail(&api.Error{Errno: api.ErrGeneric, Message: fmt.Sprintf("Volume %s has no service %s", r.Name, r.Brick)}, fails)
	}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	list, err := d.VolumeStatus(ctx, r)
	if err != nil {
		return c.failRead(ctx, d, err, fails)
	}
	c.noteAge(ctx, d)
	show := map[string]func(*strings.Builder, api.VolumeStatus){"": statusText, "detail": detailText, "clients": clientsText, "tasks": tasksText}[part]
	if r.Brick != "" && part == "" {
		show = brickText
	}
	if r.Name == "" && !c.opts.xml && !c.opts.json {
		return c.statusOfAll(ctx, d, list, show)
	}
	var text strings.Builder
	j := jsonStatuses{Volumes: []jsonStatus{}}
	for _, v := range list {
		show(&text, v)
		j.Volumes = append(j.Volumes, toStatus(v))
	}
	return c.success(text.String(), j, func(x *xml) { statusXML(x, list, part, r.Brick != "") })
}

// notThere tells the parts that gluster has and this version has not.
func notThere(part string) bool {
	return slices.Contains([]string{"mem", "inode", "fd", "callpool", "client-list"}, part)
}

func parseStatus(words []string) (r api.StatusRequest, part string, err error) {
	if len(words) > 3 {
		return r, "", errNoText
	}
	if len(words) == 0 {
		return r, "", nil
	}
	if words[0] != "all" {
		r.Name = words[0]
	}
	if len(words) == 3 || len(words) == 2 && r.Name == "" {
		last := words[len(words)-1]
		if part = unambiguous(last, statusParts[:]...); part == "" {
			return r, "", fmt.Errorf("%s is not a valid status option", last)
		}
		words = words[:len(words)-1]
	}
	if len(words) == 2 {
		if part == "" && slices.Contains(statusParts[:], words[1]) {
			part = words[1]
		} else {
			r.Brick = words[1]
		}
	}
	if r.Name == "" && r.Brick != "" {
		return r, "", errNoText
	}
	r.Detail, r.Clients = part == "detail", part == "clients"
	return r, part, nil
}

// statusOfAll shows the started volumes and says of the others that they are not.
func (c *session) statusOfAll(ctx context.Context, d api.Daemon, list []api.VolumeStatus, show func(*strings.Builder, api.VolumeStatus)) int {
	volumes, err := d.VolumeInfo(ctx, api.VolumeRequest{})
	if err != nil {
		return c.fail(err, failure{})
	}
	if len(volumes) == 0 {
		fmt.Fprintln(c.Err, "No volumes present")
		return 0
	}
	for _, v := range volumes {
		i := slices.IndexFunc(list, func(s api.VolumeStatus) bool { return s.Name == v.Name })
		if i < 0 {
			fmt.Fprintf(c.Err, "Volume %s is not started\n", v.Name)
			fmt.Fprintln(c.Out, " ")
			continue
		}
		var text strings.Builder
		show(&text, list[i])
		fmt.Fprint(c.Out, text.String())
	}
	return 0
}

const ruler = "------------------------------------------------------------------------------\n"

// The columns of the table of processes: gluster breaks a name after nameWidth bytes.
const (
	nameWidth = 43
	rowFormat = "%-43s %-9s %-10s %-7s %-5s\n"
)

func statusText(w *strings.Builder, v api.VolumeStatus) {
	brickText(w, v)
	tasksText(w, v)
}

func brickText(w *strings.Builder, v api.VolumeStatus) {
	fmt.Fprintf(w, "Status of volume: %s\nGluster process                             TCP Port  RDMA Port  Online  Pid\n%s", v.Name, ruler)
	for _, b := range v.Bricks {
		name := "Brick " + b.Name
		for len(name) > nameWidth {
			w.WriteString(name[:nameWidth] + "\n")
			name = name[nameWidth:]
		}
		s := stateOf(b)
		fmt.Fprintf(w, rowFormat, name, s.port, s.rdma, s.online, s.pid)
	}
	w.WriteString(" \n")
}

func tasksText(w *strings.Builder, v api.VolumeStatus) {
	fmt.Fprintf(w, "Task Status of Volume %s\n%sThere are no active volume tasks\n \n", v.Name, ruler)
}

// brickState is a brick's state as it is shown.
type brickState struct{ port, rdma, online, pid string }

func stateOf(b api.BrickStatus) brickState {
	if !b.Online {
		return brickState{"N/A", "N/A", "N", "N/A"}
	}
	return brickState{strconv.Itoa(b.Port), "0", "Y", strconv.Itoa(b.PID)}
}

func detailText(w *strings.Builder, v api.VolumeStatus) {
	fmt.Fprintf(w, "Status of volume: %s\n", v.Name)
	for _, b := range v.Bricks {
		s := stateOf(b)
		line := func(what, value string) { fmt.Fprintf(w, "%-20s : %-20s\n", what, value) }
		w.WriteString(ruler)
		line("Brick", "Brick "+b.Name)
		line("TCP Port", s.port)
		line("RDMA Port", s.rdma)
		line("Online", s.online)
		line("Pid", s.pid)
		if b.Role != "" { // gluster has no such lines
			line("Replica Set", strconv.Itoa(int(b.Set)))
			line("Role", b.Role)
			line("Epoch", strconv.FormatUint(b.Epoch, 10))
		}
		d := b.Disk
		if d == nil {
			continue
		}
		line("File System", d.FileSystem)
		line("Device", d.Device)
		line("Mount Options", d.MountOptions)
		inode := "N/A"
		if d.InodeSize > 0 {
			inode = strconv.FormatInt(d.InodeSize, 10)
		}
		line("Inode Size", inode)
		line("Disk Space Free", human(d.Free))
		line("Total Disk Space", human(d.Total))
		line("Inode Count", strconv.FormatUint(d.Inodes, 10))
		line("Free Inodes", strconv.FormatUint(d.InodesFree, 10))
	}
	w.WriteString(" \n")
}

// human is a size as gluster prints it: one decimal, units of 1024.
func human(n uint64) string {
	units := [...]string{"KB", "MB", "GB", "TB", "PB"}
	if n < 1024 {
		return fmt.Sprintf("%dBytes", n)
	}
	size, i := float64(n)/1024, 0
	for size >= 1024 && i < len(units)-1 {
		size /= 1024
		i++
	}
	return fmt.Sprintf("%.1f%s", size, units[i])
}

func clientsText(w *strings.Builder, v api.VolumeStatus) {
	const rule = "----------------------------------------------\n"
	const row = "%-48s %15s %15s %15s\n"
	fmt.Fprintf(w, "Client connections for volume %s\n%s", v.Name, rule)
	for _, b := range v.Bricks {
		fmt.Fprintf(w, "Brick : %s\nClients connected : %d\n", b.Name, len(b.Clients))
		for i, cl := range b.Clients {
			if i == 0 {
				fmt.Fprintf(w, row, "Hostname", "BytesRead", "BytesWritten", "OpVersion")
				fmt.Fprintf(w, row, "--------", "---------", "------------", "---------")
			}
			fmt.Fprintf(w, row, cl.Addr, strconv.FormatUint(cl.BytesRead, 10), strconv.FormatUint(cl.BytesWritten, 10), opVersion)
		}
		w.WriteString(rule)
	}
	w.WriteString("\n")
}

// opVersion is GlusterFS 10's number of its protocol's version, for tools that read one.
const opVersion = "100000"

func statusXML(x *xml, list []api.VolumeStatus, part string, oneBrick bool) {
	x.begin("volStatus")
	if len(list) == 0 {
		x.leaf("volumes", "")
		x.end()
		return
	}
	x.begin("volumes")
	for _, v := range list {
		x.begin("volume")
		x.leaf("volName", v.Name)
		if part != "tasks" {
			x.number("nodeCount", len(v.Bricks))
			for _, b := range v.Bricks {
				x.begin("node")
				nodeXML(x, b, part)
				x.end()
			}
		}
		if part == "tasks" || part == "" && !oneBrick {
			x.leaf("tasks", "")
		}
		x.end()
	}
	x.end()
	x.end()
}

func nodeXML(x *xml, b api.BrickStatus, part string) {
	port, pid, online := "N/A", -1, 0
	if b.Online {
		port, pid, online = strconv.Itoa(b.Port), b.PID, 1
	}
	x.leaf("hostname", b.Host)
	x.leaf("path", b.Path)
	x.leaf("peerid", b.PeerID)
	x.number("status", online)
	x.leaf("port", port)
	x.begin("ports")
	x.leaf("tcp", port)
	x.leaf("rdma", "N/A")
	x.end()
	x.number("pid", pid)
	if d := b.Disk; d != nil && part == "detail" {
		x.leaf("sizeTotal", strconv.FormatUint(d.Total, 10))
		x.leaf("sizeFree", strconv.FormatUint(d.Free, 10))
		x.leaf("device", d.Device)
		x.leaf("blockSize", strconv.FormatInt(d.BlockSize, 10))
		x.leaf("mntOptions", d.MountOptions)
		x.leaf("fsName", d.FileSystem)
		if d.InodeSize > 0 {
			x.leaf("inodeSize", strconv.FormatInt(d.InodeSize, 10))
		}
		x.leaf("inodesTotal", strconv.FormatUint(d.Inodes, 10))
		x.leaf("inodesFree", strconv.FormatUint(d.InodesFree, 10))
	}
	if part == "clients" {
		x.begin("clientsStatus")
		x.number("clientCount", len(b.Clients))
		for _, cl := range b.Clients {
			x.begin("client")
			x.leaf("hostname", cl.Addr)
			x.leaf("bytesRead", strconv.FormatUint(cl.BytesRead, 10))
			x.leaf("bytesWrite", strconv.FormatUint(cl.BytesWritten, 10))
			x.leaf("opVersion", opVersion)
			x.end()
		}
		x.end()
	}
}
