package logsink_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stillpoint-ft/stillpoint/hostd/logsink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is far more than anything here takes.
const patience = time.Minute

func note(lost int) []byte { return fmt.Appendf(nil, "%d lost\n", lost) }

// TestAPipeThatIsNotRead holds up nobody who writes. What had no room is counted, and
// told between the line before and the line after.
func TestAPipeThatIsNotRead(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := logsink.New(w, note)
	const lines, long = 400, 8 << 10 // some 3 MB
	for n := range lines {
		fmt.Fprintf(s, "line %d %s\n", n, strings.Repeat("x", long))
	}
	var got bytes.Buffer
	var reader sync.WaitGroup
	reader.Go(func() { io.Copy(&got, r) })
	s.Close(patience)
	w.Close()
	reader.Wait()
	r.Close()
	came, lost := 0, 0
	for line := range strings.Lines(got.String()) {
		if n, _ := fmt.Sscanf(line, "%d lost", &lost); n == 1 {
			continue
		}
		if !strings.HasPrefix(line, fmt.Sprintf("line %d x", came)) {
			t.Fatalf("after %d lines comes %.40q", came, line)
		}
		came++
	}
	if lost == 0 || came+lost != lines {
		t.Errorf("of %d lines %d came and %d were told to be lost", lines, came, lost)
	}
	// Those that wait, those that are being written, and what the pipe holds.
	if most := 2<<20 + 128<<10; came*long > most {
		t.Errorf("%d lines of %d bytes were kept", came, long)
	}
}

// TestLinesAfterAGap: they come again once the log is read.
func TestLinesAfterAGap(t *testing.T) {
	r, w := io.Pipe()
	s := logsink.New(w, note)
	for range 6 {
		fmt.Fprintln(s, strings.Repeat("x", 500<<10))
	}
	got, buffer := "", make([]byte, 1<<20)
	for !strings.Contains(got, "lost") || !strings.HasSuffix(got, "after\n") {
		n, _ := r.Read(buffer)
		got += string(buffer[:n])
		fmt.Fprintln(s, "after")
	}
	r.CloseWithError(io.ErrClosedPipe)
	s.Close(patience)
}

// TestALogThatIsNeverRead holds up no end.
func TestALogThatIsNeverRead(t *testing.T) {
	r, w := io.Pipe()
	s := logsink.New(w, note)
	fmt.Fprintln(s, "who reads this?")
	s.Close(time.Millisecond)
	r.Close() // lets its goroutine go
	s.Close(patience)
	fmt.Fprintln(s, "after the end")
}

// fails its first writes.
type fails struct {
	first int
	bytes.Buffer
}

func (f *fails) Write(p []byte) (int, error) {
	if f.first--; f.first >= 0 {
		return 0, errors.New("no space left")
	}
	return f.Buffer.Write(p)
}

// TestLinesThatCannotBeWritten are counted as well.
func TestLinesThatCannotBeWritten(t *testing.T) {
	f := &fails{first: 2}
	s := logsink.New(f, note)
	for n := range 3 {
		fmt.Fprintf(s, "line %d\n", n)
	}
	s.Close(patience)
	if got := f.String(); got != "2 lost\nline 2\n" {
		t.Errorf("the log has %q", got)
	}
	f = &fails{first: 1}
	s = logsink.New(f, note)
	fmt.Fprintln(s, "line 0")
	s.Close(patience)
	if got := f.String(); got != "1 lost\n" {
		t.Errorf("at the end the log has %q", got)
	}
}
