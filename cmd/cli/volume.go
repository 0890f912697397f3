package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// changeOf is a change of a volume as a whole and how it is told.
type changeOf struct {
	verb    string // "start"
	element string // of --xml: "volStart"
	name    string // the volume
	done    string // after "success"
	call    func(d api.Daemon) (api.Volume, error)
}

// change makes a change and tells what came of it.
func (c *session) change(ctx context.Context, ch changeOf) int {
	text := "volume " + ch.verb + ": " + ch.name + ": "
	f := failure{text: text + "failed: ", errno: generic}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, f)
	}
	v, err := ch.call(d)
	if err != nil {
		return c.fail(err, f)
	}
	return c.success(text+"success"+ch.done+"\n", jsonOneVolume{toVolume(v)}, func(x *xml) {
		x.begin(ch.element)
		x.begin("volume")
		x.leaf("name", v.Name)
		x.leaf("id", v.ID)
		x.end()
		x.end()
	})
}

// generic is the errno of a failed change: of a missing volume too, for which
// only `volume info` has a number of its own.
func generic(errno int) int {
	if errno == api.ErrNoVolume {
		return api.ErrGeneric
	}
	return errno
}

// named reads "VOLNAME [force]".
func named(words []string) (r api.VolumeRequest, ok bool) {
	switch {
	case len(words) == 3:
		return api.VolumeRequest{Name: words[2]}, true
	case len(words) == 4 && words[3] == "force":
		return api.VolumeRequest{Name: words[2], Force: true}, true
	}
	return r, false
}

func volumeStart(c *session, ctx context.Context, cmd *command, words []string) int {
	r, ok := named(words)
	if !ok {
		return c.misused(cmd, "")
	}
	return c.change(ctx, changeOf{verb: "start", element: "volStart", name: r.Name,
		call: func(d api.Daemon) (api.Volume, error) { return d.VolumeStart(ctx, r) }})
}

func volumeStop(c *session, ctx context.Context, cmd *command, words []string) int {
	r, ok := named(words)
	if !ok {
		return c.misused(cmd, "")
	}
	return c.change(ctx, changeOf{verb: "stop", element: "volStop", name: r.Name,
		call: func(d api.Daemon) (api.Volume, error) { return d.VolumeStop(ctx, r) }})
}

func volumeDelete(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) != 3 {
		return c.misused(cmd, "")
	}
	r := api.VolumeRequest{Name: words[2]}
	return c.change(ctx, changeOf{verb: "delete", element: "volDelete", name: r.Name,
		call: func(d api.Daemon) (api.Volume, error) { return d.VolumeDelete(ctx, r) }})
}

func volumeList(c *session, ctx context.Context, _ *command, _ []string) int {
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, failure{})
	}
	volumes, err := d.VolumeInfo(ctx, api.VolumeRequest{})
	if err != nil {
		return c.fail(err, failure{})
	}
	c.noteAge(ctx, d)
	names := make([]string, 0, len(volumes))
	for _, v := range volumes {
		names = append(names, v.Name)
	}
	if len(names) == 0 && !c.opts.xml && !c.opts.json {
		fmt.Fprintln(c.Err, "No volumes present in cluster")
		return 0
	}
	return c.success(strings.Join(names, "\n")+"\n", jsonNames{names}, func(x *xml) {
		x.begin("volList")
		x.number("count", len(names))
		for _, n := range names {
			x.leaf("volume", n)
		}
		x.end()
	})
}
