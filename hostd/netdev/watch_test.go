package netdev

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
	"github.com/stillpoint-ft/stillpoint/hostd/rtnetlink"
)

// followed is an interface that a watcher follows until the test ends.
type followed struct {
	*Followed
	states, rebound chan string
}

func follow(t *testing.T, name string, rebind error) *followed {
	t.Helper()
	f := &followed{states: make(chan string, 100), rebound: make(chan string, 100)}
	last := rtnetlink.Up
	f.Followed = &Followed{Follower: rtnetlink.Follower{Name: name, Index: netns.Link(t, name).Attrs().Index, State: last},
		Rebind: func(index int) error { f.rebound <- fmt.Sprint(index); return rebind },
		Tell: func(state string) {
			if state != last {
				f.states <- state
			}
			last = state
		}}
	w, err := OpenWatcher()
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- w.Follow([]*Followed{f.Followed}) }()
	t.Cleanup(func() {
		w.Close()
		if err := <-ended; err == nil {
			t.Error("who follows has not been told that it is closed")
		}
	})
	return f
}

func told(t *testing.T, told <-chan string, want string) {
	t.Helper()
	select {
	case got := <-told:
		if got != want {
			t.Fatalf("told %q, want %q", got, want)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("nobody tells %q", want)
	}
}

// await reads over what is told until a state is.
func (f *followed) await(t *testing.T, state string) {
	t.Helper()
	for deadline := time.After(5 * time.Second); ; {
		select {
		case got := <-f.states:
			if got == state {
				return
			}
		case <-deadline:
			t.Fatalf("nobody tells %q", state)
		}
	}
}

func TestAnInterfaceIsFollowed(t *testing.T) {
	pair(t)
	f := follow(t, "near", nil)
	must(t, netlink.LinkSetDown(netns.Link(t, "near")))
	told(t, f.states, rtnetlink.Down)
	must(t, netlink.LinkSetUp(netns.Link(t, "near")))
	f.await(t, rtnetlink.Up) // perhaps without a carrier first
	must(t, netlink.LinkDel(netns.Link(t, "far")))
	f.await(t, rtnetlink.Gone)
	netns.Veth(t, "near", "far")
	told(t, f.rebound, fmt.Sprint(netns.Link(t, "near").Attrs().Index))
	f.await(t, rtnetlink.Up)
}

// TestWhatCannotBeBoundIsGone, as before.
func TestWhatCannotBeBoundIsGone(t *testing.T) {
	pair(t)
	f := follow(t, "near", errors.New("not yet"))
	must(t, netlink.LinkDel(netns.Link(t, "near")))
	f.await(t, rtnetlink.Gone)
	netns.Veth(t, "near", "far")
	told(t, f.rebound, fmt.Sprint(netns.Link(t, "near").Attrs().Index))
	select {
	case state := <-f.states:
		t.Errorf("told %q", state)
	default:
	}
}

// TestLostMessages: all interfaces are listed anew, and one that went meanwhile is gone.
func TestLostMessages(t *testing.T) {
	pair(t)
	w, err := OpenWatcher()
	must(t, err)
	defer w.Close()
	must(t, w.raw.Control(func(fd uintptr) {
		must(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1)) // the least there is
	}))
	states := make(chan string, 1000)
	f := &Followed{Follower: rtnetlink.Follower{Name: "near", Index: netns.Link(t, "near").Attrs().Index, State: rtnetlink.Up},
		Rebind: func(int) error { return nil }, Tell: func(state string) { states <- state }}
	for range 20 { // more than there is room for
		must(t, netlink.LinkSetDown(netns.Link(t, "far")))
		must(t, netlink.LinkSetUp(netns.Link(t, "far")))
	}
	must(t, netlink.LinkDel(netns.Link(t, "near")))
	ended := make(chan error, 1)
	go func() { ended <- w.Follow([]*Followed{f}) }()
	for {
		select {
		case state := <-states:
			if state == rtnetlink.Gone {
				w.Close()
				<-ended
				return
			}
		case err := <-ended:
			t.Fatalf("it follows no more: %v", err)
		case <-time.After(5 * time.Second):
			t.Fatal("nobody tells that it is gone")
		}
	}
}
