package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// healWords are what may follow the volume's name in `volume heal`.
var healWords = [...]string{"enable", "disable", "full", "statistics", "info", "split-brain", "granular-entry-heal"}

// volumeHeal is `volume heal VOL [WORD …]`.
func volumeHeal(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) < 3 {
		return c.misused(cmd, "")
	}
	name, rest := words[2], words[3:]
	word := ""
	if len(rest) > 0 {
		if word = unambiguous(rest[0], healWords[:]...); word == "" {
			return c.misused(cmd, "")
		}
		rest = rest[1:]
	}
	switch {
	case word == "split-brain" && len(rest) > 0:
		return c.fail(&api.Error{Errno: api.ErrGeneric, Message: "There is no split-brain in " + name + " to be resolved: a set acknowledges a change on one side only."}, failure{})
	case word == "granular-entry-heal" && len(rest) == 1:
		return c.healSwitch(ctx, cmd, name, "cluster.granular-entry-heal", rest[0], "granular entry heal")
	case word == "info" && len(rest) <= 1:
		what := ""
		if len(rest) == 1 {
			if what = unambiguous(rest[0], "summary", "split-brain"); what == "" {
				return c.misused(cmd, "")
			}
		}
		return c.healInfo(ctx, name, what)
	case word == "statistics" && len(rest) == 0:
		return c.healTold(ctx, name, "Gathering crawl statistics", statisticsText)
	case word == "statistics" && unambiguous(rest[0], "heal-count") != "" && (len(rest) == 1 || len(rest) == 3 && rest[1] == "replica"):
		brick := ""
		if len(rest) == 3 {
			brick = rest[2]
		}
		return c.healTold(ctx, name, "Gathering count of entries to be healed", func(w *strings.Builder, h api.HealInfo) { countText(w, h, brick) })
	case len(rest) > 0:
		return c.misused(cmd, "")
	case word == "enable" || word == "disable":
		return c.healSwitch(ctx, cmd, name, "cluster.self-heal-daemon", word, "heal")
	}
	return c.healStart(ctx, api.HealRequest{Name: name, Full: word == "full"})
}

// healStart begins a heal. Gluster answers in text with --xml too.
func (c *session) healStart(ctx context.Context, r api.HealRequest) int {
	kind := "index"
	if r.Full {
		kind = "full"
	}
	text := "Launching heal operation to perform " + kind + " self heal on volume " + r.Name + " has been "
	fails := failure{text: text + "unsuccessful:\n", errno: generic}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	info, err := d.VolumeHeal(ctx, r)
	if err != nil {
		return c.fail(err, fails)
	}
	return c.plain(text+"successful \nUse heal info commands to check status.\n", toHeal(info))
}

// plain is a success that is told in text with --xml too.
func (c *session) plain(text string, json any) int {
	if c.opts.json {
		c.writeJSON(json)
	} else {
		fmt.Fprint(c.Out, text)
	}
	return 0
}

// healSwitch sets an option of healing on or off.
func (c *session) healSwitch(ctx context.Context, cmd *command, name, option, word, what string) int {
	value := map[string]string{"enable": "on", "disable": "off"}[word]
	if value == "" {
		return c.misused(cmd, "")
	}
	text := map[string]string{"on": "Enable ", "off": "Disable "}[value] + what + " on volume " + name + " has been "
	fails := failure{text: text + "unsuccessful:\n", errno: generic}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	volumes, err := d.VolumeInfo(ctx, api.VolumeRequest{Name: name})
	if err == nil && len(volumes) == 1 && volumes[0].Replica <= 1 && volumes[0].Disperse == 0 {
		err = &api.Error{Errno: api.ErrGeneric, Message: "Volume " + name + " is not of type replicate/disperse"}
	}
	if err == nil {
		_, err = d.VolumeSet(ctx, api.SetRequest{Name: name, Pairs: []string{option, value}})
	}
	if err != nil {
		return c.fail(err, fails)
	}
	return c.plain(text+"successful \n", jsonDone{[]string{}})
}

