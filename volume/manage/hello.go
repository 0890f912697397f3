package manage

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// hello is a brick process that registers; answer gets nil, or why it is refused.
type hello struct {
	pid, port int
	life      string
	answer    chan error
}

// takeHello looks at a registration.
func (k *keeper) takeHello(o order) {
	k.mu.Lock()
	h := k.mu.hello
	k.mu.hello = nil
	k.mu.Unlock()
	if h == nil {
		return
	}
	if k.proc == nil || !k.proc.alive() {
		k.adopt(h.pid)
	}
	if k.proc == nil || k.proc.pid != h.pid {
		h.answer <- notWanted("Another process runs for this brick.")
		return
	}
	if k.have.PID != h.pid || k.have.Port != h.port {
		k.log.Info("brick is up", "pid", h.pid, "port", h.port)
	}
	inc := k.have.Incarnation
	if k.have.Life != h.life {
		k.have.end()
	}
	k.have = haveRecord{
		V: recordVersion, Generation: o.volume.Generation, Is: running, PID: h.pid, Port: h.port,
		Addr: net.JoinHostPort(k.d.clientHost(o.brick), strconv.Itoa(h.port)),
		Life: h.life, Ended: k.have.Ended, Incarnation: max(inc, 1),
	}
	k.port = h.port
	k.publish(h.pid, h.port, true)
	h.answer <- nil
}

func (k *keeper) refuseHello(why string) {
	k.mu.Lock()
	h := k.mu.hello
	k.mu.hello = nil
	k.mu.Unlock()
	if h != nil {
		h.answer <- notWanted("%s", why)
	}
}

// register hands a registration to the keeper and waits for its answer.
func (k *keeper) register(ctx context.Context, b api.BrickHello) error {
	h := &hello{pid: b.PID, port: b.Port, life: b.Life, answer: make(chan error, 1)}
	if h.life == "" { // an earlier release's: its number and start are unique while the machine is up
		h.life = fmt.Sprintf("%d-%s", b.PID, startOf(b.PID))
	}
	k.mu.Lock()
	if old := k.mu.hello; old != nil {
		old.answer <- refuse("Another registration came after this one.")
	}
	k.mu.hello = h
	k.mu.Unlock()
	k.poke()
	select {
	case err := <-h.answer:
		return err
	case <-k.done:
		return notWanted("The volume is gone.")
	case <-ctx.Done():
		return ctx.Err()
	}
}
