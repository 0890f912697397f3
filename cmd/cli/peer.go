package cli

import (
	"context"
	"net/netip"
	"strings"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// A cluster is one server in this version: the answers are those that gluster
// gives on a server without peers.

func peerStatus(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) != 2 {
		return c.misused(cmd, "")
	}
	if _, _, err := c.status(ctx); err != nil {
		return c.fail(err, failure{text: "peer status: failed: "})
	}
	return c.success("Number of Peers: 0\n", jsonPeers{[]jsonPeer{}}, func(x *xml) { x.leaf("peerStatus", "") })
}

func poolList(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) != 2 {
		return c.misused(cmd, "")
	}
	_, s, err := c.status(ctx)
	if err != nil {
		return c.fail(err, failure{text: "pool list: failed: "})
	}
	text := "UUID\t\t\t\t\tHostname \tState\n" + s.ID + "\tlocalhost\tConnected \n"
	return c.success(text, jsonPeers{[]jsonPeer{{s.ID, "localhost", true}}}, func(x *xml) {
		x.begin("peerStatus")
		x.begin("peer")
		x.leaf("uuid", s.ID)
		x.leaf("hostname", "localhost")
		x.number("connected", 1)
		x.end()
		x.end()
	})
}

func (c *session) status(ctx context.Context) (api.Daemon, api.Status, error) {
	d, err := c.dial(ctx)
	if err != nil {
		return nil, api.Status{}, err
	}
	s, err := d.Status(ctx)
	return d, s, err
}

func peerProbe(c *session, _ context.Context, cmd *command, words []string) int {
	switch {
	case len(words) != 3:
		return c.misused(cmd, "")
	case !local(words[2]):
		return c.notYet(cmd)
	case c.opts.xml:
		x := newXML()
		x.envelope(0, 1, "")
		x.leaf("output", "Probe on localhost not needed")
		c.Out.Write(x.done())
		return 0
	}
	return c.success("peer probe: Probe on localhost not needed\n", jsonDone{[]string{"Probe on localhost not needed"}}, nil)
}

func peerDetach(c *session, _ context.Context, cmd *command, words []string) int {
	if len(words) != 3 && (len(words) != 4 || words[3] != "force") {
		return c.misused(cmd, "")
	}
	const enoent = 2
	text := words[2] + " is not part of cluster"
	if local(words[2]) {
		text = words[2] + " is localhost"
	}
	return c.fail(&api.Error{Errno: enoent, Message: text}, failure{text: "peer detach: failed: "})
}

// local reports whether host is this machine under any circumstances.
func local(host string) bool {
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.IsLoopback() || strings.EqualFold(host, "localhost")
}

// uuidGet is `system:: uuid get`, which oVirt asks.
func uuidGet(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) != 3 {
		return c.misused(cmd, "")
	}
	_, s, err := c.status(ctx)
	if err != nil {
		return c.fail(err, failure{text: "uuid get: failed: "})
	}
	return c.success("UUID: "+s.ID+"\n", jsonPeers{[]jsonPeer{{s.ID, "localhost", true}}}, func(x *xml) {
		x.begin("uuidGenerate")
		x.leaf("uuid", s.ID)
		x.end()
	})
}
