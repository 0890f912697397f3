package cli

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// command finds the command that words name, and runs it.
func (c *session) command(ctx context.Context, words []string) int {
	cmd, bad := find(commands(), words)
	if cmd == nil {
		if bad < len(words) {
			fmt.Fprintf(c.Out, "unrecognized word: %s (position %d)\n", words[bad], bad)
		} else {
			fmt.Fprintln(c.Out, "unrecognized command")
		}
		c.usage()
		return 1
	}
	if cmd.question != nil && !c.opts.script {
		text, code := cmd.question(c, ctx, words)
		if code >= 0 {
			return code
		}
		if text != "" {
			if yes, code := c.ask(ctx, text); !yes {
				return code
			}
		}
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.opts.timeout)
	defer cancel()
	code := 0
	switch {
	case len(words) > 2 && words[2] == "help" && (cmd.path == "volume bitrot" || cmd.path == "volume quota"):
		c.helpGroup(strings.TrimPrefix(cmd.path, "volume "))
	case cmd.run == nil:
		code = c.notYet(cmd)
	default:
		code = cmd.run(c, ctx, cmd, words)
	}
	c.log.Info("command", "words", strings.Join(words, " "), "code", code, "took", time.Since(begin))
	return code
}

// find returns the command that words begin with: each word may be shortened
// to what only one word at its place begins with. It returns nil and the
// position of the word that fits none or several, or len(words) if words end
// before a command is complete.
func find(table []command, words []string) (*command, int) {
	path := ""
	for i, word := range words {
		next := choose(table, path, word)
		if next == "" {
			return nil, i
		}
		path = strings.TrimPrefix(path+" "+next, " ")
		for j := range table {
			if table[j].path == path {
				return &table[j], i
			}
		}
	}
	return nil, len(words)
}

// choose returns the one word that may follow path and begins with word, or is it.
func choose(table []command, path, word string) string {
	if word == "" {
		return ""
	}
	found, several := "", false
	for i := range table {
		rest := table[i].path
		if path != "" {
			var ok bool
			if rest, ok = strings.CutPrefix(rest, path+" "); !ok {
				continue
			}
		}
		next, _, _ := strings.Cut(rest, " ")
		if next == word {
			return next
		}
		if !table[i].exact && strings.HasPrefix(next, word) && next != found {
			several = several || found != ""
			found = next
		}
	}
	if several {
		return ""
	}
	return found
}

// unambiguous returns the choice that word is, or is the beginning of, "" if it
// is none's or several's.
func unambiguous(word string, choices ...string) string {
	found := ""
	for _, ch := range choices {
		switch {
		case ch == word:
			return ch
		case word != "" && strings.HasPrefix(ch, word):
			if found != "" {
				return ""
			}
			found = ch
		}
	}
	return found
}
