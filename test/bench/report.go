package main

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A report is a finished run: what was measured, on what, and the figures.
type report struct {
	shape     string
	when      time.Time
	machine   string
	disk      string
	knobs     knobs
	rounds    int
	workloads []workload
	targets   []target // the first is what the others are compared with
	rates     rates
}

// median returns the middle of v, or the mean of the two in the middle; 0 of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// spread returns how far the rounds lie apart: (largest − smallest) ÷ median.
func spread(v []float64) float64 {
	if m := median(v); m > 0 {
		return (slices.Max(v) - slices.Min(v)) / m
	}
	return 0
}

// number writes a rate with three digits that count and thousands apart: 12,300.
func number(x float64) string {
	round, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 3, 64), 64)
	if err != nil {
		return "?"
	}
	s := strconv.FormatFloat(round, 'f', -1, 64)
	whole, fraction, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		return whole + "." + fraction
	}
	return whole
}

// markdown writes the report as a section of docs/benchmarks.md, padded so that
// it reads well as plain text too.
func (r report) markdown() string {
	rows := [][]string{{"workload", "unit"}}
	for _, t := range r.targets {
		rows[0] = append(rows[0], t.name)
	}
	first := r.targets[0]
	for _, t := range r.targets[1:] {
		rows[0] = append(rows[0], first.name+" ÷ "+t.name)
	}
	rows[0] = append(rows[0], first.name+"'s spread")
	for _, w := range r.workloads {
		row := []string{w.name, w.unit}
		of := r.rates[w.name]
		for _, t := range r.targets {
			row = append(row, number(median(of[t.name])))
		}
		for _, t := range r.targets[1:] {
			row = append(row, fmt.Sprintf("%.2f", median(of[first.name])/median(of[t.name])))
		}
		apart := "–"
		if r.rounds > 1 {
			apart = fmt.Sprintf("%.0f %%", 100*spread(of[first.name]))
		}
		rows = append(rows, append(row, apart))
	}

	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n", r.shape)
	fmt.Fprintf(&b, "Measured %s on %s; all on %s. Medians of %d interleaved rounds, units per second; %d small files, %d threads, a large file of %d MiB, %s of random blocks, the tree %s.\n\n",
		r.when.UTC().Format("2006-01-02 15:04 UTC"), r.machine, r.disk, r.rounds, r.knobs.files, r.knobs.threads, r.knobs.sizeMiB, r.knobs.randomFor, r.knobs.tree)
	for _, t := range r.targets {
		fmt.Fprintf(&b, "- %s: %s\n", t.name, t.about)
	}
	b.WriteString("\n" + table(rows))
	if slow := r.slower("glusterfs"); len(slow) > 0 {
		fmt.Fprintf(&b, "\nSlower than GlusterFS: %s.\n", strings.Join(slow, ", "))
	}
	return b.String()
}

// slower lists the workloads in which the first target is slower than another.
func (r report) slower(than string) []string {
	var s []string
	for _, w := range r.workloads {
		of := r.rates[w.name]
		if len(of[than]) > 0 && median(of[r.targets[0].name]) < median(of[than]) {
			s = append(s, w.name)
		}
	}
	return s
}

// table writes rows, the first of them headings, as a Markdown table; from the
// third column on to the right.
func table(rows [][]string) string {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)), 3)
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-len([]rune(cell)))
			if i < 2 {
				b.WriteString("| " + cell + pad + " ")
			} else {
				b.WriteString("| " + pad + cell + " ")
			}
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i := range row {
			if i < 2 {
				b.WriteString("|" + strings.Repeat("-", width[i]+2))
			} else {
				b.WriteString("|" + strings.Repeat("-", width[i]+1) + ":")
			}
		}
		b.WriteString("|\n")
	}
	return b.String()
}

// The marks around a shape's section in the document.
func begin(shape string) string { return "<!-- " + shape + ": written by make bench -->\n" }
func end(shape string) string   { return "<!-- end of " + shape + " -->\n" }

// place puts a shape's section into a document in the place of its predecessor,
// or at the end.
func place(document, shape, section string) string {
	section = begin(shape) + section + end(shape)
	old := regexp.MustCompile(`(?s)` + regexp.QuoteMeta(begin(shape)) + `.*?` + regexp.QuoteMeta(end(shape)))
	if at := old.FindStringIndex(document); at != nil {
		return document[:at[0]] + section + document[at[1]:]
	}
	return strings.TrimRight(document, "\n") + "\n\n" + section
}

// write puts the report into the document at path, which must exist.
func (r report) write(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(place(string(b), r.shape, r.markdown())), 0o644)
}

// machine describes this one: "2 CPUs (model), 23 GiB, Linux 6.1.0".
func machine() string {
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo") // what is not there is left out
	meminfo, _ := os.ReadFile("/proc/meminfo")
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return describe(runtime.NumCPU(), string(cpuinfo), string(meminfo), strings.TrimSpace(string(release)))
}

func describe(cpus int, cpuinfo, meminfo, release string) string {
	s := fmt.Sprintf("%d CPUs", cpus)
	if m := regexp.MustCompile(`(?m)^model name\s*:\s*(.+)$`).FindStringSubmatch(cpuinfo); m != nil {
		s += " (" + m[1] + ")"
	}
	if m := regexp.MustCompile(`(?m)^MemTotal:\s*(\d+) kB$`).FindStringSubmatch(meminfo); m != nil {
		if kib, err := strconv.ParseFloat(m[1], 64); err == nil {
			s += fmt.Sprintf(", %.0f GiB", kib/(1<<20))
		}
	}
	return s + ", Linux " + release
}
