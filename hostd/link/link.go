// Package link carries the replica protocol between two hosts over one
// connection. It tells as soon as the other side is gone: by the end of the
// connection, or by a silence longer than the detection limit.
package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// ErrSilent ends a link whose peer sent nothing for the detection limit.
var ErrSilent = errors.New("the peer was silent for longer than the detection limit")

// Options of a Link.
type Options struct {
	// Heartbeat is the interval at which this side makes itself heard, twice of
	// that at the latest, Limit the silence of the peer after which the link is
	// given up.
	Heartbeat, Limit time.Duration
	Log              hclog.Logger
}

// Link is one end of a connection between two hosts.
type Link struct {
	conn  net.Conn
	o     Options
	heard atomic.Int64 // time since start, in nanoseconds, of the last byte read
	// receiving: somebody reads. Silence is only heard by who listens.
	receiving atomic.Bool
	start     time.Time

	send struct {
		sync.Mutex
		w      *replica.Writer
		buffer *bufio.Writer // nil where the kernel gathers a frame's parts
		spoke  bool          // a frame was sent since the last beat
		beat   []byte
		failed error // the peer has hung up; the link lives until it is heard out
	}
	r *replica.Reader

	leaving sync.Once
	left    chan struct{} // closed when the peer is known to have hung up, or as closed is
	closing sync.Once
	closed  chan struct{}
	cause   error
}

// New makes a link of an established connection, which it owns from now on.
func New(conn net.Conn, o Options) *Link {
	l := &Link{conn: conn, o: o, start: time.Now(), left: make(chan struct{}), closed: make(chan struct{})}
	l.send.buffer, l.send.w = writer(conn)
	l.r = replica.NewReader(listener{l})
	return l
}

// recordBuffer gathers the parts of frames into few records.
const recordBuffer = 64 << 10

// writer of frames. TLS makes a record of each write, so small parts are
// gathered first.
func writer(conn net.Conn) (*bufio.Writer, *replica.Writer) {
	if _, secured := conn.(*tls.Conn); !secured {
		return nil, replica.NewWriter(conn)
	}
	b := bufio.NewWriterSize(conn, recordBuffer)
	return b, replica.NewWriter(b)
}

// stuckAfter is for how many limits a peer that makes itself heard may take
// nothing.
const stuckAfter = 5

// write one frame with the send lock held.
func (l *Link) write(h replica.Header, parts ...[]byte) error {
	l.send.spoke = true
	if l.send.failed != nil {
		return l.send.failed
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(stuckAfter * l.o.Limit)) // a link that has ended says so below
	err := l.send.w.Write(h, parts...)
	if err == nil && l.send.buffer != nil {
		err = l.send.buffer.Flush()
	}
	switch {
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		l.hearOut(err)
	case err != nil:
		l.Close(err)
	}
	return err
}

// hearOut a peer that has hung up, with the send lock held: what it said last, which may
// be why, can still be read. That ends the link, or the limit does if nobody reads.
func (l *Link) hearOut(err error) {
	l.send.failed = err
	l.leaving.Do(func() { close(l.left) })
	time.AfterFunc(l.o.Limit, func() { l.Close(err) })
}

// listener notes when the peer was last heard, byte by byte: a large frame on
// a slow network is no silence.
type listener struct{ l *Link }

func (h listener) Read(b []byte) (int, error) {
	n, err := h.l.conn.Read(b)
	if n > 0 {
		h.l.heard.Store(int64(time.Since(h.l.start)))
	}
	return n, err
}

// Peer is the other side's network address.
func (l *Link) Peer() string { return l.conn.RemoteAddr().String() }

// Reject tells the peer why what it asked or sent is refused, by a code of replica.Reject,
// and ends the link.
func (l *Link) Reject(code uint16, why error) {
	_ = l.Send(replica.Header{Type: replica.TypeReject}, replica.Reject{Code: code, Reason: why.Error()}.Append(nil)) // the end of the link says it too
	l.Close(why)
}

