package pki

import (
	"net"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// crowd are the connections whose peers are not known yet, oldest first: those
// that have said nothing, and those that have. Who connects and is silent takes
// no room from who speaks, and who comes often takes none from who comes once:
// where there is no room the address with the most loses its oldest.
type crowd struct{ silent, speaking []*knock }

// knock is a connection whose peer is not known yet.
type knock struct {
	net.Conn
	source string
	heard  func() // is called at the first byte
	once   sync.Once
}

func sourceOf(conn net.Conn) string {
	host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		return conn.RemoteAddr().String()
	}
	return host
}

func (k *knock) Read(b []byte) (int, error) {
	n, err := k.Conn.Read(b)
	if n > 0 {
		k.once.Do(k.heard)
	}
	return n, err
}

// waits tells whether the peer has said something that was not read yet.
func (k *knock) waits() (has bool) {
	c, ok := k.Conn.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		has = err == nil && n > 0
	})
	return has
}

func (c *crowd) size() int { return len(c.silent) + len(c.speaking) }

// enter returns who has to go for it, if there are more than most now.
func (c *crowd) enter(k *knock, most int) *knock {
	c.silent = append(c.silent, k)
	if len(c.silent) <= most {
		return nil
	}
	for len(c.silent) > 0 {
		goes := busiest(c.silent)
		c.silent = without(c.silent, goes)
		if !goes.waits() {
			return goes
		}
		if also := c.admit(goes, most); also != nil {
			return also
		}
		if len(c.silent) <= most {
			return nil
		}
	}
	return nil
}

// speaks says that it has said something; it returns who has to go for it.
func (c *crowd) speaks(k *knock, most int) *knock {
	if !slices.Contains(c.silent, k) {
		return nil
	}
	c.silent = without(c.silent, k)
	return c.admit(k, most)
}

func (c *crowd) admit(k *knock, most int) *knock {
	c.speaking = append(c.speaking, k)
	if len(c.speaking) <= most {
		return nil
	}
	goes := busiest(c.speaking)
	c.speaking = without(c.speaking, goes)
	return goes
}

func (c *crowd) leave(k *knock) {
	c.silent, c.speaking = without(c.silent, k), without(c.speaking, k)
}

func without(all []*knock, k *knock) []*knock {
	return slices.DeleteFunc(all, func(o *knock) bool { return o == k })
}

// busiest is the oldest of the address that has the most.
func busiest(all []*knock) *knock {
	counts := make(map[string]int, len(all))
	for _, k := range all {
		counts[k.source]++
	}
	var found *knock
	for _, k := range all {
		if found == nil || counts[k.source] > counts[found.source] {
			found = k
		}
	}
	return found
}