// healTold shows what is known of healing in a form of gluster's that is text with --xml too.
func (c *session) healTold(ctx context.Context, name, what string, show func(*strings.Builder, api.HealInfo)) int {
	text := what + " on volume " + name + " has been "
	fails := failure{text: text + "unsuccessful:\n", errno: generic}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	info, err := d.VolumeHealInfo(ctx, api.VolumeRequest{Name: name})
	if err != nil {
		return c.failRead(ctx, d, err, fails)
	}
	c.noteAge(ctx, d)
	var b strings.Builder
	b.WriteString(text + "successful \n")
	show(&b, info)
	return c.plain(b.String(), toHeal(info))
}

// healInfo is `volume heal VOL info [summary|split-brain]`.
func (c *session) healInfo(ctx context.Context, name, what string) int {
	fails := failure{errno: generic}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	info, err := d.VolumeHealInfo(ctx, api.VolumeRequest{Name: name})
	if err != nil {
		return c.failRead(ctx, d, err, fails)
	}
	c.noteAge(ctx, d)
	rows := healRows(info)
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "Brick %s\n", r.Name)
		if what == "" {
			for _, e := range r.entries {
				fmt.Fprintf(&b, "%s \n", e)
			}
		}
		fmt.Fprintf(&b, "Status: %s\n", r.status)
		switch what {
		case "summary":
			fmt.Fprintf(&b, "Total Number of entries: %s\nNumber of entries in heal pending: %s\nNumber of entries in split-brain: %s\nNumber of entries possibly healing: %s\n",
				r.number, r.pending, r.split, r.healing)
		case "split-brain":
			fmt.Fprintf(&b, "Number of entries in split-brain: %s\n", r.split)
		default:
			fmt.Fprintf(&b, "Number of entries: %s\n", r.number)
		}
		b.WriteByte('\n')
	}
	switch {
	case c.opts.json:
		c.writeJSON(toHeal(info))
	case c.opts.xml:
		c.Out.Write(healXML(rows, what))
	default:
		fmt.Fprint(c.Out, b.String())
		if c.prog == "mortar" {
			c.healNotes(info)
		}
	}
	return 0
}

// healNotes tells on stderr, for people, what gluster's form has no place for.
func (c *session) healNotes(info api.HealInfo) {
	for _, b := range info.Bricks {
		text := ""
		switch {
		case !b.Known || b.Role != api.RoleBehind:
			continue
		case !b.Connected:
			text = "is away"
		case !b.Started.IsZero() && b.State != "":
			text = fmt.Sprintf("%s, %d files and %s healed since %s", b.State, b.HealedFiles, human(b.HealedBytes), b.Started.Local().Format(time.TimeOnly))
			if b.Total > 0 {
				text += fmt.Sprintf(", %d of %d entries left", b.Pending, b.Total)
			}
			if !b.Ends.IsZero() {
				text += ", done by about " + b.Ends.Local().Format(time.TimeOnly)
			}
		default:
			text = "is out of sync"
		}
		if b.LastError != "" {
			text += "; the last attempt failed: " + b.LastError
		}
		fmt.Fprintf(c.Err, "note: %s %s\n", b.Name, text)
	}
}

// healRow is a brick in gluster's form: what is to be healed stands at the bricks
// that have it. A number that is not known is "-".
type healRow struct {
	api.BrickHeal
	status                          string
	entries                         []string
	number, pending, split, healing string
}

const notConnected = "Transport endpoint is not connected"

func healRows(info api.HealInfo) []healRow {
	var rows []healRow
	for _, b := range info.Bricks {
		r := healRow{BrickHeal: b, status: "Connected", number: "-", pending: "-", split: "-", healing: "-"}
		switch {
		case !b.Connected:
			r.status = notConnected
		case b.Known && b.Role == api.RoleBehind:
			r.number, r.pending, r.split, r.healing = "0", "0", "0", "0"
		case b.Known:
			n, busy, entries := behind(info, b)
			r.entries = entries
			r.number, r.split = fmt.Sprint(n), "0"
			r.pending, r.healing = fmt.Sprint(n-busy), fmt.Sprint(busy)
		}
		rows = append(rows, r)
	}
	return rows
}

