package remote_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy is a TCP proxy that tests can cut and stall.
type proxy struct {
	l       net.Listener
	target  atomic.Pointer[string]
	stallUp atomic.Bool // bytes to the server are kept back
	stallDn atomic.Bool // bytes to the client are kept back
	refuse  atomic.Bool // new connections are cut at once
	dialed  atomic.Int64
	wg      sync.WaitGroup
	mu      struct {
		sync.Mutex
		conns  map[net.Conn]bool
		closed bool
	}
	cond *sync.Cond
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l}
	p.cond = sync.NewCond(&p.mu)
	p.target.Store(&target)
	p.mu.conns = map[net.Conn]bool{}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.mu.closed = true
		p.mu.Unlock()
		p.stall(false, false)
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.dialed.Add(1)
		if p.refuse.Load() {
			_ = c.Close()
			continue
		}
		s, err := net.Dial("tcp", *p.target.Load())
		if err != nil {
			_ = c.Close()
			continue
		}
		p.mu.Lock()
		p.mu.conns[c], p.mu.conns[s] = true, true
		if p.mu.closed {
			_, _ = c.Close(), s.Close()
		}
		p.mu.Unlock()
		p.wg.Go(func() { p.copy(s, c, &p.stallUp) })
		p.wg.Go(func() { p.copy(c, s, &p.stallDn) })
	}
}

func (p *proxy) copy(dst, src net.Conn, stalled *atomic.Bool) {
	defer func() {
		_, _ = dst.Close(), src.Close()
		p.mu.Lock()
		delete(p.mu.conns, src)
		p.mu.Unlock()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		for stalled.Load() && p.mu.conns[src] {
			p.cond.Wait()
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}

// stall keeps bytes of either direction back, from now on.
func (p *proxy) stall(up, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stallUp.Store(up)
	p.stallDn.Store(down)
	p.cond.Broadcast()
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.mu.conns {
		_ = c.Close()
		delete(p.mu.conns, c)
	}
	p.cond.Broadcast()
}
