package cli

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestManual: the manual page has every command and option of this version.
func TestManual(t *testing.T) {
	b, err := os.ReadFile("../../docs/man/mortar.8")
	if err != nil {
		t.Fatal(err)
	}
	page := regexp.MustCompile(`\\f[A-Z]|"`).ReplaceAllString(string(b), "")
	page = strings.ReplaceAll(page, `\-`, "-")
	for _, cmd := range commands() {
		if cmd.run != nil && cmd.path != "brick" && !strings.Contains(page, cmd.path) {
			t.Errorf("mortar.8 lacks the command %s", cmd.path)
		}
	}
	for _, name := range strings.Fields("mode yes xml json socket glusterd-sock remote-host timeout log-file log-level wignore wignore-partition version help " +
		"print-logdir print-statedumpdir nolog inet6 secure-mgmt") {
		if !strings.Contains(page, "--"+name) {
			t.Errorf("mortar.8 lacks the option --%s", name)
		}
		c := &session{Streams: Streams{Out: &strings.Builder{}, Err: &strings.Builder{}}}
		value := map[string]string{"mode": "script", "log-level": "INFO", "timeout": "1"}[name]
		if code := c.option(name, value, takesValue(name)); code == 255 {
			t.Errorf("--%s is not known", name)
		}
	}
}

// TestOperations: the blocks of docs/operations.md that are to be typed name a
// machine on each line, and their mortar commands are understood. That they do
// what the page says is test/cluster's to show.
func TestOperations(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	typed, checked := false, 0
	for i, line := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(line, "```") {
			typed = line == "```sh"
			continue
		}
		if !typed {
			continue
		}
		at := "operations.md:" + strconv.Itoa(i+1)
		host, command, ok := strings.Cut(line, "# ")
		if !ok || !regexp.MustCompile(`^(server[123]|client)$`).MatchString(host) {
			t.Errorf("%s: no machine before the command: %s", at, line)
			continue
		}
		for _, part := range regexp.MustCompile(`[|;]|&&|until `).Split(command, -1) {
			part = strings.ReplaceAll(strings.TrimSpace(part), "/root/", t.TempDir()+"/")
			if !strings.HasPrefix(part, "mortar ") {
				continue
			}
			f := pooled()
			f.pool.backup, f.pool.peers[1].Host = "a backup", "server3"
			if strings.Contains(part, " restore ") {
				if err := os.WriteFile(strings.Fields(part)[3], []byte("a backup"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			checked++
			r := run(f, part)
			if strings.Contains(r.out+r.err, "Usage:") || strings.Contains(r.out+r.err, "unrecognized") || strings.Contains(r.out+r.err, "(y/n)") || r.code == 1 && !strings.Contains(r.err, "does not exist") {
				t.Errorf("%s: %s: exit %d\n%s%s", at, part, r.code, r.out, r.err)
			}
		}
	}
	if checked < 30 {
		t.Errorf("only %d commands found", checked)
	}
}
