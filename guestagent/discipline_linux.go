package guestagent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// forgetful are the queue disciplines that drop packets which they have taken, and tell
// nobody. They want to shorten a queue in front of a slow line, and see one wherever
// packets wait for some milliseconds: while the machine's host is busy, or copies a
// checkpoint. Most distributions make fq_codel the default.
var forgetful = []string{"cake", "choke", "codel", "fq_codel", "fq_pie", "hhf", "pie", "red", "sfb", "sfq"}

const (
	// plain keeps what it takes, and refuses more where it is full.
	plain = "pfifo"
	// plainLimit is how many packets it takes; fq_codel's is as many.
	plainLimit = 10240
	perQueue   = "mq" // a discipline for each queue of the card
	// ownHandle numbers an mq that takes the place of the kernel's own, which has no
	// number.
	ownHandle = 1 << 16
)

// discipline is one queue discipline of an interface.
type discipline struct {
	kind           string
	handle, parent uint32
}

// disciplines tells and sets those of one interface.
type disciplines interface {
	list() ([]discipline, error)
	set(discipline) error
}

// keepPackets replaces the forgetful disciplines of an interface.
func keepPackets(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return replaceForgetful(kernelDisciplines{link}, link.Attrs().NumTxQueues)
}

func replaceForgetful(d disciplines, queues int) error {
	all, err := d.list()
	if errors.Is(err, unix.EOPNOTSUPP) { // a kernel without any
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the queue disciplines: %w", err)
	}
	var failed error
	for _, next := range replacements(all, queues) {
		if failed = d.set(next); failed != nil {
			break
		}
	}
	if all, err = d.list(); err != nil {
		return fmt.Errorf("read the queue disciplines: %w", err)
	}
	var left []string
	for _, f := range thatForget(all) {
		left = append(left, f.kind)
	}
	if len(left) == 0 {
		return failed
	}
	return errors.Join(fmt.Errorf("the queue discipline %s stays, which drops packets that have been sent and tells nobody; run with CAP_NET_ADMIN,"+
		" or set net.core.default_qdisc=pfifo_fast before the interface is set up, or set PortOptions.KeepDiscipline and lose some packets",
		strings.Join(slices.Compact(left), ", ")), failed)
}

// thatForget: the one at the root, or those of an mq's queues. What is below any other
// was set up by somebody on purpose.
func thatForget(all []discipline) (some []discipline) {
	root, ok := rootOf(all)
	for _, d := range all {
		under := ok && root.kind == perQueue && d.parent != netlink.HANDLE_ROOT && d.parent&0xffff0000 == root.handle
		if (under || d.parent == netlink.HANDLE_ROOT) && slices.Contains(forgetful, d.kind) {
			some = append(some, d)
		}
	}
	return some
}

func rootOf(all []discipline) (root discipline, ok bool) {
	i := slices.IndexFunc(all, func(d discipline) bool { return d.parent == netlink.HANDLE_ROOT })
	if i < 0 {
		return discipline{}, false
	}
	return all[i], true
}

// replacements are what is to be set, one after the other.
func replacements(all []discipline, queues int) (next []discipline) {
	forget := thatForget(all)
	if len(forget) == 0 {
		return nil
	}
	root, _ := rootOf(all)
	switch {
	case root.kind != perQueue:
		return []discipline{{plain, 0, netlink.HANDLE_ROOT}}
	case root.handle != 0:
		for _, d := range forget {
			next = append(next, discipline{plain, 0, d.parent})
		}
		return next
	}
	next = append(next, discipline{perQueue, ownHandle, netlink.HANDLE_ROOT})
	for i := range queues {
		next = append(next, discipline{plain, 0, ownHandle | uint32(i+1)})
	}
	return next
}

type kernelDisciplines struct{ link netlink.Link }

func (k kernelDisciplines) list() (all []discipline, err error) {
	found, err := netlink.QdiscList(k.link)
	for _, q := range found {
		all = append(all, discipline{q.Type(), q.Attrs().Handle, q.Attrs().Parent})
	}
	return all, err
}

// set is RTM_NEWQDISC, with struct tc_fifo_qopt (linux/pkt_sched.h).
func (k kernelDisciplines) set(d discipline) error {
	request := nl.NewNetlinkRequest(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	request.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(k.link.Attrs().Index), Handle: d.handle, Parent: d.parent})
	request.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(d.kind)))
	if d.kind == plain {
		request.AddData(nl.NewRtAttr(nl.TCA_OPTIONS, binary.NativeEndian.AppendUint32(nil, plainLimit)))
	}
	if _, err := request.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set the queue discipline %s: %w", d.kind, err)
	}
	return nil
}
