package cli

import (
	"os"
	"regexp"
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
