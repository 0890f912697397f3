package cluster

import (
	"encoding/binary"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A relay carries frames between two interfaces and holds each one back for a
// while: a long cable, which the kernel has only with netem and this one's may
// lack. Frames travel with the header (struct virtio_net_hdr) that says what
// the network card has still to do for them, checksum and segmentation.
type relay struct {
	wait  atomic.Int64 // a time.Duration
	ends  [2]*os.File
	tasks sync.WaitGroup
}

// frame is one that is under way, and when it arrives.
type frame struct {
	due  time.Time
	data []byte
}

// How many frames a relay holds, each way, before it drops some; and how large one may be.
const (
	relayFrames = 1 << 12
	relayFrame  = 1 << 17
)

// newRelay connects interfaces a and b of the namespace ns.
func newRelay(t testing.TB, ns *os.File, a, b string, wait time.Duration) *relay {
	t.Helper()
	r := &relay{}
	r.wait.Store(int64(wait))
	for i, name := range []string{a, b} {
		err := within(ns, func() (err error) {
			r.ends[i], err = packets(name)
			return err
		})
		if err != nil {
			t.Fatalf("relay at %s: %v", name, err)
		}
	}
	for i := range r.ends {
		queue := make(chan frame, relayFrames)
		r.tasks.Go(func() {
			defer close(queue)
			r.receive(r.ends[i], queue)
		})
		r.tasks.Go(func() { send(r.ends[1-i], queue) })
	}
	return r
}

// packets opens a socket for all frames that arrive at an interface.
func packets(name string) (*os.File, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // big-endian, as the kernel wants it
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	for _, option := range []int{unix.PACKET_VNET_HDR, unix.PACKET_IGNORE_OUTGOING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1); err != nil {
			f.Close()
			return nil, err
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// receive queues what arrives until the socket is closed.
func (r *relay) receive(from *os.File, queue chan<- frame) {
	buffer := make([]byte, relayFrame)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		select {
		case queue <- frame{time.Now().Add(time.Duration(r.wait.Load())), append([]byte(nil), buffer[:n]...)}:
		default: // as a full switch does
		}
	}
}

// send passes on what is queued, each when it is due, until the queue is closed.
func send(to *os.File, queue <-chan frame) {
	for f := range queue {
		time.Sleep(time.Until(f.due))
		to.Write(f.data) // one that can't be sent is lost, as on a cable
	}
}

// close ends the relay; what is under way is lost or delivered, at once or when it was due.
func (r *relay) close() {
	for _, e := range r.ends {
		e.Close()
	}
	r.tasks.Wait()
}
