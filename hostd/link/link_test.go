package link

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

func options() Options {
	return Options{Heartbeat: 5 * time.Millisecond, Limit: 2 * time.Second, Log: hclog.NewNullLogger()}
}

// ends are two links joined by a TCP connection on loopback.
func ends(t *testing.T, a, b Options) (*Link, *Link) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dialed := New(out, a)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	accepted := New(conn, b)
	t.Cleanup(func() {
		dialed.Close(nil)
		accepted.Close(nil)
		goleak.VerifyNone(t)
	})
	return dialed, accepted
}

func TestFramesPassAndHeartbeatsDoNot(t *testing.T) {
	a, b := ends(t, options(), options())
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() { a.Watch(ctx); close(watched) }()
	for epoch := uint64(1); epoch <= 20; epoch++ {
		if err := a.Send(replica.Header{Type: replica.TypeAck, Epoch: epoch}); err != nil {
			t.Fatal(err)
		}
		h, _, err := b.Receive()
		if err != nil || h.Type != replica.TypeAck || h.Epoch != epoch {
			t.Fatalf("got %v epoch %d, %v", h.Type, h.Epoch, err)
		}
	}
	cancel()
	<-watched
}

func TestSilentPeerIsGivenUp(t *testing.T) {
	o := options()
	o.Limit = 50 * time.Millisecond
	a, b := ends(t, o, options())
	watched := make(chan struct{})
	go func() { a.Watch(context.Background()); close(watched) }() // b says nothing
	if _, _, err := a.Receive(); !errors.Is(err, ErrSilent) {
		t.Fatalf("got %v, want %v", err, ErrSilent)
	}
	<-watched
	if err := a.Send(replica.Header{Type: replica.TypeAck}); !errors.Is(err, ErrSilent) {
		t.Fatalf("got %v, want %v", err, ErrSilent)
	}
	for { // the other side sees the end at once, after the heartbeats
		if _, _, err := b.Receive(); err != nil {
			return
		}
	}
}

func TestBeatingPeerIsKept(t *testing.T) {
	o := options()
	o.Limit = 500 * time.Millisecond
	a, b := ends(t, o, o)
	ctx, cancel := context.WithTimeout(context.Background(), 2*o.Limit)
	defer cancel()
	done := make(chan error, 4)
	for _, l := range []*Link{a, b} {
		go func() { l.Watch(ctx); done <- nil }()
		go func() { _, _, err := l.Receive(); done <- err }()
	}
	for range 4 {
		if err := <-done; errors.Is(err, ErrSilent) {
			t.Fatal("a peer that sends heartbeats was given up")
		}
	}
}

func TestGarbageEndsTheLink(t *testing.T) {
	a, b := ends(t, options(), options())
	if _, err := a.conn.Write([]byte("GET / HTTP/1.1\r\nHost: nobody, and some more to fill a header\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Receive(); !errors.Is(err, replica.ErrMalformed) {
		t.Fatalf("got %v, want %v", err, replica.ErrMalformed)
	}
	<-b.Done()
}

// A peer that refuses hangs up with heartbeats unread: TCP resets the connection then,
// and a send may fail before the reason has been read.
func TestWhatAPeerSaidLastIsHeard(t *testing.T) {
	a, b := ends(t, options(), options())
	a.beat(1)
	if err := b.Send(replica.Header{Type: replica.TypeReject}, replica.Reject{Reason: "no room"}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	b.Close(nil)
	for failed := false; !failed; {
		a.beat(2)
		a.send.Lock()
		failed = a.send.failed != nil
		a.send.Unlock()
	}
	h, payload, err := a.Receive()
	if err != nil || h.Type != replica.TypeReject {
		t.Fatalf("got %v, %v, want the reject", h.Type, err)
	}
	if r, err := replica.DecodeReject(payload); err != nil || r.Reason != "no room" {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, _, err := a.Receive(); err == nil {
		t.Error("a link whose peer has hung up goes on")
	}
	<-a.Done()
}

// Nor does it wait for somebody to read.
func TestALinkThatNobodyReadsEnds(t *testing.T) {
	quick := options()
	quick.Limit = 50 * time.Millisecond
	a, b := ends(t, quick, options())
	a.beat(1)
	b.Close(nil)
	for a.Send(replica.Header{Type: replica.TypeHeartbeat}, make([]byte, 16)) == nil {
	}
	<-a.Done()
}

func TestSendBlocksWhileThePeerDoesNotRead(t *testing.T) {
	a, b := ends(t, options(), options())
	payload := make([]byte, 1<<20)
	sent := make(chan int)
	go func() {
		n := 0
		for ; n < 64; n++ {
			if a.Send(replica.Header{Type: replica.TypeDevice}, payload) != nil {
				break
			}
		}
		sent <- n
	}()
	for range 8 {
		if _, _, err := b.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case n := <-sent:
		t.Fatalf("%d MiB were taken although 8 were read: there is no back-pressure", n)
	default:
	}
	a.Close(errors.New("enough"))
	if n := <-sent; n >= 64 {
		t.Fatal("a closed link takes frames")
	}
}

func TestSilenceIsOnlyHeardByWhoListens(t *testing.T) {
	o := options()
	o.Limit = 30 * time.Millisecond
	a, b := ends(t, o, options())
	watched := make(chan struct{})
	go func() { a.Watch(context.Background()); close(watched) }()
	for range 30 { // far longer than the limit, by b's count of heartbeats
		if err := b.hear(); err != nil {
			t.Fatalf("a gave up although nobody listened: %v", err)
		}
	}
	a.Close(nil)
	<-watched
}

// hear reads one heartbeat.
func (l *Link) hear() error {
	_, _, err := l.r.Next()
	return err
}

// TestFramesSpeakForHeartbeats: one heartbeat is left out after any number of
// frames, and no more.
func TestFramesSpeakForHeartbeats(t *testing.T) {
	a, b := ends(t, options(), options())
	ack := replica.Header{Type: replica.TypeAck}
	want := []replica.Type{replica.TypeHeartbeat, replica.TypeHeartbeat, replica.TypeAck, replica.TypeAck, replica.TypeHeartbeat, replica.TypeAck}
	a.beat(1)
	a.beat(2)
	a.Send(ack)
	a.Send(ack)
	a.beat(3) // left out
	a.beat(4)
	a.Send(ack)
	a.Close(nil)
	for i, w := range want {
		h, _, err := b.r.Next()
		if err != nil || h.Type != w {
			t.Fatalf("frame %d is %v, want %v; %v", i, h.Type, w, err)
		}
	}
	if h, _, err := b.r.Next(); err == nil {
		t.Errorf("one more: %v", h.Type)
	}
}

// TestAPeerThatTakesNothing has lost the link, though it makes itself heard.
func TestAPeerThatTakesNothing(t *testing.T) {
	o := options()
	o.Limit = 20 * time.Millisecond
	a, _ := ends(t, o, options())
	payload := make([]byte, replica.MaxPayload)
	for {
		err := a.Send(replica.Header{Type: replica.TypeDevice}, payload)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
