package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// detachQuestion is gluster's, word for word, for tools that expect it.
const detachQuestion = "All clients mounted through the peer which is getting detached need to be remounted using one of the other active peers " +
	"in the trusted storage pool to ensure client gets notification on any changes done on the gluster configuration " +
	"and if the same has been done do you want to proceed?"

func peerProbe(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) != 3 {
		return c.misused(cmd, "")
	}
	if err := spec.CheckPeer(words[2]); err != nil {
		return c.misused(cmd, err.Error())
	}
	r := api.PeerRequest{Host: words[2]}
	return c.changePeer(ctx, "probe", func(d api.Daemon) (api.PeerReply, error) { return d.PeerProbe(ctx, r) })
}

func peerDetach(c *session, ctx context.Context, cmd *command, words []string) int {
	if !detaches(words) {
		return c.misused(cmd, "")
	}
	if err := spec.CheckPeer(words[2]); err != nil {
		return c.misused(cmd, err.Error())
	}
	r := api.PeerRequest{Host: words[2], Force: len(words) == 4}
	return c.changePeer(ctx, "detach", func(d api.Daemon) (api.PeerReply, error) { return d.PeerDetach(ctx, r) })
}

// detaches reports whether words are a whole `peer detach`.
func detaches(words []string) bool {
	return len(words) == 3 || len(words) == 4 && words[3] == "force"
}

// changePeer makes a change of the pool and tells what came of it. The errno
// of what is done already, 1 and 2, goes with success, as gluster has it.
func (c *session) changePeer(ctx context.Context, verb string, call func(d api.Daemon) (api.PeerReply, error)) int {
	text := "peer " + verb + ": "
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, failure{text: text + "failed: "})
	}
	reply, err := call(d)
	if err != nil {
		return c.fail(err, failure{text: text + "failed: ", remote: true})
	}
	note := "success"
	if reply.Note != "" {
		note = reply.Note
	}
	if c.opts.xml {
		x := newXML()
		x.envelope(0, reply.Number, "")
		x.leaf("output", note)
		c.Out.Write(x.done())
		return 0
	}
	j := jsonDone{[]string{}}
	if reply.Note != "" {
		j.Notes = append(j.Notes, reply.Note)
	}
	return c.success(text+note+"\n", j, nil)
}

func peerStatus(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) != 2 {
		return c.misused(cmd, "")
	}
	peers, err := c.pool(ctx)
	if err != nil {
		return c.fail(err, failure{text: "peer status: failed: "})
	}
	var others []api.Peer
	for _, p := range peers {
		if !p.Self {
			others = append(others, p)
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "Number of Peers: %d\n", len(others))
	for _, p := range others {
		fmt.Fprintf(&text, "\nHostname: %s\nUuid: %s\nState: %s (%s)\n", p.Host, p.ID, p.State, connected(p))
		if len(p.Names) > 0 {
			text.WriteString("Other names:\n" + strings.Join(p.Names, "\n") + "\n")
		}
	}
	return c.success(text.String(), toPeers(others), func(x *xml) { peersXML(x, others) })
}

// poolList is `pool list`: gluster's columns, as wide as the longest name, and
// a space at the end of each line.
func poolList(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) != 2 {
		return c.misused(cmd, "")
	}
	peers, err := c.pool(ctx)
	if err != nil {
		return c.fail(err, failure{text: "pool list: failed: "})
	}
	width := len("Hostname")
	for _, p := range peers {
		width = max(width, len(p.Host))
	}
	var text strings.Builder
	fmt.Fprintf(&text, "UUID\t\t\t\t\t%-*s\tState\n", width, "Hostname")
	for _, p := range peers {
		fmt.Fprintf(&text, "%s\t%-*s\t%s \n", p.ID, width, p.Host, connected(p))
	}
	return c.success(text.String(), toPeers(peers), func(x *xml) { peersXML(x, peers) })
}

// pool asks for the servers of the pool. The one that answers is called
// localhost, as gluster calls it.
func (c *session) pool(ctx context.Context) ([]api.Peer, error) {
	d, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	peers, err := d.PoolList(ctx)
	if err != nil {
		return nil, err
	}
	for i := range peers {
		if peers[i].Self {
			peers[i].Host, peers[i].Names, peers[i].Connected = "localhost", nil, true
		}
	}
	c.noteAge(ctx, d)
	return peers, nil
}

func connected(p api.Peer) string {
	if p.Connected {
		return "Connected"
	}
	return "Disconnected"
}

// peersXML writes peers as gluster does: of the server that answers only three elements.
func peersXML(x *xml, peers []api.Peer) {
	if len(peers) == 0 {
		x.leaf("peerStatus", "")
		return
	}
	x.begin("peerStatus")
	for _, p := range peers {
		x.begin("peer")
		x.leaf("uuid", p.ID)
		x.leaf("hostname", p.Host)
		if !p.Self {
			x.begin("hostnames")
			for _, n := range append([]string{p.Host}, p.Names...) {
				x.leaf("hostname", n)
			}
			x.end()
		}
		x.flag("connected", p.Connected)
		if !p.Self {
			x.number("state", int(p.State))
			x.leaf("stateStr", p.State.String())
		}
		x.end()
	}
	x.end()
}

// noteAge says on stderr that what was just answered is the last known state,
// if it is. A daemon that says nothing is the matter is not asked for more.
func (c *session) noteAge(ctx context.Context, d api.Daemon) {
	s, err := d.Status(ctx)
	if err != nil || s.Store == "" {
		return
	}
	cl, err := d.ClusterStatus(ctx)
	if err != nil || cl.LastKnown.IsZero() {
		return
	}
	reason := cl.Trouble
	if reason == "" {
		reason = s.Store
	}
	fmt.Fprintf(c.Err, "note: this is the last known state, of %s: %s\n", stamp(cl.LastKnown), reason)
}

// failRead is fail for a question that the daemon refused: a volume that is not
// known to the last known state may be there all the same.
func (c *session) failRead(ctx context.Context, d api.Daemon, err error, f failure) int {
	c.noteAge(ctx, d)
	return c.fail(err, f)
}

// uuidGet is `system:: uuid get`, which oVirt asks.
func uuidGet(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) != 3 {
		return c.misused(cmd, "")
	}
	fails := failure{text: "uuid get: failed: "}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	s, err := d.Status(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	self := api.Peer{ID: s.ID, Host: "localhost", Self: true, Connected: true, State: api.PeerJoined, Release: s.Version}
	return c.success("UUID: "+s.ID+"\n", toPeers([]api.Peer{self}), func(x *xml) {
		x.begin("uuidGenerate")
		x.leaf("uuid", s.ID)
		x.end()
	})
}
