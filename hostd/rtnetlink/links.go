package rtnetlink

import (
	"encoding/binary"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// LinksRequest asks the kernel to tell of all interfaces.
func LinksRequest() []byte {
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	native := binary.NativeEndian
	native.PutUint32(b, uint32(len(b)))
	native.PutUint16(b[4:], unix.RTM_GETLINK)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	return b
}

// ParseLinks reads a datagram. What bridges say of their ports is not said of interfaces.
// A listing's end is told.
func ParseLinks(b []byte) (messages []Message, end bool) {
	all, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return nil, false // not the kernel's
	}
	for _, m := range all {
		if m.Header.Type == unix.NLMSG_DONE {
			end = true
		}
		if m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK || len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] != unix.AF_UNSPEC {
			continue
		}
		attributes, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			continue
		}
		link := Message{Index: int(int32(binary.NativeEndian.Uint32(m.Data[4:]))), Flags: binary.NativeEndian.Uint32(m.Data[8:]),
			Deleted: m.Header.Type == unix.RTM_DELLINK}
		for _, a := range attributes {
			if a.Attr.Type == unix.IFLA_IFNAME {
				link.Name = strings.TrimRight(string(a.Value), "\x00")
			}
		}
		messages = append(messages, link)
	}
	return messages, end
}
