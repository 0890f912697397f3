package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// helpGroups are what help lists, in gluster's order.
var helpGroups = [...][2]string{
	{"peer help", "display help for peer commands"},
	{"volume help", "display help for volume commands"},
	{"volume bitrot help", "display help for volume bitrot commands"},
	{"volume quota help", "display help for volume quota commands"},
	{"snapshot help", "display help for snapshot commands"},
	{"global help", "list global commands"},
}

func (c *session) helpList() {
	for _, g := range helpGroups {
		fmt.Fprintf(c.Out, " %-25s- %s\n", g[0], g[1])
	}
	if c.prog == "mortar" {
		for _, cmd := range append(clusterCommands(), ownCommands()...) {
			fmt.Fprintf(c.Out, " %-25s- %s\n", cmd.path, cmd.about)
		}
	}
}

// help is `help`, and `help all` with every group.
func help(c *session, _ context.Context, _ *command, words []string) int {
	if len(words) == 1 {
		c.helpList()
		fmt.Fprint(c.Out, "\n\n")
		return 0
	}
	groups := []string{"peer", "volume", "bitrot", "quota", "snapshot", "global"}
	if c.prog == "mortar" {
		groups = append(groups, "cluster", "mortar")
	}
	for _, g := range groups {
		c.helpGroup(g)
	}
	return 0
}

func groupHelp(group string) func(*session, context.Context, *command, []string) int {
	return func(c *session, _ context.Context, _ *command, _ []string) int {
		c.helpGroup(group)
		return 0
	}
}

// helpGroup explains the commands of a group, in order of their patterns.
func (c *session) helpGroup(group string) {
	title := "gluster " + group + " commands"
	switch group {
	case "cluster":
		title = "mortar cluster commands"
	case "mortar":
		title = "mortar's own commands"
	}
	fmt.Fprintf(c.Out, "\n%s\n%s\n\n", title, strings.Repeat("=", len(title)+1))
	var lines []string
	for _, cmd := range commands() {
		if cmd.group != group {
			continue
		}
		about := cmd.about
		if cmd.run == nil {
			about += " (not in this version)"
		}
		lines = append(lines, cmd.usage+" - "+about)
	}
	if group == "bitrot" || group == "quota" {
		lines = append(lines, "volume "+group+" help - this list")
	}
	slices.Sort(lines)
	for _, l := range lines {
		fmt.Fprintln(c.Out, l)
	}
	fmt.Fprint(c.Out, "\n\n")
}

func showVersion(c *session, _ context.Context, cmd *command, words []string) int {
	if len(words) > 1 {
		return c.misused(cmd, "")
	}
	if c.opts.json {
		c.writeJSON(jsonVersion{c.env.Version, compatible})
		return 0
	}
	c.version()
	return 0
}

// quit outside the prompt has nothing to leave.
func quit(*session, context.Context, *command, []string) int { return 0 }

// absent answers for daemon, brick and mount where Run could not pass them on:
// options stand before the word, or the prompt is where they were typed.
func absent(c *session, _ context.Context, cmd *command, _ []string) int {
	return c.misused(cmd, fmt.Sprintf("%s must be the first word of the command line, its options after it.", cmd.path))
}
