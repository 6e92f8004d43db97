package lab

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// tailBytes of each log go into a Failure.
const tailBytes = 8 << 10

// Failure is an error with what the host had to say about it.
type Failure struct {
	Err  error
	Host string
	// Tails are the ends of the daemon's log and of what machines wrote,
	// by file name.
	Tails map[string]string
}

// Unwrap returns the error itself.
func (f *Failure) Unwrap() error { return f.Err }

func (f *Failure) Error() string {
	var b strings.Builder
	b.WriteString(f.Err.Error())
	for _, name := range slices.Sorted(maps.Keys(f.Tails)) {
		fmt.Fprintf(&b, "\n--- host %s, end of %s ---\n%s", f.Host, name, f.Tails[name])
	}
	return b.String()
}

// explain adds the ends of the host's logs to an error; nil stays nil.
func (n *Node) explain(err error) error {
	if err == nil {
		return nil
	}
	var already *Failure
	if errors.As(err, &already) {
		return err
	}
	return &Failure{Err: err, Host: n.Name, Tails: n.tails()}
}

// Explain adds the ends of the logs of all hosts and the witness to an error, for reports; nil stays
// nil.
func (l *Lab) Explain(err error) error {
	if err == nil {
		return nil
	}
	errs := []error{err}
	for _, n := range l.nodes() {
		errs = append(errs, &Failure{Err: errors.New("host " + n.Name), Host: n.Name, Tails: n.tails()})
	}
	return errors.Join(errs...)
}

// nodes are all hosts and the witness.
func (l *Lab) nodes() (nodes []*Node) {
	for _, h := range l.Hosts {
		nodes = append(nodes, &h.Node)
	}
	if l.Witness != nil {
		nodes = append(nodes, &l.Witness.Node)
	}
	return nodes
}

func (n *Node) tails() map[string]string {
	tails := map[string]string{}
	for _, pattern := range []string{n.LogFile(), filepath.Join(n.StateDir, "*.log"), filepath.Join(n.StateDir, "*.console")} {
		paths, _ := filepath.Glob(pattern) // the pattern is well-formed
		for _, path := range paths {
			if text := tail(path); text != "" {
				tails[filepath.Base(path)] = text
			}
		}
	}
	return tails
}

// chatter is what the embedded arbiter and its client say all the time, and
// seldom matters.
var chatter = []string{" hostd.member: ", " hostd.arbiter: retrying "}

// tail is the end of a file without chatter, from the start of a line on; a file
// that cannot be read has none.
func tail(path string) string {
	lines := slices.DeleteFunc(strings.Split(end(path, 16*tailBytes), "\n"), func(line string) bool {
		return slices.ContainsFunc(chatter, func(c string) bool { return strings.Contains(line, c) })
	})
	text := strings.Join(lines, "\n")
	if len(text) > tailBytes {
		_, text, _ = strings.Cut(text[len(text)-tailBytes:], "\n")
	}
	return strings.TrimRight(text, "\n")
}

// end is at most size bytes of a file's end, from the start of a line on.
func end(path string, most int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	from := max(size-most, 0)
	b := make([]byte, size-from)
	n, _ := f.ReadAt(b, from)
	text := string(b[:n])
	if from > 0 {
		_, text, _ = strings.Cut(text, "\n")
	}
	return text
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET))
}
