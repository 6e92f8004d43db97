package falseqemu

import (
	"net"
	"strings"
	"time"
)

// listenAgent is where the agent channel is, if the arguments tell of one. Nobody
// in this guest reads it.
func (q *qemu) listenAgent(chardevs []string) error {
	for _, c := range chardevs {
		if !strings.Contains(c, "id=agent,") {
			continue
		}
		_, path, _ := strings.Cut(c, "path=")
		l, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		go func() {
			if conn, err := l.Accept(); err == nil {
				q.agent <- conn
			}
		}()
	}
	return nil
}

// takeAgent takes what waits on the channel.
func (q *qemu) takeAgent() {
	select {
	case conn := <-q.agent:
		conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		for b := make([]byte, 4096); ; {
			if _, err := conn.Read(b); err != nil {
				break
			}
		}
		q.agent <- conn
	default:
	}
}
