package spec

import (
	"math"
	"strings"
)

// Kind is the form of an option's value.
type Kind uint8

// The kinds. Names, for people, are those of kindNames.
const (
	Any           Kind = iota // any text
	Bool                      // on, off, yes, no, true, false, enable, disable, 1, 0
	Int                       // a whole number, decimal, 0x… or 0…
	Size                      // bytes: 4096, 64KB, 1.5MB, up to PB; powers of 1024
	Percent                   // 10 or 10%
	PercentOrSize             // 10%, or a Size
	Duration                  // seconds: 10, 10s, 5min, 1hr, 2days, 1wk
	Text                      // one of Values, or any text where there are none
	Mode                      // permission bits, octal
	Path                      // an absolute path
	Addresses                 // addresses, host names, networks and patterns with *, separated by commas
)

var kindNames = [...]string{"text", "boolean", "number", "size", "percent", "percent or size",
	"seconds", "text", "octal mode", "absolute path", "list of addresses"}

func (k Kind) String() string { return kindNames[k] }

// Unlimited is the Max of an option that has none.
const Unlimited = math.MaxInt64

// Option is an option of a volume, or of the cluster (Global).
type Option struct {
	Name    string // domain.name, as in "network.timeout"
	Key     string // what GlusterFS calls it in the messages about its values
	Kind    Kind
	Limited bool  // Min … Max apply (whole numbers, bytes, seconds)
	Min     int64 //
	Max     int64 // Unlimited: no upper bound
	Values  []string
	Default string // "(null)" is GlusterFS's "not set"
	Help    string // one or two sentences
	Effect  bool   // Mortar acts by it; otherwise it is stored and shown, no more
	Global  bool   // of the cluster: `volume set all …`
	Sticky  bool   // survives a plain `volume reset`

	listed bool // in `volume get VOL all` of a fresh volume
	marked bool // shown there with "(DEFAULT)"
	helped bool // in `volume set help`
}

// Fresh are the options that are set on a new volume, in the order in which
// `volume info` shows them.
func Fresh(replicated bool) []Setting {
	all := []Setting{
		{"storage.fips-mode-rchecksum", "on"},
		{"transport.address-family", "inet"},
		{"nfs.disable", "on"},
	}
	if replicated {
		all = append([]Setting{{"cluster.granular-entry-heal", "on"}}, all...)
		all = append(all, Setting{"performance.client-io-threads", "off"})
	}
	return all
}

// Setting is an option and the value it was given.
type Setting struct{ Name, Value string }

// Options returns the table of all options: GlusterFS's in its order, then those
// that only Mortar has. It is shared and must not be changed. A few of
// GlusterFS's names stand in it twice, as in `volume get VOL all`.
func Options() []Option { return table().all }

// Lookup finds an option by its name, or by what follows the name's dot, as
// GlusterFS allows ("cache-size" for "performance.cache-size"; of several the one
// that has an effect, then the first). Otherwise the error is an Invalid that
// names the nearest ones.
func Lookup(name string) (Option, error) {
	t := table()
	if i, ok := t.byName[name]; ok {
		return t.all[i], nil
	}
	if i, ok := t.byShort[name]; ok {
		return t.all[i], nil
	}
	if key, ok := strings.CutPrefix(name, "user."); ok && key != "" && len(name) <= 255 &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return Option{Name: name, Key: key, Help: userHelp}, nil
	}
	return Option{}, unknown(name)
}

// unknown is the error about an option that does not exist.
func unknown(name string) error {
	text := "option : " + printable(name) + " does not exist"
	near := Nearest(name)
	switch {
	case len(near) == 1:
		text += "\nDid you mean " + near[0] + "?"
	case len(near) > 1:
		second := near[1]
		domain, short, _ := strings.Cut(second, ".")
		if strings.HasPrefix(near[0], domain+".") {
			second = "..." + short
		}
		text += "\nDid you mean " + near[0] + " or " + second + "?"
	}
	return Invalid(text)
}

// Nearest returns the one or two options whose names are most like name, the
// nearest first, none if nothing is like it.
func Nearest(name string) []string {
	const atMost = 2
	type candidate struct {
		name     string
		distance int
	}
	var best []candidate
	name = strings.ToLower(name)
	if name == "" || len(name) > 64 {
		return nil
	}
	_, short, dotted := strings.Cut(name, ".")
	for _, o := range table().all {
		_, s, _ := strings.Cut(o.Name, ".")
		d := distance(name, o.Name)
		switch {
		case dotted && short == s: // right name, wrong domain
			d = min(d, 1)
		case !dotted:
			d = min(d, distance(name, s))
		}
		if d > max(3, len(name)/3) {
			continue
		}
		i := len(best)
		for i > 0 && best[i-1].distance > d {
			i--
		}
		if i > 0 && best[i-1].name == o.Name {
			continue
		}
		best = append(best[:i], append([]candidate{{o.Name, d}}, best[i:]...)...)
		best = best[:min(len(best), atMost)]
		if len(best) == 2 && best[1].distance > best[0].distance+1 {
			best = best[:1] // a far second only confuses
		}
	}
	names := make([]string, 0, len(best))
	for _, c := range best {
		names = append(names, c.name)
	}
	return names
}

// distance is the number of characters to insert, remove, replace or swap with
// the next to turn a into b (Damerau's, restricted).
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		row, above, second := rows[i%3], rows[(i+2)%3], rows[(i+1)%3]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(row[j-1]+1, above[j]+1, above[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], second[j-2]+1)
			}
		}
	}
	return rows[len(a)%3][len(b)]
}

// Default returns the value that an option has where it was not set, "" for an
// option that has none or does not exist.
func Default(name string) string {
	o, err := Lookup(name)
	if err != nil || o.Default == notSet {
		return ""
	}
	return o.Default
}

const userHelp = "A note of the administrator's own; Mortar keeps it and does not look at it."

const notSet = "(null)"

// Validate says what is wrong with setting the named option to value: nil, or
// an Invalid in GlusterFS's words.
func Validate(name, value string) error {
	o, err := Lookup(name)
	if err != nil {
		return err
	}
	return o.Check(value)
}
