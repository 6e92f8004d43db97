package pki

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// from is a connection of an address.
type from struct {
	net.Conn
	address string
}

func (f from) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(f.address), Port: 1} }

func knocks(address string) *knock {
	c := from{address: address}
	return &knock{Conn: c, source: sourceOf(c)}
}

// TestACrowdTakesNoRoomFromOthers: one of another address stays, and so does who
// speaks among the silent.
func TestACrowdTakesNoRoomFromOthers(t *testing.T) {
	const most = 8
	var c crowd
	quiet, talker := knocks("10.0.0.2"), knocks("10.0.0.1")
	c.enter(quiet, most)
	c.enter(talker, most)
	if goes := c.speaks(talker, most); goes != nil {
		t.Errorf("%v has to go", goes.source)
	}
	for i := range 100 * most {
		goes := c.enter(knocks("10.0.0.1"), most)
		if goes == quiet || goes == talker {
			t.Fatalf("after %d strangers %s has to go", i, goes.source)
		}
		if full := len(c.silent) == most; c.size() > most+1 || full != (i >= most-2) {
			t.Fatalf("%d silent, %d speaking after %d", len(c.silent), len(c.speaking), i+1)
		}
	}
	for range 100 * most {
		k := knocks(fmt.Sprint("10.0.1.1"))
		c.enter(k, most)
		if goes := c.speaks(k, most); goes == talker {
			t.Fatal("who spoke first has to go for another address's many")
		}
		if len(c.speaking) > most {
			t.Fatalf("%d speak", len(c.speaking))
		}
	}
	c.leave(talker)
	c.leave(quiet)
	if c.speaks(quiet, most) != nil || c.size() > 2*most {
		t.Error("who left is there")
	}
}

// interrupted lets something happen between what it says first and what it hears.
type interrupted struct {
	net.Conn
	between func()
	once    sync.Once
}

func (i *interrupted) Read(b []byte) (int, error) {
	i.once.Do(i.between)
	return i.Conn.Read(b)
}

// TestMuxKeepsWhoSpeaks: any number of silent strangers may come between an
// honest peer's first words and its last.
func TestMuxKeepsWhoSpeaks(t *testing.T) {
	p := serve(t, nil)
	conn := p.dial(t)
	peer := tls.Client(&interrupted{Conn: conn, between: func() {
		for range 4 * mostPending {
			p.dial(t)
		}
	}}, load(t, p.dir, "a", Options{}).Client("b", "greet"))
	peer.SetDeadline(time.Now().Add(patience))
	if got, err := io.ReadAll(peer); string(got) != "hello a" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestMuxInAFlood: honest peers get through while strangers of the same address
// connect 5,000 times a second, as far as the machine can, some silent, some with half
// a hello.
func TestMuxInAFlood(t *testing.T) {
	p := serve(t, nil)
	begun := time.Now()
	p.greeted(t)
	calm := time.Since(begun)
	var made atomic.Int64
	done := make(chan struct{})
	var flood sync.WaitGroup
	for i := range 4 {
		flood.Go(func() { strangers(p.address, i%2 == 1, done, &made) })
	}
	defer flood.Wait()
	defer close(done)
	p.eventually(t, "a flood", func() bool { return made.Load() > 2*mostPending })
	const peers = 20
	config := load(t, p.dir, "a", Options{}).Client("b", "greet")
	failed := 0
	begun = time.Now()
	for range peers {
		for got := ""; got != "hello a"; failed++ {
			if time.Since(begun) > patience {
				t.Fatal("no peer gets through")
			}
			got, _ = p.call(config)
		}
		failed--
	}
	t.Logf("a handshake took %v in the calm, %v in the flood; %d of %d tries failed; %.0f strangers a second", calm,
		time.Since(begun)/peers, failed, peers+failed, float64(made.Load())/time.Since(begun).Seconds())
	if failed > peers {
		t.Errorf("%d tries of honest peers failed", failed)
	}
}

// strangers connect and stay until they are hung up on, at most a few hundred.
func strangers(address string, speak bool, done <-chan struct{}, made *atomic.Int64) {
	var held []net.Conn
	next := time.Now()
	for {
		next = next.Add(800 * time.Microsecond) // and at once, where that has passed
		select {
		case <-done:
			for _, c := range held {
				c.Close()
			}
			return
		case <-time.After(time.Until(next)):
		}
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			continue
		}
		made.Add(1)
		if speak {
			io.WriteString(conn, "\x16\x03\x01\x02\x00\x01")
		}
		if held = append(held, conn); len(held) > 300 {
			held[0].Close()
			held = held[1:]
		}
	}
}
