package guestagent_test

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/guestagent"
)

// notes is a writer for several goroutines.
type notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

func TestStandardLoggerIsTold(t *testing.T) {
	said := &notes{}
	tried := make(chan struct{}, 100)
	agent, err := guestagent.Start(guestagent.Config{
		Log:   slog.New(slog.NewTextHandler(said, nil)),
		Retry: time.Millisecond,
		Open:  func() (io.ReadWriteCloser, error) { tried <- struct{}{}; return nil, io.ErrClosedPipe },
	})
	if err != nil {
		t.Fatal(err)
	}
	<-tried
	<-tried
	<-tried
	agent.Close()
	if n := strings.Count(said.String(), `level=INFO msg="no host yet" error="io: read/write on closed pipe"`); n != 1 {
		t.Errorf("told %d times that there is no host yet: %q", n, said)
	}
}
