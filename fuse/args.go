package fuse

import (
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"
)

// A Host is a daemon to ask: a name or address and a port, 0 for the default.
type Host struct {
	Name string // without brackets
	Port int
}

// String is the host as a person writes it.
func (h Host) String() string {
	name := h.Name
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	if h.Port == 0 {
		return name
	}
	return name + ":" + strconv.Itoa(h.Port)
}

// MountArgs is a mount command's line, read.
type MountArgs struct {
	Source string // as it was given; the kernel shows it
	Host   Host   // the first daemon to ask; Options.Backups has the others
	Volume string
	Subdir string // the directory of the volume to mount: "" for the root, else slash-separated names
	Dir    string // where to; as given
	Options

	Foreground bool // serve in this process, log to standard error
	Fake       bool // -f: all but the mount itself
	Verbose    bool // -v
	Help       bool // -h: print Usage
	Version    bool // -V: print the version
}

// Usage is the help of a mount command.
const Usage = `usage: mount.mortar HOST[:PORT]:/VOLUME[/DIRECTORY] MOUNTPOINT [-fnsv] [-o OPTION[,OPTION...]]
       mortar mount HOST[:PORT]:/VOLUME[/DIRECTORY] MOUNTPOINT [--foreground] [-o OPTION[,OPTION...]]

  -o ro, acl, nodev, nosuid, noexec, noatime, sync     as with other file systems
  -o log-level=LEVEL            TRACE (each request), DEBUG, INFO (default), WARNING, ERROR, NONE
  -o log-file=FILE              default /var/log/mortar/<mount point, with dashes>.log
  -o attribute-timeout=SECONDS  how long the kernel believes attributes (default 1)
  -o entry-timeout=SECONDS      ... and names (default 1)
  -o negative-timeout=SECONDS   ... and that a name is missing (default 0)
  -o direct-io-mode=enable      no page cache: every read and write goes to the volume
  -o backup-volfile-servers=HOST[:PORT][:HOST...]   daemons to ask if the first does not answer
  -o read-ahead=KIB             what the kernel reads ahead (default 4096)
  -o use-readdirp=no            do not fetch attributes with names
  -f  check everything, mount nothing      -s  ignore unknown options
  -n  accepted (there is no mtab)          -v  say what is done
`

// UsageError is what is wrong with a command's line; its exit code is 1.
type UsageError struct{ Sentence string }

func (e *UsageError) Error() string { return e.Sentence }

func usagef(format string, a ...any) error { return &UsageError{fmt.Sprintf(format, a...)} }

// ParseMountArgs reads the line of mount.mortar, as mount(8) calls it, or of
// "mortar mount", without the command's name. Options may stand anywhere. An
// error is a *UsageError.
func ParseMountArgs(args []string) (MountArgs, error) {
	var a MountArgs
	var lists, words []string
	sloppy := false
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			words = append(words, args[i+1:]...)
			break
		}
		if strings.HasPrefix(arg, "--") {
			name, value, has := strings.Cut(arg[2:], "=")
			switch name {
			case "foreground", "no-daemon":
				a.Foreground = true
			case "help":
				a.Help = true
			case "version":
				a.Version = true
			case "fake":
				a.Fake = true
			case "verbose":
				a.Verbose = true
			case "options":
				if !has {
					i++
					if i == len(args) {
						return a, usagef("--options needs a list of options after it")
					}
					value = args[i]
				}
				lists = append(lists, value)
			default:
				return a, usagef("unknown option %s; mount options go after -o", arg)
			}
			continue
		}
		if len(arg) < 2 || arg[0] != '-' {
			words = append(words, arg)
			continue
		}
		for letters := arg[1:]; letters != ""; {
			letter := letters[0]
			letters = letters[1:]
			switch letter {
			case 'o', 't', 'N':
				value := letters
				letters = ""
				if value == "" {
					i++
					if i == len(args) {
						return a, usagef("-%c needs a value after it", letter)
					}
					value = args[i]
				}
				if letter == 'o' {
					lists = append(lists, value)
				}
			case 'f':
				a.Fake = true
			case 's':
				sloppy = true
			case 'v':
				a.Verbose = true
			case 'h':
				a.Help = true
			case 'V':
				a.Version = true
			case 'r':
				lists = append(lists, "ro")
			case 'w':
				lists = append(lists, "rw")
			case 'n', 'i':
			default:
				return a, usagef("unknown option -%c; mount options go after -o", letter)
			}
		}
	}
	if a.Help || a.Version {
		return a, nil
	}
	if len(words) != 2 {
		return a, usagef("two arguments are needed, HOST:/VOLUME and the mount point, not %d", len(words))
	}
	var err error
	if a.Options, err = ParseOptions(strings.Join(lists, ","), sloppy); err != nil {
		return a, &UsageError{err.Error()}
	}
	a.Source, a.Dir = words[0], words[1]
	if err := parseSource(&a); err != nil {
		return a, &UsageError{err.Error()}
	}
	if a.Host.Port == 0 {
		a.Host.Port = a.Port
	}
	return a, nil
}

