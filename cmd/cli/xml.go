package cli

import (
	"fmt"
	"strconv"
	"strings"
)

// xml writes gluster's layout: two spaces an indent, an element a line, an
// element without content as <name/>.
type xml struct {
	b    strings.Builder
	open []string
}

const xmlHead = `<?xml version="1.0" encoding="UTF-8" standalone="yes"?>` + "\n"

// newXML begins a document.
func newXML() *xml {
	x := &xml{}
	x.b.WriteString(xmlHead)
	return x
}

// envelope begins the answer to a command. errno is 0 where all is well.
func (x *xml) envelope(ret, errno int, message string) {
	x.begin("cliOutput")
	x.number("opRet", ret)
	x.number("opErrno", errno)
	x.leaf("opErrstr", message)
}

// done ends the document.
func (x *xml) done() []byte {
	for len(x.open) > 0 {
		x.end()
	}
	return []byte(x.b.String())
}

func (x *xml) indent() {
	for range x.open {
		x.b.WriteString("  ")
	}
}

// begin opens an element that has others in it.
func (x *xml) begin(name string) {
	x.indent()
	x.b.WriteString("<" + name + ">\n")
	x.open = append(x.open, name)
}

// beginWith is begin with an attribute.
func (x *xml) beginWith(name, attribute, value string) {
	x.rawf(`<%s %s="%s">`, name, attribute, strings.ReplaceAll(escape(value), `"`, "&quot;"))
	x.open = append(x.open, name)
}

func (x *xml) end() {
	name := x.open[len(x.open)-1]
	x.open = x.open[:len(x.open)-1]
	x.indent()
	x.b.WriteString("</" + name + ">\n")
}

// leaf writes an element with text.
func (x *xml) leaf(name, text string) {
	x.indent()
	if text == "" {
		x.b.WriteString("<" + name + "/>\n")
		return
	}
	x.b.WriteString("<" + name + ">" + escape(text) + "</" + name + ">\n")
}

func (x *xml) number(name string, n int) { x.leaf(name, strconv.Itoa(n)) }

// flag writes 1 or 0.
func (x *xml) flag(name string, b bool) {
	n := 0
	if b {
		n = 1
	}
	x.number(name, n)
}

// rawf writes a line of markup; what is formatted must be escaped.
func (x *xml) rawf(format string, a ...any) {
	x.indent()
	fmt.Fprintf(&x.b, format+"\n", a...)
}

// escape makes text fit for an element, quotes left alone as gluster has it; what
// XML can't hold at all becomes "?".
func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '&':
			b.WriteString("&amp;")
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '\r':
			b.WriteString("&#13;")
		case r < ' ' && r != '\n' && r != '\t', r == 0xfffe, r == 0xffff:
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
