package guestagent

import (
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	txBatchSize = 64
	// txBuffer lets a burst wait in the kernel while the card is slow, as right
	// after a takeover.
	txBuffer = 4 << 20 // bytes
)

// message is struct mmsghdr of sendmmsg(2), which golang.org/x/sys has in versions that
// need a newer Go than this module.
type message struct {
	header unix.Msghdr
	_      uint32 // bytes that were sent
}

// txBatch is a socket that only sends, and the vectors of one sendmmsg(2).
type txBatch struct {
	fd       int
	file     *os.File
	messages [txBatchSize]message
	vectors  [txBatchSize]unix.Iovec
	drops    atomic.Uint64
}

func newTxBatch(index int) (*txBatch, error) {
	fd, err := packetSocket()
	if err != nil {
		return nil, err
	}
	if err := bindPacket(fd, index, 0); err != nil {
		unix.Close(fd)
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, txBuffer) // smaller without CAP_NET_ADMIN
	b := &txBatch{fd: fd, file: asFile(fd, "packet-tx")}
	for i := range b.messages {
		b.messages[i].header.Iov = &b.vectors[i]
		b.messages[i].header.SetIovlen(1)
	}
	return b, nil
}

// send says how many packets are done with. It stops where the kernel has no
// room; a packet that can never be sent is dropped.
func (b *txBatch) send(packets []*Packet) int {
	done := 0
	for done < len(packets) {
		n, errno := b.sendBatch(packets[done:])
		done += n
		switch errno {
		case 0, unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
			return done
		default:
			b.drops.Add(1)
			done++
		}
	}
	return done
}

// sendBatch reports an error only if it sent nothing.
func (b *txBatch) sendBatch(packets []*Packet) (int, unix.Errno) {
	n := min(len(packets), txBatchSize)
	for i, p := range packets[:n] {
		if len(p.Data) == 0 {
			if i == 0 {
				return 0, unix.EINVAL
			}
			n = i
			break
		}
		b.vectors[i].Base = &p.Data[0]
		b.vectors[i].SetLen(len(p.Data))
	}
	sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(b.fd),
		uintptr(unsafe.Pointer(&b.messages[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(sent), 0
}
