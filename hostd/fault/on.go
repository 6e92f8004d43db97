//go:build faults

package fault

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// patience bounds how long a step waits for the test's word.
const patience = 10 * time.Second

// FromEnvironment connects to the unix socket STILLPOINT_FAULT_SOCKET. At each
// label of the list STILLPOINT_FAULT_OPS ("label" or "label@epoch", the epoch
// being the first that counts) the daemon writes "label epoch" and waits for a
// line.
func FromEnvironment() (Hook, error) {
	path := os.Getenv("STILLPOINT_FAULT_SOCKET")
	if path == "" {
		return None, nil
	}
	wanted, err := parse(os.Getenv("STILLPOINT_FAULT_OPS"))
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to the fault socket: %w", err)
	}
	i := &injector{conn: conn, lines: bufio.NewReader(conn), wanted: wanted}
	return i.reach, nil
}

type injector struct {
	sync.Mutex
	conn   net.Conn
	lines  *bufio.Reader
	wanted map[string]uint64
}

func parse(list string) (map[string]uint64, error) {
	wanted := map[string]uint64{}
	for _, item := range strings.Split(list, ",") {
		label, from, found := strings.Cut(strings.TrimSpace(item), "@")
		var epoch uint64
		if found {
			var err error
			if epoch, err = strconv.ParseUint(from, 10, 64); err != nil {
				return nil, fmt.Errorf("fault %q: the epoch is no number", item)
			}
		}
		wanted[label] = epoch
	}
	return wanted, nil
}

func (i *injector) reach(label string, epoch uint64) {
	from, ok := i.wanted[label]
	if !ok || epoch < from {
		return
	}
	i.Lock()
	defer i.Unlock()
	i.conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(i.conn, "%s %d\n", label, epoch); err == nil {
		i.lines.ReadString('\n')
	}
}
