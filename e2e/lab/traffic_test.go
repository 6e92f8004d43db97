package lab

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"
)

// call sends datagrams from one space to an address until an echo comes.
func call(ctx context.Context, from *Space, address string) error {
	var conn net.Conn
	err := from.Do(func() (err error) {
		conn, err = net.Dial("udp", address)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	for ctx.Err() == nil { // a wire may lose a datagram
		if _, err = conn.Write([]byte("there?")); err == nil {
			conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			_, err = conn.Read(make([]byte, 16))
		}
		if err == nil {
			return nil
		}
	}
	return errors.Join(ctx.Err(), err)
}

// echo answers datagrams until the test ends.
func echo(t testing.TB, s *Space, address string) {
	t.Helper()
	var conn net.PacketConn
	err := s.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 16)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			conn.WriteTo(b[:n], from)
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// transfer sends an amount over TCP and returns how long it took.
func transfer(t *testing.T, a, b *Host, amount int) time.Duration {
	t.Helper()
	var listener net.Listener
	if err := b.Space.Do(func() (err error) {
		listener, err = net.Listen("tcp", b.Address+":8")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var out net.Conn
	if err := a.Space.Do(func() (err error) {
		out, err = net.Dial("tcp", listener.Addr().String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	start := time.Now()
	sent := make(chan error, 1)
	go func() { _, err := out.Write(make([]byte, amount)); sent <- err }()
	buf := make([]byte, 64<<10)
	for got := 0; got < amount; {
		n, err := in.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

// sendFrame sends frames from an interface inside a space.
func sendFrame(t *testing.T, s *Space, ifname string, frames ...[]byte) {
	t.Helper()
	p, err := openPacket(s, ifname, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	defer p.file.Close()
	for _, frame := range frames {
		if n, err := p.file.Write(frame); err != nil || n != len(frame) {
			t.Fatalf("send: %d, %v", n, err)
		}
	}
}

func testFrame(source MAC, length int) []byte {
	frame := slices.Repeat([]byte{0xff}, length) // to everybody
	copy(frame[6:], source[:])
	copy(frame[12:], []byte{0x88, 0xb5}) // for experiments
	return frame
}
