package gate

import (
	"encoding/binary"
	"runtime"
	"testing"
	"unsafe"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
)

// Of linux/bpf.h, for bpf_skb_adjust_room.
const (
	roomBehindMAC                                      = 1
	roomFixedGSO, roomIPv4, roomIPv6, roomGRE, roomUDP = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4
	roomBridged                                        = 1 << 6
	helperStoreBytes, helperAdjustRoom                 = 9, 50
	actionPass, actionDrop                             = 0, 2
	programLoad, programSchedCLS                       = 5, 3
)

func roomInner(headers int) uint64 { return uint64(headers) << 56 }

type instruction struct {
	op, registers byte
	offset        int16
	immediate     int32
}

// encapsulator is a program that puts headers between the Ethernet header's addresses
// and its payload, as the kernel's tunnels do with frames of many segments. inserted
// begins with the new type.
func encapsulator(inserted []byte, flags uint64) (program []instruction) {
	const (
		move, moveImmediate, add, store     = 0xbf, 0xb7, 0x07, 0x62
		load64, call, exit, jumpIfNot       = 0x18, 0x85, 0x95, 0x55
		stack                           int = 10
	)
	emit := func(op byte, to, from int, offset int16, immediate int32) {
		program = append(program, instruction{op, byte(from<<4 | to), offset, immediate})
	}
	at := -int16(len(inserted)+7) &^ 7
	emit(move, 6, 1, 0, 0)
	emit(moveImmediate, 2, 0, 0, int32(len(inserted)-2))
	emit(moveImmediate, 3, 0, 0, roomBehindMAC)
	emit(load64, 4, 0, 0, int32(flags))
	emit(0, 0, 0, 0, int32(flags>>32))
	emit(call, 0, 0, 0, helperAdjustRoom)
	failed := len(program)
	emit(jumpIfNot, 0, 0, 0, 0)
	padded := append(append([]byte(nil), inserted...), 0, 0, 0)
	for i := 0; i < len(inserted); i += 4 {
		emit(store, stack, 0, at+int16(i), int32(binary.NativeEndian.Uint32(padded[i:])))
	}
	emit(move, 1, 6, 0, 0)
	emit(moveImmediate, 2, 0, 0, 12)
	emit(move, 3, stack, 0, 0)
	emit(add, 3, 0, 0, int32(at))
	emit(moveImmediate, 4, 0, 0, int32(len(inserted)))
	emit(moveImmediate, 5, 0, 0, 0)
	emit(call, 0, 0, 0, helperStoreBytes)
	emit(jumpIfNot, 0, 0, 2, 0)
	emit(moveImmediate, 0, 0, 0, actionPass)
	emit(exit, 0, 0, 0, 0)
	program[failed].offset = int16(len(program) - failed - 1)
	emit(moveImmediate, 0, 0, 0, actionDrop)
	emit(exit, 0, 0, 0, 0)
	return program
}

// encapsulate makes an interface of this namespace send what it sends in a tunnel.
func encapsulate(t *testing.T, name string, inserted []byte, flags uint64) {
	t.Helper()
	program, license, log := encapsulator(inserted, flags), []byte("GPL\x00"), make([]byte, 1<<16)
	attributes := struct {
		kind, count       uint32
		program, license  uint64
		level, size       uint32
		log               uint64
		version, flags    uint32
		name              [16]byte
		ifindex, expected uint32
	}{kind: programSchedCLS, count: uint32(len(program)), program: address(&program[0]), license: address(&license[0]),
		level: 1, size: uint32(len(log)), log: address(&log[0])}
	fd, errno := uintptr(0), unix.EAGAIN
	for errno == unix.EAGAIN { // a signal of the runtime's has come while the kernel looked at the program
		fd, _, errno = unix.Syscall(unix.SYS_BPF, programLoad, uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes))
	}
	runtime.KeepAlive(program)
	if errno == unix.EPERM || errno == unix.ENOSYS {
		t.Skipf("needs BPF: %v", errno)
	}
	if errno != 0 {
		t.Fatalf("load a program: %v: %s", errno, log)
	}
	defer unix.Close(int(fd))
	index := netns.Link(t, name).Attrs().Index
	qdisc := &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := netlink.QdiscAdd(qdisc); err != nil {
		t.Skipf("needs the queue discipline clsact: %v", err)
	}
	filter := &netlink.BpfFilter{Fd: int(fd), Name: "encapsulate", DirectAction: true,
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.HANDLE_MIN_EGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1}}
	if err := netlink.FilterAdd(filter); err != nil {
		t.Skipf("needs the classifier bpf: %v", err)
	}
}

func address[T any](p *T) uint64 { return uint64(uintptr(unsafe.Pointer(p))) }

// cutBeforeSending makes the kernel itself cut what an interface sends.
func cutBeforeSending(t *testing.T, name string) {
	t.Helper()
	tool, err := ethtool.NewEthtool()
	if err != nil {
		t.Fatal(err)
	}
	defer tool.Close()
	off := map[string]bool{}
	known, err := tool.Features(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, feature := range []string{"tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp6-segmentation", "tx-tcp-mangleid-segmentation",
		"tx-udp-segmentation", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "tx-gre-segmentation",
		"tx-gre-csum-segmentation", "tx-ipxip4-segmentation", "tx-ipxip6-segmentation"} {
		if known[feature] {
			off[feature] = false
		}
	}
	if err := tool.Change(name, off); err != nil {
		t.Fatal(err)
	}
}
