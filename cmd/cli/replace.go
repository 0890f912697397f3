package cli

import (
	"context"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// volumeReplaceBrick is `volume replace-brick VOL OLD NEW commit force`.
func volumeReplaceBrick(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) != 7 || words[5] != "commit" || words[6] != "force" {
		return c.misused(cmd, "")
	}
	r := api.BrickRequest{Name: words[2], Brick: words[3], With: words[4], Force: true}
	return c.changeBrick(ctx, "replace-brick", "replace-brick commit force operation successful",
		func(d api.Daemon) (api.Volume, error) { return d.VolumeReplaceBrick(ctx, r) })
}

// volumeResetBrick is `volume reset-brick VOL BRICK {start | BRICK commit [force]}`.
func volumeResetBrick(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) < 5 {
		return c.misused(cmd, "")
	}
	r := api.BrickRequest{Name: words[2], Brick: words[3]}
	done := "reset-brick commit operation successful"
	switch rest := words[4:]; {
	case len(rest) == 1 && rest[0] == "start":
		done = "reset-brick start operation successful"
	case len(rest) == 2 && rest[1] == "commit":
		r.With = rest[0]
	case len(rest) == 3 && rest[1] == "commit" && rest[2] == "force":
		r.With, r.Force = rest[0], true
		done = "reset-brick commit force operation successful"
	default:
		return c.misused(cmd, "")
	}
	return c.changeBrick(ctx, "reset-brick", done, func(d api.Daemon) (api.Volume, error) { return d.VolumeResetBrick(ctx, r) })
}

// changeBrick makes a change of one brick and tells what came of it.
func (c *session) changeBrick(ctx context.Context, verb, done string, call func(api.Daemon) (api.Volume, error)) int {
	text := "volume " + verb + ": "
	fails := failure{text: text + "failed: ", errno: generic}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	v, err := call(d)
	if err != nil {
		return c.fail(err, fails)
	}
	if c.opts.xml {
		x := newXML()
		x.envelope(0, 0, done)
		c.Out.Write(x.done())
		return 0
	}
	return c.plain(text+"success: "+done+"\n", jsonOneVolume{toVolume(v)})
}
