package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// volumeKind is what kind of volume it is, in gluster's terms.
type volumeKind struct {
	number int
	name   string
	sets   int    // groups of bricks over which files are distributed
	bricks string // "2 x (2 + 1) = 6"
}

// kindOf works out the kind from the counts.
func kindOf(v api.Volume) volumeKind {
	n := len(v.Bricks)
	stripe, replica := max(v.Stripe, 1), max(v.Replica, 1)
	var set int
	var k volumeKind
	var each string
	switch {
	case v.Disperse > 0:
		set, k.number, k.name = v.Disperse, 4, "Disperse"
		each = fmt.Sprintf("(%d + %d)", v.Disperse-v.Redundancy, v.Redundancy)
	case stripe > 1 && replica > 1:
		set, k.number, k.name = stripe*replica, 3, "Striped-Replicate"
		each = fmt.Sprintf("%d x %d", stripe, replica)
	case replica > 1 && v.Arbiter > 0:
		set, k.number, k.name = replica, 2, "Replicate"
		each = fmt.Sprintf("(%d + %d)", replica-v.Arbiter, v.Arbiter)
	case replica > 1:
		set, k.number, k.name, each = replica, 2, "Replicate", fmt.Sprint(replica)
	case stripe > 1:
		set, k.number, k.name, each = stripe, 1, "Stripe", fmt.Sprint(stripe)
	default:
		return volumeKind{0, "Distribute", n, fmt.Sprint(n)}
	}
	k.sets = n / set
	k.bricks = fmt.Sprintf("%d x %s = %d", k.sets, each, n)
	if k.sets > 1 {
		k.number += 5
		k.name = "Distributed-" + k.name
	}
	return k
}

func volumeInfo(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) > 3 {
		return c.misused(cmd, "")
	}
	name := ""
	if len(words) == 3 && words[2] != "all" {
		name = words[2]
	}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, failure{})
	}
	volumes, err := d.VolumeInfo(ctx, api.VolumeRequest{Name: name})
	if err != nil {
		c.noteAge(ctx, d)
		return c.infoFailed(err)
	}
	c.noteAge(ctx, d)
	if len(volumes) == 0 && !c.opts.xml && !c.opts.json {
		fmt.Fprintln(c.Err, "No volumes present")
		return 0
	}
	var text strings.Builder
	j := jsonVolumes{Volumes: []jsonVolume{}}
	for _, v := range volumes {
		infoText(&text, v)
		j.Volumes = append(j.Volumes, toVolume(v))
	}
	return c.success(text.String(), j, func(x *xml) { infoXML(x, volumes) })
}

// infoFailed tells that there is no info; of a missing volume gluster's XML has
// a sentence of its own.
func (c *session) infoFailed(err error) int {
	var e *api.Error
	if errors.As(err, &e) && e.Errno == api.ErrNoVolume && c.opts.xml {
		err = &api.Error{Errno: e.Errno, Message: "Volume does not exist"}
	}
	return c.fail(err, failure{extra: func(x *xml) { infoXML(x, nil) }})
}

func infoText(w *strings.Builder, v api.Volume) {
	k := kindOf(v)
	fmt.Fprintf(w, " \nVolume Name: %s\nType: %s\nVolume ID: %s\nStatus: %s\nSnapshot Count: 0\n", v.Name, k.name, v.ID, v.State)
	fmt.Fprintf(w, "Number of Bricks: %s\nTransport-type: tcp\nBricks:\n", k.bricks)
	for i, b := range v.Bricks {
		fmt.Fprintf(w, "Brick%d: %s", i+1, b.Name)
		if b.Arbiter {
			w.WriteString(" (arbiter)")
		}
		w.WriteByte('\n')
	}
	if len(v.Options) == 0 {
		return
	}
	w.WriteString("Options Reconfigured:\n")
	for _, o := range slices.Backward(v.Options) { // gluster shows the newest first
		fmt.Fprintf(w, "%s: %s\n", o.Name, o.Value)
	}
}

func infoXML(x *xml, volumes []api.Volume) {
	x.begin("volInfo")
	x.begin("volumes")
	for _, v := range volumes {
		x.begin("volume")
		volumeXML(x, v)
		x.end()
	}
	x.number("count", len(volumes))
	x.end()
	x.end()
}

func volumeXML(x *xml, v api.Volume) {
	k := kindOf(v)
	x.leaf("name", v.Name)
	x.leaf("id", v.ID)
	x.number("status", int(v.State))
	x.leaf("statusStr", v.State.String())
	x.number("snapshotCount", 0)
	x.number("brickCount", len(v.Bricks))
	x.number("distCount", k.sets)
	x.number("replicaCount", max(v.Replica, 1))
	x.number("arbiterCount", v.Arbiter)
	x.number("disperseCount", v.Disperse)
	x.number("redundancyCount", v.Redundancy)
	x.number("type", k.number)
	x.leaf("typeStr", k.name)
	x.number("transport", 0)
	x.begin("bricks")
	for _, b := range v.Bricks {
		arbiter := 0
		if b.Arbiter {
			arbiter = 1
		}
		name, peer := escape(b.Name), strings.ReplaceAll(escape(b.PeerID), `"`, "&quot;")
		x.rawf(`<brick uuid="%s">%s<name>%s</name><hostUuid>%s</hostUuid><isArbiter>%d</isArbiter></brick>`, peer, name, name, peer, arbiter)
	}
	x.end()
	x.number("optCount", len(v.Options))
	if len(v.Options) == 0 {
		x.leaf("options", "")
		return
	}
	x.begin("options")
	for _, o := range slices.Backward(v.Options) {
		x.begin("option")
		x.leaf("name", o.Name)
		x.leaf("value", o.Value)
		x.end()
	}
	x.end()
}
