package quorum

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// etcdLogger passes what etcd has to say from warnings up to log. What it means
// to be the process's last words goes through trap.
func etcdLogger(log *slog.Logger, trap *fatalTrap) *zap.Logger {
	return zap.New(&slogCore{log: log.With("from", "etcd"), said: &said{}}, zap.WithFatalHook(trap), zap.WithPanicHook(trap))
}

// slogCore is a zapcore.Core that writes to a slog.Logger.
type slogCore struct {
	log  *slog.Logger
	said *said
}

// saidPause is how long a warning is not repeated: of a voter that is gone etcd
// says the same several times a second.
const saidPause = 30 * time.Second

// said remembers when warnings were written.
type said struct {
	mu struct {
		sync.Mutex
		at map[string]time.Time // by message, of which etcd has some hundreds
	}
}

// again reports whether message was written less than saidPause ago.
func (s *said) again(message string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.mu.at[message]; ok && now.Sub(at) < saidPause {
		return true
	}
	if s.mu.at == nil {
		s.mu.at = map[string]time.Time{}
	}
	s.mu.at[message] = now
	return false
}

func (c *slogCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{log: slog.New(c.log.Handler().WithAttrs(attrs(fields))), said: c.said}
}

func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) || expected(e.Message) || e.Level == zapcore.WarnLevel && c.said.again(e.Message, e.Time) {
		return ce
	}
	return ce.AddCore(e, c)
}

func (c *slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	if e.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	c.log.LogAttrs(context.Background(), level, e.Message, attrs(fields)...)
	return nil
}

func (c *slogCore) Sync() error { return nil }

// expected are warnings about what is meant to be so.
func expected(message string) bool {
	return strings.HasPrefix(message, "Running http and grpc server on single port") ||
		strings.HasPrefix(message, "simple token is not cryptographically signed")
}

func attrs(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	out := make([]slog.Attr, 0, len(enc.Fields))
	for k, v := range enc.Fields {
		out = append(out, slog.Any(k, v))
	}
	return out
}

// unknownSelf is what etcd panics with, in the goroutine of a client's request,
// between the member's removal and its end. Nothing is broken by that.
const unknownSelf = "failed to find local ID in cluster members"

// fatalTrap stands where zap would end the process: it notes why and ends the
// goroutine, so that the daemon can say what is the matter and end by itself.
type fatalTrap struct {
	failed chan struct{}
	mu     struct {
		sync.Mutex
		err error
	}
}

// OnWrite implements zapcore.CheckWriteHook.
func (t *fatalTrap) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	if e.Message == unknownSelf {
		runtime.Goexit()
	}
	text := e.Message
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok {
			text += ": " + err.Error()
		}
	}
	t.mu.Lock()
	if t.mu.err == nil {
		t.mu.err = errors.New(text)
		close(t.failed)
	}
	t.mu.Unlock()
	runtime.Goexit()
}

// err is why etcd gave up, nil while it has not.
func (t *fatalTrap) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.err
}
