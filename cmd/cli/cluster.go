package cli

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
)

func clusterStatus(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) != 2 {
		return c.misused(cmd, "")
	}
	fails := failure{text: "cluster status: failed: "}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	cl, err := d.ClusterStatus(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	return c.success(clusterText(cl), toCluster(cl), func(x *xml) { clusterXML(x, cl) })
}

// clusterText is a cluster as people read it.
func clusterText(cl api.Cluster) string {
	var b strings.Builder
	line := func(what, format string, a ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", what+":", fmt.Sprintf(format, a...))
	}
	line("Cluster", "%s", cl.ID)
	line("Incarnation", "%d", cl.Incarnation)
	line("Revision", "%d", cl.Revision)
	there := 0
	for _, s := range cl.Servers {
		if s.Answers {
			there++
		}
	}
	if there == len(cl.Servers) { // scripts wait for this line
		line("Servers", "%d, all answer", there)
	} else {
		line("Servers", "%d, of which %d %s", len(cl.Servers), there, plural(there, "answers", "answer"))
	}
	line("Voters", "%d, of which %d %s", cl.Voters, cl.Answering, plural(cl.Answering, "answers", "answer"))
	line("Changes", "%s", changes(cl))
	controller := "none at the moment"
	for _, s := range cl.Servers {
		if s.ID == cl.Controller {
			controller = s.Host
		}
	}
	line("Controller", "%s", controller)
	if !cl.LastKnown.IsZero() {
		line("Last known", "this is the state of %s", stamp(cl.LastKnown))
	}
	if cl.Trouble != "" {
		line("Trouble", "%s", cl.Trouble)
	}
	b.WriteByte('\n')
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "Hostname\tAddress\tRole\tAnswers\tBricks\tRelease\tUUID")
	for _, s := range cl.Servers {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", s.Host, dash(s.Listen), role(s), yesNo(s.Answers), s.Bricks, dash(s.Release), s.ID)
	}
	w.Flush() // to memory: it can't fail
	return b.String()
}

// changes says whether the configuration can be changed.
func changes(cl api.Cluster) string {
	if cl.Quorum {
		return "possible"
	}
	return fmt.Sprintf("refused: %d of the %d voters would have to answer", cl.Voters/2+1, cl.Voters)
}

