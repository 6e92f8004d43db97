package rtnetlink

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

const (
	statsHeader = 12 // struct if_stats_msg: family, pads, interface, filter
	// StatsRequestLength is that of a request.
	StatsRequestLength = unix.SizeofNlMsghdr + statsHeader
	// In struct rtnl_link_stats64 tx_packets is the second of its 64-bit fields.
	txPackets = 8
)

// AppendStatsRequest asks for the counters of an interface, in one datagram that has a
// number (RTM_GETSTATS: linux/if_link.h, linux/rtnetlink.h).
func AppendStatsRequest(b []byte, number, ifindex uint32) []byte {
	native := binary.NativeEndian
	b = native.AppendUint32(b, StatsRequestLength)
	b = native.AppendUint16(b, unix.RTM_GETSTATS)
	b = native.AppendUint16(b, unix.NLM_F_REQUEST)
	b = native.AppendUint32(b, number)
	b = native.AppendUint32(b, 0) // to the kernel
	b = append(b, unix.AF_UNSPEC, 0, 0, 0)
	b = native.AppendUint32(b, ifindex)
	return native.AppendUint32(b, 1<<(unix.IFLA_STATS_LINK_64-1))
}

var (
	// ErrOtherAnswer says that another follows.
	ErrOtherAnswer = errors.New("the answer to another request")
	errNoStats     = errors.New("the kernel's answer holds no counters")
)

// StatsSent reads the answer to a request: frames that were sent.
func StatsSent(b []byte, number uint32) (uint64, error) {
	native := binary.NativeEndian
	if len(b) < unix.SizeofNlMsghdr {
		return 0, errNoStats
	}
	if native.Uint32(b[8:]) != number {
		return 0, ErrOtherAnswer
	}
	kind, b := native.Uint16(b[4:]), b[unix.SizeofNlMsghdr:]
	switch {
	case kind == unix.NLMSG_ERROR && len(b) >= 4:
		if code := int32(native.Uint32(b)); code < 0 {
			return 0, unix.Errno(-code)
		}
		return 0, errNoStats
	case kind != unix.RTM_NEWSTATS || len(b) < statsHeader:
		return 0, errNoStats
	}
	for b = b[statsHeader:]; len(b) >= unix.SizeofRtAttr; {
		length := int(native.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			break
		}
		if value := b[unix.SizeofRtAttr:length]; native.Uint16(b[2:]) == unix.IFLA_STATS_LINK_64 && len(value) >= txPackets+8 {
			return native.Uint64(value[txPackets:]), nil
		}
		b = b[min(len(b), (length+3)&^3):]
	}
	return 0, errNoStats
}
