package traffic

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	chunk       = 32 << 10
	userTimeout = 10 * time.Minute // a stall is survived, not reported
	answerLen   = 8 + sha256.Size  // bytes received, their hash
)

// control sets what every socket of a transfer needs before it connects.
func control(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
	return errors.Join(err, failed)
}

// TCPServer receives streams; at the end of each it answers with the count and
// the SHA-256 of what it received.
type TCPServer struct {
	listener net.Listener
	received atomic.Uint64
	mu       sync.Mutex
	open     map[net.Conn]bool
	done     sync.WaitGroup
}

// StartTCPServer listens inside a namespace until Close.
func StartTCPServer(namespace string, listen netip.AddrPort) (*TCPServer, error) {
	s := &TCPServer{open: map[net.Conn]bool{}}
	err := In(namespace, func() (err error) {
		lc := net.ListenConfig{Control: control, KeepAlive: -1}
		s.listener, err = lc.Listen(context.Background(), "tcp", listen.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("transfer server: listen on %v: %w", listen, err)
	}
	s.done.Add(1)
	go s.accept()
	return s, nil
}

// Addr is the address that the server listens on.
func (s *TCPServer) Addr() netip.AddrPort { return s.listener.Addr().(*net.TCPAddr).AddrPort() }

// Received is how many bytes of all streams have arrived so far.
func (s *TCPServer) Received() uint64 { return s.received.Load() }

// Close ends the server and every stream, and waits for them.
func (s *TCPServer) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	for c := range s.open {
		c.Close()
	}
	s.open = nil
	s.mu.Unlock()
	s.done.Wait()
	return err
}

const maxTransfers = 64

// keep reports whether the connection may be served.
func (s *TCPServer) keep(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil || len(s.open) >= maxTransfers {
		return false
	}
	s.open[c] = true
	s.done.Add(1)
	return true
}

func (s *TCPServer) accept() {
	defer s.done.Done()
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		if !s.keep(c) {
			c.Close()
			continue
		}
		go s.serve(c)
	}
}

func (s *TCPServer) serve(c net.Conn) {
	defer s.done.Done()
	defer func() {
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
		c.Close()
	}()
	h, count := sha256.New(), uint64(0)
	buffer := make([]byte, chunk)
	for {
		n, err := c.Read(buffer)
		h.Write(buffer[:n])
		count += uint64(n)
		s.received.Add(uint64(n))
		if err == io.EOF {
			c.Write(h.Sum(binary.BigEndian.AppendUint64(nil, count)))
			return
		}
		if err != nil {
			return
		}
	}
}

// TransferOptions describe one stream of pseudo-random bytes.
type TransferOptions struct {
	Server netip.AddrPort
	Seed   uint64
	Bytes  uint64 // most bytes to send; 0 = 1 TiB, so until Stop
	Rate   uint64 // bytes per second; 0 = as fast as it goes
}

// TransferResult is the outcome of a transfer.
type TransferResult struct {
	Sent, Received uint64 // bytes, by each end's count
	Intact         bool   // counts and hashes of both ends agree
	Err            error  // why it ended early
}

// Transfer is one TCP stream under way.
type Transfer struct {
	options  TransferOptions
	conn     *net.TCPConn
	sent     atomic.Uint64
	stop     chan struct{}
	stopOnce sync.Once
	done     chan struct{}
	result   TransferResult
}

// StartTransfer connects from inside a namespace and starts to send. The context
// bounds the connecting only.
func StartTransfer(ctx context.Context, namespace string, o TransferOptions) (*Transfer, error) {
	if o.Bytes == 0 {
		o.Bytes = 1 << 40
	}
	t := &Transfer{options: o, stop: make(chan struct{}), done: make(chan struct{})}
	err := In(namespace, func() error {
		d := net.Dialer{Control: control, KeepAlive: -1}
		c, err := d.DialContext(ctx, "tcp", o.Server.String())
		if err == nil {
			t.conn = c.(*net.TCPConn)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("transfer: connect to %v: %w", o.Server, err)
	}
	go t.run()
	return t, nil
}

// Sent is how many bytes have been given to the kernel so far.
func (t *Transfer) Sent() uint64 { return t.sent.Load() }

// Retransmits is how many segments the kernel has sent again so far.
func (t *Transfer) Retransmits() (int, error) {
	info, err := t.info()
	return int(info.Total_retrans), err
}

// Patience is how long the kernel waits now for an acknowledgement before it sends
// a segment again.
func (t *Transfer) Patience() (time.Duration, error) {
	info, err := t.info()
	return time.Duration(info.Rto) * time.Microsecond, err
}

func (t *Transfer) info() (info unix.TCPInfo, err error) {
	raw, err := t.conn.SyscallConn()
	if err != nil {
		return info, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var i *unix.TCPInfo
		if i, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); failed == nil {
			info = *i
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return info, fmt.Errorf("ask the kernel about the stream: %w", err)
	}
	return info, nil
}

// Done is closed when the transfer has ended.
func (t *Transfer) Done() <-chan struct{} { return t.done }

// Finish ends the stream after the present chunk and waits for the other end's
// answer, or for the context: then the connection is cut.
func (t *Transfer) Finish(ctx context.Context) TransferResult {
	t.stopOnce.Do(func() { close(t.stop) })
	return t.Wait(ctx)
}

// Wait waits until all bytes are sent and answered for, or for the context: then
// the connection is cut.
func (t *Transfer) Wait(ctx context.Context) TransferResult {
	select {
	case <-t.done:
	case <-ctx.Done():
		t.stopOnce.Do(func() { close(t.stop) })
		t.conn.Close()
		<-t.done
	}
	return t.result
}

func (t *Transfer) run() {
	defer close(t.done)
	defer t.conn.Close()
	h := sha256.New()
	if err := t.send(h); err != nil {
		t.result = TransferResult{Sent: t.Sent(), Err: fmt.Errorf("transfer: send: %w", err)}
		return
	}
	t.result = t.compare(h)
}

func (t *Transfer) send(h hash.Hash) error {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], t.options.Seed)
	source, buffer := rand.NewChaCha8(seed), make([]byte, chunk)
	begin := time.Now()
	for t.Sent() < t.options.Bytes && t.pace(begin) {
		b := buffer[:min(uint64(len(buffer)), t.options.Bytes-t.Sent())]
		source.Read(b)
		h.Write(b)
		n, err := t.conn.Write(b)
		t.sent.Add(uint64(n))
		if err != nil {
			return err
		}
	}
	return t.conn.CloseWrite()
}

// pace waits until the next chunk is due and reports false when asked to stop.
func (t *Transfer) pace(begin time.Time) bool {
	var wait time.Duration
	if t.options.Rate > 0 {
		due := float64(t.Sent()) / float64(t.options.Rate) * float64(time.Second)
		wait = time.Until(begin.Add(time.Duration(due)))
	}
	if wait <= 0 {
		select {
		case <-t.stop:
			return false
		default:
			return true
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-t.stop:
		return false
	case <-timer.C:
		return true
	}
}

func (t *Transfer) compare(h hash.Hash) TransferResult {
	r := TransferResult{Sent: t.Sent()}
	answer := make([]byte, answerLen)
	if _, err := io.ReadFull(t.conn, answer); err != nil {
		r.Err = fmt.Errorf("transfer: read the answer: %w", err)
		return r
	}
	r.Received = binary.BigEndian.Uint64(answer)
	r.Intact = r.Sent == r.Received && string(answer[8:]) == string(h.Sum(nil))
	return r
}
