package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// lineMax bounds a line of input, in bytes.
const lineMax = 1 << 20

// shell reads commands: at a terminal until quit, exit or the end of the input;
// otherwise, as gluster does, until one fails, whose exit code it returns.
func (c *session) shell(ctx context.Context) int {
	fmt.Fprintf(c.Out, "Welcome to %s prompt, type 'help' to see the available commands.\n", c.prog)
	for ctx.Err() == nil {
		if c.Terminal {
			fmt.Fprintf(c.Out, "%s> ", c.prog)
		}
		line, err := c.readLine(ctx)
		if words := strings.Fields(line); len(words) > 0 {
			if w := unambiguous(words[0], "quit", "exit"); w != "" && len(words) == 1 {
				return 0
			}
			if code := c.command(ctx, words); code != 0 && !c.Terminal {
				return code
			}
		}
		if err != nil {
			if c.Terminal {
				fmt.Fprintln(c.Out)
			}
			switch {
			case errors.Is(err, io.EOF):
				return 0
			case ctx.Err() == nil:
				fmt.Fprintln(c.Err, err)
			}
			return 1
		}
	}
	return 1
}

// readLine reads a line of In, without its end. At the end of the input it
// returns what is left, and io.EOF. When ctx ends it returns at once; the read
// under way can't be interrupted and is left to the end of the process, which
// is near: nothing reads after that.
func (c *session) readLine(ctx context.Context) (string, error) {
	type answer struct {
		line string
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		line, err := c.nextLine()
		read <- answer{line, err}
	}()
	select {
	case a := <-read:
		return a.line, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (c *session) nextLine() (string, error) {
	if c.in == nil {
		r := c.In
		if r == nil {
			r = strings.NewReader("")
		}
		c.in = bufio.NewReader(r)
	}
	var line []byte
	for {
		part, err := c.in.ReadSlice('\n')
		if len(line)+len(part) > lineMax {
			return "", fmt.Errorf("line of the input longer than %d bytes", lineMax)
		}
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return strings.TrimRight(string(line), "\r\n"), err
	}
}
