package qmp

import (
	"io"
	"net"
	"testing"
)

// TestDisconnectAmidTheHandshake: whenever it comes, the reader has ended after it.
func TestDisconnectAmidTheHandshake(t *testing.T) {
	for range 200 {
		near, far := net.Pipe()
		s := newSocket(near, "pipe", false, nil)
		connected := make(chan struct{})
		go func() {
			defer close(connected)
			_ = s.Connect() // it may be too late
		}()
		go func() {
			io.WriteString(far, `{"QMP":{"capabilities":[]}}`+"\n")
			io.Copy(io.Discard, far)
		}()
		if err := s.Disconnect(); err != nil {
			t.Fatal(err)
		}
		<-connected
		far.Close()
	}
}
