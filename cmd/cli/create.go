package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// volumeCreate is `volume create`. Names and counts are looked at here, with
// gluster's words; whether the bricks can be had is the daemon's to say.
func volumeCreate(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) < 4 {
		return c.misused(cmd, "")
	}
	r, err := parseCreate(words[2], words[3:])
	if err != nil {
		return c.misused(cmd, err.Error())
	}
	r.Force = r.Force || c.opts.force
	return c.change(ctx, changeOf{verb: "create", element: "volCreate", name: r.Name,
		done: ": please start the volume to access data",
		call: func(d api.Daemon) (api.Volume, error) { return d.VolumeCreate(ctx, r) }})
}

// parseCreate reads what follows `volume create`. An error with no text means
// that the usage says it all.
func parseCreate(name string, words []string) (api.CreateRequest, error) {
	r := api.CreateRequest{Name: name}
	if err := spec.CheckVolumeName(name); err != nil {
		return r, err
	}
	p := createParser{r: &r, words: words}
	for len(p.words) > 0 && !strings.ContainsAny(p.words[0], ":/") {
		if len(p.words) == 1 && p.words[0] == "force" {
			break
		}
		w := unambiguous(p.words[0], "stripe", "replica", "transport", "disperse", "disperse-data", "redundancy", "arbiter", "thin-arbiter")
		if w == "" {
			break
		}
		if err := p.option(w); err != nil {
			return r, err
		}
	}
	bricks := p.words
	if n := len(bricks); n > 0 && bricks[n-1] == "force" {
		r.Force, bricks = true, bricks[:n-1]
	}
	var err error
	if r.Bricks, err = spec.CheckBricks(bricks); err != nil {
		return r, err
	}
	if err := p.finish(len(bricks)); err != nil {
		return r, err
	}
	shape := spec.Shape{Bricks: len(bricks), Stripe: r.Stripe, Replica: r.Replica, Arbiter: r.Arbiter, Disperse: r.Disperse, Redundancy: r.Redundancy}
	return r, shape.Check()
}

// createParser is a volume create line being read.
type createParser struct {
	r            *api.CreateRequest
	words        []string
	seen         map[string]bool
	data         int  // disperse-data
	disperse     bool // "disperse" without a count: all bricks are one set
	thinArbiters int
}

// option reads one keyword and its value.
func (p *createParser) option(keyword string) error {
	if p.seen[keyword] {
		return spec.Invalid(keyword + " option given twice")
	}
	if p.seen == nil {
		p.seen = make(map[string]bool)
	}
	p.seen[keyword] = true
	p.words = p.words[1:]
	if len(p.words) == 0 {
		return spec.Invalid("No bricks specified")
	}
	value := p.words[0]
	n, err := strconv.Atoi(value)
	if keyword == "disperse" && err != nil {
		p.disperse = true
		return nil
	}
	p.words = p.words[1:]
	if keyword == "transport" {
		return p.transport(value)
	}
	if err != nil {
		n = -1
	}
	return p.count(keyword, value, n)
}

// count takes the number of a keyword, -1 for what is none.
func (p *createParser) count(keyword, value string, n int) error {
	least := map[string]int{"stripe": 2, "replica": 2, "disperse": 3}[keyword]
	switch {
	case keyword == "disperse" && n < least:
		return spec.Invalid("disperse count must be greater than 2")
	case n < least:
		return spec.Invalid(keyword + " count should be greater than 1")
	case n < 1 || n > 1<<15:
		return spec.Invalid(keyword + " count " + value + " is not a number of bricks")
	}
	switch keyword {
	case "stripe":
		p.r.Stripe = n
	case "replica":
		p.r.Replica = n
	case "arbiter":
		p.r.Arbiter = n
	case "thin-arbiter":
		p.thinArbiters = n
	case "disperse":
		p.r.Disperse = n
	case "disperse-data":
		p.data = n
	case "redundancy":
		p.r.Redundancy = n
	}
	return nil
}

func (p *createParser) transport(value string) error {
	switch strings.ToLower(value) {
	case "tcp":
		p.r.Transport = "tcp"
		return nil
	case "rdma", "tcp,rdma", "rdma,tcp":
		return spec.Invalid("transport " + value + ": Mortar knows the transport tcp only")
	}
	return spec.Invalid("incorrect transport protocol specified: " + value)
}

// finish works out counts that follow from others.
func (p *createParser) finish(bricks int) error {
	r := p.r
	switch {
	case p.thinArbiters != 0:
		return spec.Invalid("thin-arbiter: this version of Mortar does not have thin arbiters yet.")
	case p.data != 0 && r.Redundancy != 0 && r.Disperse != 0 && p.data+r.Redundancy != r.Disperse:
		return spec.Invalid("disperse count is not the sum of disperse-data and redundancy")
	case p.data != 0 && r.Redundancy != 0:
		r.Disperse = p.data + r.Redundancy
	case p.data != 0 && r.Disperse == 0:
		r.Disperse = bricks
	case (p.disperse || r.Redundancy != 0) && r.Disperse == 0:
		r.Disperse = bricks
	}
	if p.data != 0 {
		r.Redundancy = r.Disperse - p.data
	}
	if r.Arbiter == 1 && r.Replica == 2 {
		r.Replica = 3 // "replica 2 arbiter 1" is the new spelling of "replica 3 arbiter 1"
	}
	return nil
}