// Send writes one frame. It blocks while the peer does not read: that is the
// back-pressure. A peer that does not take the frame in five times the limit has
// lost the link, whatever it says meanwhile. It may be called concurrently; a
// failed send ends the link, after what a peer that has hung up said last, for which it
// does not wait: the caller may be who reads it.
func (l *Link) Send(h replica.Header, parts ...[]byte) error {
	l.send.Lock()
	defer l.send.Unlock()
	if err := l.write(h, parts...); err != nil {
		return fmt.Errorf("send to %s: %w", l.Peer(), l.why(err))
	}
	return nil
}

// Receive returns the next frame that is not a heartbeat. The payload is valid
// until the next call. Only one goroutine may receive.
func (l *Link) Receive() (replica.Header, []byte, error) {
	l.heard.Store(int64(time.Since(l.start)))
	l.receiving.Store(true)
	defer l.receiving.Store(false)
	for {
		h, payload, err := l.r.Next()
		if err != nil {
			l.Close(err)
			return h, nil, fmt.Errorf("receive from %s: %w", l.Peer(), l.why(err))
		}
		if h.Type != replica.TypeHeartbeat {
			return h, payload, nil
		}
	}
}

// Watch sends heartbeats and ends the link when the peer falls silent while
// somebody receives. It returns when the link or the context has ended.
func (l *Link) Watch(ctx context.Context) {
	tick := time.NewTicker(l.o.Heartbeat)
	defer tick.Stop()
	awake := time.Now()
	for seq := uint64(1); ; seq++ {
		select {
		case <-ctx.Done():
			l.Close(ctx.Err())
			return
		case <-l.closed:
			return
		case <-tick.C:
		}
		if stood := time.Since(awake); stood > l.o.Limit/2 {
			l.o.Log.Warn("this daemon stood still; the peer gets its time anew", "for", stood)
			l.heard.Store(int64(time.Since(l.start)))
		}
		awake = time.Now()
		if silence := l.silence(); silence > l.o.Limit {
			l.o.Log.Warn("peer silent", "peer", l.Peer(), "silence", silence, "limit", l.o.Limit)
			l.Close(ErrSilent)
			return
		}
		l.beat(seq)
	}
}

// Heard is when the peer was last heard, by the monotonic clock.
func (l *Link) Heard() time.Time { return l.start.Add(time.Duration(l.heard.Load())) }

// silence of the peer so far, while somebody listens.
func (l *Link) silence() time.Duration {
	if !l.receiving.Load() {
		return 0
	}
	return time.Since(l.start) - time.Duration(l.heard.Load())
}

// beat sends a heartbeat unless a frame is being sent, or was since the last beat,
// which says as much: this side is never silent for two heartbeats.
func (l *Link) beat(seq uint64) {
	if !l.send.TryLock() {
		return
	}
	defer l.send.Unlock()
	if l.send.spoke {
		l.send.spoke = false
		return
	}
	l.send.beat = replica.Heartbeat{Seq: seq, SentNanos: time.Now().UnixNano()}.Append(l.send.beat[:0])
	_ = l.write(replica.Header{Type: replica.TypeHeartbeat}, l.send.beat) // a failure ends the link
	l.send.spoke = false
}

// Close ends the link; the first cause given is the one that both Send and
// Receive report.
func (l *Link) Close(cause error) {
	l.closing.Do(func() {
		l.cause = cause
		close(l.closed)
		l.leaving.Do(func() { close(l.left) })
		hangUp(l.conn)
	})
}

// hangUp at once: the good-bye of TLS could wait for a peer that reads nothing.
func hangUp(conn net.Conn) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	conn.Close()
}

// Left is closed when the peer has hung up, although what it said last may not have been
// read yet, or the link has ended.
func (l *Link) Left() <-chan struct{} { return l.left }

// Done is closed when the link has ended.
func (l *Link) Done() <-chan struct{} { return l.closed }

// why a call has failed: what has ended the link, if that has.
func (l *Link) why(err error) error {
	select {
	case <-l.closed:
		if l.cause != nil {
			return l.cause
		}
	default: // the peer has hung up, and is heard out
	}
	return err
}
