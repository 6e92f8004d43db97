package guestagent

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const root = netlink.HANDLE_ROOT

// shaper is an interface whose disciplines are as the kernel's: an mq that is set
// begins with the default for each queue.
type shaper struct {
	all     []discipline
	queues  int
	refused error // by set
	err     error // of list
}

func (s *shaper) list() ([]discipline, error) { return s.all, s.err }

func (s *shaper) set(d discipline) error {
	if s.refused != nil {
		return s.refused
	}
	if d.parent == root {
		s.all = nil
	}
	s.all = slices.DeleteFunc(s.all, func(old discipline) bool { return old.parent == d.parent })
	s.all = append(s.all, d)
	for i := range s.queues {
		if d.kind == perQueue {
			s.all = append(s.all, discipline{"fq_codel", 0, d.handle | uint32(i+1)})
		}
	}
	return nil
}

func TestForgetfulDisciplinesAreReplaced(t *testing.T) {
	for name, c := range map[string]struct {
		queues int
		before []discipline
		after  []discipline
	}{
		"the default of most distributions": {1, []discipline{{"fq_codel", 0, root}}, []discipline{{"pfifo", 0, root}}},
		"one that was set":                  {1, []discipline{{"sfq", 0x80010000, root}}, []discipline{{"pfifo", 0, root}}},
		"one for each queue": {2, []discipline{{"mq", 0, root}, {"fq_codel", 0, 1}, {"fq_codel", 0, 2}},
			[]discipline{{"mq", ownHandle, root}, {"pfifo", 0, ownHandle + 1}, {"pfifo", 0, ownHandle + 2}}},
		"one of an mq that was set": {2, []discipline{{"mq", 7 << 16, root}, {"pfifo_fast", 0, 7<<16 + 1}, {"cake", 9 << 16, 7<<16 + 2}},
			[]discipline{{"mq", 7 << 16, root}, {"pfifo_fast", 0, 7<<16 + 1}, {"pfifo", 0, 7<<16 + 2}}},
		"none of all queues":                 {2, []discipline{{"mq", 0, root}, {"pfifo_fast", 0, 1}, {"pfifo_fast", 0, 2}}, nil},
		"a card without a queue":             {1, []discipline{{"noqueue", 0, root}}, nil},
		"a plain one":                        {1, []discipline{{"pfifo_fast", 0, root}}, nil},
		"a shaper that was set, with leaves": {1, []discipline{{"htb", 1 << 16, root}, {"fq_codel", 2 << 16, 1<<16 + 10}}, nil},
		"one for what arrives":               {1, []discipline{{"noqueue", 0, root}, {"clsact", 0xffff << 16, netlink.HANDLE_CLSACT}}, nil},
		"an interface that has none":         {1, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if c.after == nil {
				c.after = c.before
			}
			s := &shaper{all: slices.Clone(c.before), queues: c.queues}
			if err := replaceForgetful(s, c.queues); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(s.all, c.after) {
				t.Errorf("there are %+v, want %+v", s.all, c.after)
			}
		})
	}
}

func TestForgetfulDisciplineThatStaysIsToldWithWhatToDo(t *testing.T) {
	err := replaceForgetful(&shaper{all: []discipline{{"fq_codel", 0, root}}, refused: unix.EPERM}, 1)
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "fq_codel stays") || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("got %v", err)
	}
}

func TestKernelWithoutDisciplines(t *testing.T) {
	if err := replaceForgetful(&shaper{err: unix.EOPNOTSUPP}, 1); err != nil {
		t.Error(err)
	}
	if err := replaceForgetful(&shaper{err: unix.ENODEV}, 1); !errors.Is(err, unix.ENODEV) {
		t.Errorf("got %v", err)
	}
}

// TestDisciplinesOfTheKernel sets them on real interfaces. Their kernel may lack the
// forgetful ones, so what replaces them is set as if they were there.
func TestDisciplinesOfTheKernel(t *testing.T) {
	veths(t)
	for _, c := range []struct {
		name   string
		queues int
		before []discipline
		after  []discipline // without numbers that the kernel gives
	}{
		{"sp-c", 1, []discipline{{"fq_codel", 0, root}}, []discipline{{"pfifo", 0, root}}},
		{"sp-d", 2, []discipline{{"mq", 0, root}, {"fq_codel", 0, 1}, {"fq_codel", 0, 2}},
			[]discipline{{"mq", ownHandle, root}, {"pfifo", 0, ownHandle + 1}, {"pfifo", 0, ownHandle + 2}}},
	} {
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: c.name, NumTxQueues: c.queues, NumRxQueues: 1}, PeerName: c.name + "-peer"}
		if err := netlink.LinkAdd(pair); err != nil {
			t.Fatal(err)
		}
		link, err := netlink.LinkByName(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		k := kernelDisciplines{link}
		for _, d := range replacements(c.before, link.Attrs().NumTxQueues) {
			if err := k.set(d); err != nil {
				t.Fatal(err)
			}
		}
		if err := keepPackets(c.name); err != nil { // nothing is left to do
			t.Fatal(err)
		}
		all, err := k.list()
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range all {
			if d.kind == plain {
				all[i].handle = 0
			}
		}
		slices.SortFunc(all, func(a, b discipline) int { return cmp.Compare(a.parent+1, b.parent+1) })
		if !slices.Equal(all, c.after) {
			t.Errorf("%s has %+v, want %+v", c.name, all, c.after)
		}
	}
}
