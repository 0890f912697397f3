package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// errNoText is the error of words about which the usage says it all.
var errNoText = errors.New("")

func volumeGet(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) != 4 {
		return c.misused(cmd, "")
	}
	const text = "volume get option: failed: "
	fails := failure{text: text, op: "volGetopts", code: 1, errno: func(int) int { return 0 }}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	values, err := d.VolumeGet(ctx, api.GetRequest{Name: words[2], Key: words[3]})
	if err != nil {
		fails.output = text + c.apiError(err).Message
		return c.failRead(ctx, d, err, fails)
	}
	c.noteAge(ctx, d)
	var b strings.Builder
	j := jsonOptions{Options: []jsonOption{}}
	fmt.Fprintf(&b, optionRow+optionRow, "Option", "Value", "------", "-----")
	for _, o := range values {
		fmt.Fprintf(&b, optionRow, o.Name, shown(o))
		j.Options = append(j.Options, jsonOption{o.Name, o.Value, o.Default})
	}
	return c.success(b.String(), j, func(x *xml) {
		x.begin("volGetopts")
		x.number("count", len(values))
		for _, o := range values {
			x.begin("Opt")
			x.leaf("Option", o.Name)
			x.leaf("Value", shown(o))
			x.end()
		}
		x.end()
	})
}

const optionRow = "%-40s %-39s\n"

func shown(o api.OptionValue) string {
	if o.Default {
		return o.Value + " (DEFAULT)"
	}
	return o.Value
}

func volumeSet(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) == 3 {
		switch words[2] {
		case "help":
			return c.optionHelp()
		case "help-xml":
			return c.optionHelpXML()
		}
	}
	if len(words) < 5 || len(words)%2 == 0 {
		return c.misused(cmd, "")
	}
	for _, w := range words[3:] {
		if w == "" {
			return c.misused(cmd, "")
		}
	}
	fails := failure{text: "volume set: failed: ", op: "volSet", output: "Set volume unsuccessful", errno: generic}
	if words[3] == "group" {
		return c.fail(&api.Error{Errno: api.ErrGeneric, Message: notYetText("volume set VOLNAME group")}, fails)
	}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	reply, err := d.VolumeSet(ctx, api.SetRequest{Name: words[2], Pairs: words[3:]})
	if err != nil {
		return c.fail(err, fails)
	}
	return c.done("volume set: success\n", "volSet", "Set volume successful", reply)
}

// done tells that options were changed. What there is to say beyond that goes
// to stderr, so that stdout is what gluster prints.
func (c *session) done(text, op, output string, reply api.SetReply) int {
	code := c.success(text, jsonDone{append([]string{}, reply.Notes...)}, func(x *xml) {
		x.leaf("cliOp", op)
		x.leaf("output", output)
	})
	if !c.opts.xml && !c.opts.json {
		for _, n := range reply.Notes {
			fmt.Fprintln(c.Err, "note: "+n)
		}
	}
	return code
}

// volumeReset is `volume reset VOL [OPTION] [force]`.
func volumeReset(c *session, ctx context.Context, cmd *command, words []string) int {
	r := api.ResetRequest{}
	switch rest := words[2:]; {
	case len(rest) == 1:
		r.Name = rest[0]
	case len(rest) == 2 && rest[1] == "force":
		r.Name, r.Force = rest[0], true
	case len(rest) == 2:
		r.Name, r.Option = rest[0], rest[1]
	case len(rest) == 3 && rest[2] == "force":
		r.Name, r.Option, r.Force = rest[0], rest[1], true
	default:
		return c.misused(cmd, "")
	}
	if r.Option == "all" {
		r.Option = ""
	}
	fails := failure{text: "volume reset: failed: ", op: "volReset", output: "*", errno: generic}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	reply, err := d.VolumeReset(ctx, r)
	if err != nil {
		return c.fail(err, fails)
	}
	return c.done("volume reset: success: reset volume successful\n", "volReset", "reset volume successful", reply)
}

// optionHelp is `volume set help`: Mortar's own options first.
func (c *session) optionHelp() int {
	if c.opts.xml {
		return c.optionHelpXML()
	}
	var b strings.Builder
	for _, o := range spec.Helped() {
		fmt.Fprintf(&b, "Option: %s\nDefault Value: %s\nDescription: %s\n\n", o.Name, o.Default, describe(o))
	}
	fmt.Fprint(c.Out, b.String())
	return 0
}

func describe(o spec.Option) string {
	text := o.Help
	if !o.Effect {
		return text
	}
	text += " Type: " + o.Kind.String()
	if r := o.Range(); r != "" {
		text += ", " + r
	}
	return text + "."
}

// optionHelpXML is `volume set help-xml`, all on one line as gluster has it.
func (c *session) optionHelpXML() int {
	var b strings.Builder
	b.WriteString(xmlHead + "<options>")
	for _, o := range spec.Helped() {
		fmt.Fprintf(&b, "<option><defaultValue>%s</defaultValue><description>%s</description><name>%s</name></option>",
			escape(o.Default), escape(describe(o)), escape(o.Name))
	}
	b.WriteString("</options>\n")
	fmt.Fprint(c.Out, b.String())
	return 0
}