// behind sums up what the others of b's set lack: a brick out of sync lacks
// something always. busy is how many entries are being healed this moment.
func behind(info api.HealInfo, b api.BrickHeal) (n, busy uint64, entries []string) {
	seen := map[string]bool{}
	for _, o := range info.Bricks {
		if o.Set != b.Set || o.Role != api.RoleBehind {
			continue
		}
		n = max(n, o.Pending, 1, uint64(len(o.Entries)))
		if o.State == "healing" || o.State == "full heal" {
			busy = 1
		}
		for _, e := range o.Entries {
			if !seen[e] {
				seen[e] = true
				entries = append(entries, e)
			}
		}
	}
	return max(n, uint64(len(entries))), busy, entries
}

// healXML is gluster's form: what it is about comes before opRet.
func healXML(rows []healRow, what string) []byte {
	x := newXML()
	x.begin("cliOutput")
	x.begin("healInfo")
	x.begin("bricks")
	for _, r := range rows {
		id := r.PeerID
		if r.status != "Connected" {
			id = "-"
		}
		x.beginWith("brick", "hostUuid", id)
		x.leaf("name", r.Name)
		if what == "" {
			for _, e := range r.entries {
				x.rawf(`<file gfid="%s">%s</file>`, gfidOf(e), escape(e))
			}
		}
		x.leaf("status", r.status)
		switch what {
		case "summary":
			x.leaf("totalNumberOfEntries", r.number)
			x.leaf("numberOfEntriesInHealPending", r.pending)
			x.leaf("numberOfEntriesInSplitBrain", r.split)
			x.leaf("numberOfEntriesPossiblyHealing", r.healing)
		case "split-brain":
			x.leaf("numberOfEntries", r.split)
		default:
			x.leaf("numberOfEntries", r.number)
		}
		x.end()
	}
	x.end()
	x.end()
	x.number("opRet", 0)
	x.number("opErrno", 0)
	x.leaf("opErrstr", "")
	return x.done()
}

// gfidOf is what gluster calls an object's ID; all zero for a path, of which it is not told.
func gfidOf(entry string) string {
	if id, ok := strings.CutPrefix(entry, "<gfid:"); ok {
		return strings.ReplaceAll(escape(strings.TrimSuffix(id, ">")), `"`, "&quot;")
	}
	if entry == "/" {
		return "00000000-0000-0000-0000-000000000001"
	}
	return "00000000-0000-0000-0000-000000000000"
}

func countText(w *strings.Builder, info api.HealInfo, only string) {
	for _, r := range healRows(info) {
		if only != "" && only != r.Name {
			continue
		}
		fmt.Fprintf(w, "\nBrick %s\n", r.Name)
		if r.status != "Connected" {
			w.WriteString("Status: Brick is not connected\nNo gathered input for this brick\n")
			continue
		}
		fmt.Fprintf(w, "Number of entries: %s\n", r.number)
	}
}

func statisticsText(w *strings.Builder, info api.HealInfo) {
	for i, b := range info.Bricks {
		fmt.Fprintf(w, "------------------------------------------------\n\nCrawl statistics for brick no %d\nHostname of brick %s\n\n", i, b.Host)
		kind, failed := "INDEX", 0
		if b.State == "full heal" {
			kind = "FULL"
		}
		if b.LastError != "" {
			failed = 1
		}
		if !b.Started.IsZero() {
			fmt.Fprintf(w, "Starting time of crawl: %s\n\n", b.Started.Local().Format(time.ANSIC))
			if b.Role == api.RoleBehind {
				w.WriteString("Crawl is in progress\n")
			}
		}
		fmt.Fprintf(w, "Type of crawl: %s\nNo. of entries healed: %d\nNo. of entries in split-brain: 0\nNo. of heal failed entries: %d\n", kind, b.HealedFiles, failed)
	}
}
