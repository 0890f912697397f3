package layering

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pkg is what `go list -json` tells of a package, as far as it is needed.
type pkg struct {
	ImportPath string
	Name       string
	Dir        string
	Standard   bool
	Imports    []string // of its files other than tests
	GoFiles    []string
}

// root is the module's directory, seen from this one.
const root = "../.."

// TestImports looks at what ships. Tests may import more: a layer's tests run
// the conformance suites below test over it, and give it other layers.
func TestImports(t *testing.T) {
	pkgs := list(t)
	std := map[string]bool{}
	for _, p := range pkgs {
		std[p.ImportPath] = p.Standard
	}
	for _, p := range pkgs {
		dir, ours := strings.CutPrefix(p.ImportPath, module+"/")
		if !ours {
			continue
		}
		for _, complaint := range judge(dir, p.Imports, func(i string) bool { return std[i] }) {
			t.Error(complaint)
		}
	}
}

// TestJudge shows that the judge catches what it is there to catch.
func TestJudge(t *testing.T) {
	const grpc = "google.golang.org/grpc"
	standard := func(i string) bool { return !strings.Contains(i, ".") }
	for _, c := range []struct {
		dir, imported string
		right         bool
	}{
		{"volume", "syscall", true},
		{"volume", "golang.org/x/sys/unix", false},
		{"volume", module + "/volume/spec", false},
		{"volume/spec", module + "/volume", true},
		{"volume/spec", "os", false},
		{"brick", module + "/volume", true},
		{"brick", module + "/dht", false},
		{"brick", module + "/brick/wire", false},
		{"brick", grpc, false},
		{"brick/index", module + "/brick", true},
		{"brick/server", grpc, true},
		{"dht", module + "/client/remote", false},
		{"dht", module + "/volume/spec", true},
		{"dht", module + "/test/model", false},
		{"client/remote", module + "/brick/wire", true},
		{"client/remote", module + "/dht", false},
		{"client", module + "/dht", true},
		{"client", grpc, false},
		{"fuse", module + "/client", false},
		{"fuse", "C", false},
		{"cmd/mortar", module + "/volume/manage", true},
		{"cmd/mortar", grpc, false},
		{"shed", "fmt", false},
	} {
		if got := judge(c.dir, []string{c.imported}, standard); (len(got) == 0) != c.right {
			t.Errorf("%s importing %s: want right %t, got %q", c.dir, c.imported, c.right, got)
		}
	}
}

func TestNames(t *testing.T) {
	for _, p := range own(t) {
		if slices.Contains([]string{"util", "utils", "common", "pkg", "misc", "helpers", "base"}, path.Base(p.ImportPath)) {
			t.Errorf("%s: a room is named after what it is for, not %q", p.ImportPath, path.Base(p.ImportPath))
		}
	}
}

func TestPackageComments(t *testing.T) {
	for _, p := range own(t) {
		if len(p.GoFiles) == 0 {
			continue // tests only
		}
		const least = 80 // characters: a sentence that says something
		if got := packageComment(t, p); len(got) < least {
			t.Errorf("%s: its package comment tells a newcomer too little (%d characters of at least %d): what room is this, what may be touched?", p.ImportPath, len(got), least)
		}
	}
}

func TestFileLengths(t *testing.T) {
	const most, warn = 450, 400 // lines
	for _, p := range own(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if generated.Match(b) {
				continue
			}
			switch n := bytes.Count(b, []byte("\n")); {
			case n > most:
				t.Errorf("%s has %d lines, more than %d: split it by operation", short(f), n, most)
			case n > warn:
				t.Logf("%s has %d lines; over %d it fails", short(f), n, most)
			}
		}
	}
}

// TestHabits finds what is left for later, tests that don't run and tests that
// wait for a fixed time instead of for what they expect.
func TestHabits(t *testing.T) {
	everywhere := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)
	inTests := regexp.MustCompile(`\b(t\.Sk` + `ip\(|time\.Sle` + `ep\()`)
	for _, p := range own(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for n, line := range strings.Split(string(b), "\n") {
				left := everywhere.FindString(line)
				if left == "" && strings.HasSuffix(f, "_test.go") {
					left = inTests.FindString(line)
				}
				if left != "" && !generated.Match(b) {
					t.Errorf("%s:%d: %s", short(f), n+1, left)
				}
			}
		}
	}
}

// TestTopLevel keeps the repository's first page short.
func TestTopLevel(t *testing.T) {
	git := exec.Command("git", "ls-tree", "--name-only", "HEAD")
	git.Dir = root
	out, err := git.Output()
	if err != nil {
		t.Logf("not a git clone, nothing to look at: %v", err)
		return
	}
	allowed := strings.Fields("cmd brick client dht volume fuse gateway test docs go.mod go.sum Makefile README.md LICENSE .ci .gitignore")
	for _, name := range strings.Fields(string(out)) {
		if !slices.Contains(allowed, name) {
			t.Errorf("%s does not belong to the top level, which is: %s", name, strings.Join(allowed, " "))
		}
	}
}

// generated is how go itself recognises a generated file (go help generate).
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func packageComment(t *testing.T, p pkg) string {
	t.Helper()
	var longest string
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if s := comment(f); len(s) > len(longest) {
			longest = s
		}
	}
	return longest
}

func comment(f *ast.File) string {
	if f.Doc == nil {
		return ""
	}
	return strings.TrimSpace(f.Doc.Text())
}

// list returns every package of the module and all that they import.
func list(t *testing.T) []pkg {
	t.Helper()
	rooms := []string{"list", "-deps", "-e", "-json=ImportPath,Name,Dir,Standard,Imports,GoFiles"}
	for _, room := range strings.Fields("brick client cmd dht fuse gateway test volume") {
		if _, err := os.Stat(filepath.Join(root, room)); err == nil {
			rooms = append(rooms, "./"+room+"/...") // never ./mnt or ./var
		}
	}
	cmd := exec.Command("go", rooms...)
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		switch err := d.Decode(&p); err {
		case nil:
			pkgs = append(pkgs, p)
		case io.EOF:
			return pkgs
		default:
			t.Fatal(err)
		}
	}
}

// own returns the module's own packages.
func own(t *testing.T) []pkg {
	t.Helper()
	return slices.DeleteFunc(list(t), func(p pkg) bool { return !strings.HasPrefix(p.ImportPath, module+"/") })
}

func short(file string) string {
	abs, err := filepath.Abs(root)
	if err != nil {
		return file
	}
	rel, err := filepath.Rel(abs, file)
	if err != nil {
		return file
	}
	return rel
}
