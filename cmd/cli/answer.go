package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// failure says how a command's failure is told.
type failure struct {
	text   string       // before the message in text: "volume start: v: failed: "
	op     string       // cliOp of --xml, "" none
	output string       // output of --xml; "" none, "*": the message
	extra  func(x *xml) // further elements of --xml
	code   int          // exit code with --xml under the name gluster
	errno  func(int) int
	remote bool // errno 107 is about another server: this one's daemon answered
}

// fail tells that err ended the command.
func (c *session) fail(err error, f failure) int {
	c.log.Error("failed", "error", err)
	e := c.apiError(err)
	if e.Errno == api.ErrUnreachable && !f.remote {
		return c.unreachable(e)
	}
	if f.errno != nil {
		e = &api.Error{Errno: f.errno(e.Errno), Message: e.Message}
	}
	switch {
	case c.opts.json:
		c.writeJSON(jsonFailure{jsonError{e.Errno, e.Message}})
	case c.opts.xml:
		x := newXML()
		x.envelope(-1, e.Errno, e.Message)
		if f.op != "" {
			x.leaf("cliOp", f.op)
		}
		switch f.output {
		case "":
		case "*":
			x.leaf("output", e.Message)
		default:
			x.leaf("output", f.output)
		}
		if f.extra != nil {
			f.extra(x)
		}
		c.Out.Write(x.done())
		if c.prog == "gluster" {
			return f.code
		}
	default:
		fmt.Fprintf(c.Err, "%s%s\n", f.text, e.Message)
	}
	return 1
}

// apiError turns any error into one with a number and a sentence.
func (c *session) apiError(err error) *api.Error {
	var e *api.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return &api.Error{Errno: api.ErrGeneric, Message: fmt.Sprintf("Request timed out after %v", c.opts.timeout)}
	case errors.Is(err, context.Canceled):
		return &api.Error{Errno: api.ErrGeneric, Message: "interrupted"}
	}
	return &api.Error{Errno: api.ErrGeneric, Message: err.Error()}
}

// unreachable tells that there is no daemon to ask, and how to start it.
func (c *session) unreachable(e *api.Error) int {
	text := e.Message
	if !strings.Contains(text, "mortar daemon") {
		text += " Start the daemon with `mortar daemon`."
	}
	switch {
	case c.opts.json:
		c.writeJSON(jsonFailure{jsonError{e.Errno, text}})
	case c.opts.xml:
		x := newXML()
		x.envelope(-1, e.Errno, text)
		c.Out.Write(x.done())
	default:
		fmt.Fprintf(c.Err, "Connection failed. %s\n", text)
	}
	return 1
}

// misused tells that a command's words make no sense, with the reason if there
// is more to say, and how they should look.
func (c *session) misused(cmd *command, reason string) int {
	if c.opts.json {
		if reason == "" {
			reason = "Usage: " + cmd.usage
		}
		c.writeJSON(jsonFailure{jsonError{api.ErrGeneric, reason}})
		return 1
	}
	if reason != "" {
		fmt.Fprintln(c.Err, reason)
	}
	fmt.Fprintf(c.Err, "\nUsage:\n%s\n\n", cmd.usage)
	return 1
}

// notYet tells that a command of gluster's is none of this version's.
func (c *session) notYet(cmd *command) int {
	return c.fail(&api.Error{Errno: api.ErrGeneric, Message: notYetText(cmd.path)}, failure{})
}

func notYetText(what string) string {
	return what + ": this version of Mortar does not have this command yet."
}

// success tells that a command is done: text in text, and with --xml what body writes.
func (c *session) success(text string, json any, body func(x *xml)) int {
	switch {
	case c.opts.json:
		c.writeJSON(json)
	case c.opts.xml:
		x := newXML()
		x.envelope(0, 0, "")
		body(x)
		c.Out.Write(x.done())
	default:
		fmt.Fprint(c.Out, text)
	}
	return 0
}

// ask puts a question. It returns whether to go on, and otherwise the exit code.
func (c *session) ask(ctx context.Context, question string) (yes bool, code int) {
	to := c.Out
	if c.opts.xml || c.opts.json {
		to = c.Err
	}
	fmt.Fprintf(to, "%s (y/n) ", question)
	answer, err := c.readLine(ctx)
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, 0
	case "n", "no":
		return false, 0
	}
	if err != nil && answer == "" {
		fmt.Fprintln(to)
	}
	fmt.Fprintln(to, "Invalid input, please enter y/n")
	return false, 1
}