// parseSource takes HOST[:PORT]:/VOLUME[/DIRECTORY] apart; as with GlusterFS the
// slash before the volume may be missing.
func parseSource(a *MountArgs) error {
	host, volume, err := splitSource(a.Source)
	if err != nil {
		return err
	}
	if a.Host, err = parseHost(host); err != nil {
		return err
	}
	volume = strings.TrimPrefix(volume, "/")
	a.Volume, a.Subdir, _ = strings.Cut(strings.TrimRight(volume, "/"), "/")
	if a.Volume == "" {
		return fmt.Errorf("%q names no volume; it must be HOST:/VOLUME", a.Source)
	}
	if a.Subdir != "" {
		if a.Subdir = path.Clean(a.Subdir); a.Subdir == ".." || strings.HasPrefix(a.Subdir, "../") {
			return fmt.Errorf("%q leads out of the volume", a.Source)
		}
		if a.Subdir == "." {
			a.Subdir = ""
		}
	}
	return nil
}

// splitSource cuts a source at the colon before the volume.
func splitSource(source string) (host, volume string, err error) {
	if i := strings.Index(source, ":/"); i >= 0 {
		return source[:i], source[i+1:], nil
	}
	i := strings.LastIndexByte(source, ':')
	if i < 0 || strings.Contains(source, "/") || strings.HasSuffix(source, "]") {
		return "", "", fmt.Errorf("%q is no source; it must be HOST:/VOLUME", source)
	}
	return source[:i], source[i+1:], nil
}

// parseHost reads HOST, HOST:PORT, [ADDRESS] or [ADDRESS]:PORT.
func parseHost(s string) (Host, error) {
	if s == "" {
		return Host{}, errors.New("the source names no host; it must be HOST:/VOLUME")
	}
	h := Host{Name: s}
	port := ""
	switch rest, bracket := strings.CutPrefix(s, "["); {
	case bracket:
		name, after, ok := strings.Cut(rest, "]")
		if !ok || after != "" && !strings.HasPrefix(after, ":") || net.ParseIP(strings.Split(name, "%")[0]) == nil {
			return h, fmt.Errorf("%q is not an address in brackets", s)
		}
		h.Name, port = name, strings.TrimPrefix(after, ":")
		if after == "" {
			return h, nil
		}
	case strings.Count(s, ":") > 1:
		return h, fmt.Errorf("an IPv6 address goes into brackets: [%s]", s)
	default:
		var has bool
		if h.Name, port, has = strings.Cut(s, ":"); !has {
			return h, nil
		}
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return h, fmt.Errorf("%q is not a port", port)
	}
	h.Port = n
	if h.Name == "" {
		return h, errors.New("the source names no host; it must be HOST:/VOLUME")
	}
	return h, nil
}