// role is what a server is in the store, and becomes if a change is under way.
func role(s api.ClusterServer) string {
	r := dash(s.Role)
	if s.Leader && s.Role != api.RoleAlone {
		r += ", leader"
	}
	if s.Wanted != "" && s.Wanted != s.Role {
		r += ", becomes " + s.Wanted
	}
	if s.State != api.PeerJoined {
		r += " (" + strings.ToLower(s.State.String()) + ")"
	}
	return r
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func plural(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// stamp is a time as it is shown to people.
func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// clusterXML is Mortar's own, in gluster's manner.
func clusterXML(x *xml, cl api.Cluster) {
	x.begin("clusterStatus")
	x.leaf("uuid", cl.ID)
	x.leaf("incarnation", fmt.Sprint(cl.Incarnation))
	x.leaf("revision", fmt.Sprint(cl.Revision))
	x.flag("quorum", cl.Quorum)
	x.number("voters", cl.Voters)
	x.number("answering", cl.Answering)
	x.leaf("controller", cl.Controller)
	if !cl.LastKnown.IsZero() {
		x.leaf("lastKnown", cl.LastKnown.UTC().Format(time.RFC3339))
	}
	x.leaf("trouble", cl.Trouble)
	for _, s := range cl.Servers {
		x.begin("server")
		x.leaf("uuid", s.ID)
		x.leaf("hostname", s.Host)
		x.leaf("address", s.Listen)
		x.leaf("role", s.Role)
		x.leaf("wanted", s.Wanted)
		x.flag("answers", s.Answers)
		x.flag("leader", s.Leader)
		x.flag("connected", s.Connected)
		x.number("state", int(s.State))
		x.number("brickCount", s.Bricks)
		x.leaf("release", s.Release)
		x.end()
	}
	x.end()
}

// askRecover explains a recovery with the servers that it gives up. Where there
// is nothing to recover nothing is asked: the daemon says why not.
func askRecover(c *session, ctx context.Context, words []string) (text string, code int) {
	if len(words) != 2 {
		return "", -1
	}
	ctx, cancel := context.WithTimeout(ctx, c.opts.timeout)
	defer cancel()
	d, err := c.dial(ctx)
	if err != nil {
		return "", c.fail(err, failure{})
	}
	cl, err := d.ClusterStatus(ctx)
	if err != nil {
		return "", c.fail(err, failure{text: "cluster recover: failed: "})
	}
	if cl.Quorum {
		return "", -1
	}
	return recoverText(cl), -1
}

// recoverText says what a recovery does and what it costs.
func recoverText(cl api.Cluster) string {
	self := "this server"
	var lost []string
	for _, s := range cl.Servers {
		switch {
		case s.Self:
			self = s.Host
		case !s.Answers && (s.Role == api.RoleVoter || s.Role == api.RoleLearner):
			lost = append(lost, s.Host)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of the %d voters %s, too few for changes. Recovering makes the configuration that %s knows", cl.Answering, cl.Voters,
		plural(cl.Answering, "answers", "answer"), self)
	if !cl.LastKnown.IsZero() {
		fmt.Fprintf(&b, " (revision %d, of %s)", cl.Revision, stamp(cl.LastKnown))
	}
	fmt.Fprintf(&b, " that of the cluster, with %s as its only voter. Changes that only other voters know of are forgotten. "+
		"Bricks and mounts go on, no file is touched.\n", self)
	if len(lost) > 0 {
		fmt.Fprintf(&b, "No answer from: %s. Do this only if %s cannot be brought back soon; a server that comes back later takes the recovered configuration over.\n",
			strings.Join(lost, ", "), plural(len(lost), "it", "they"))
	}
	b.WriteString("Do this on one server only. Do you want to continue?")
	return b.String()
}

func clusterRecover(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) != 2 {
		return c.misused(cmd, "")
	}
	return c.replaceCluster(ctx, "recover", func(d api.Daemon) (api.Cluster, error) { return d.ClusterRecover(ctx) })
}

// replaceCluster puts another configuration in the place of what was, and shows it.
func (c *session) replaceCluster(ctx context.Context, verb string, call func(d api.Daemon) (api.Cluster, error)) int {
	text := "cluster " + verb + ": "
	fails := failure{text: text + "failed: "}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	cl, err := call(d)
	if err != nil {
		return c.fail(err, fails)
	}
	return c.success(text+"success\n\n"+clusterText(cl), toCluster(cl), func(x *xml) { clusterXML(x, cl) })
}

// clusterHelp is `cluster help`: the list, and what the list has no room for.
func clusterHelp(c *session, _ context.Context, _ *command, _ []string) int {
	c.helpGroup("cluster")
	fmt.Fprint(c.Out, clusterHelpText)
	return 0
}

const clusterHelpText = `The configuration (servers, volumes, options) is kept by voters: one of the
servers, or three from three servers on. It can be changed while more than half
of the voters answer. Without that majority bricks and mounts go on, commands
that only look answer with the last known state, and changes are refused.

status   Shows the voters, which of them answer, and whether changes are
         possible. It answers without a majority too.
recover  For the case that the majority of the voters is lost for good. Typed
         on a server that is left, it makes what that server knows the
         configuration, with that server as the only voter; the others join it
         again when they answer. While a majority answers it is refused.
backup   Writes the configuration to a file; "-" is standard output. A file
         that is there already is kept, unless force is given. It holds no
         files of volumes.
restore  Makes a backup the configuration of a daemon that is alone and has no
         volumes; "-" is standard input. The servers in it join again when they
         answer.

`
