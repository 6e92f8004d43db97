package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespaceDir is where named network namespaces are mounted, as ip-netns(8)
// expects them.
const namespaceDir = "/run/netns"

// Space is a network namespace. Its methods may be called concurrently.
type Space struct {
	// Name under which ip-netns(8) finds it.
	Name   string
	handle netns.NsHandle
	links  *netlink.Handle
	id     inode
}

// inode identifies a namespace: it outlives no namespace, but neither does it
// depend on a name.
type inode struct{ dev, ino uint64 }

func newSpace(name string) (*Space, error) {
	s := &Space{Name: name, handle: netns.None()}
	if err := s.create(); err != nil {
		s.remove()
		return nil, fmt.Errorf("make network namespace %s: %w", name, err)
	}
	return s, nil
}

// ownMount makes a directory of namespaces a shared mount of its own, as ip(8) does when
// it makes its first one. If it did so later, what is mounted in the directory by then
// would be hidden below, and could be neither unmounted nor removed.
func ownMount(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	share := func() error { return unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, "") }
	err = share()
	if errors.Is(err, unix.EINVAL) { // not a mount yet
		if err = unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = share()
		}
	}
	if err != nil {
		return fmt.Errorf("make %s a mount of its own: %w", dir, err)
	}
	return nil
}

func (s *Space) create() error {
	if err := ownMount(namespaceDir); err != nil {
		return err
	}
	err := onLockedThread(func() (err error) {
		if s.handle, err = netns.NewNamed(s.Name); err != nil {
			return err
		}
		return quiet()
	})
	if err != nil {
		return err
	}
	if s.id, err = inodeOf(s.path()); err != nil {
		return err
	}
	if s.links, err = netlink.NewHandleAt(s.handle, unix.NETLINK_ROUTE); err != nil {
		return err
	}
	return s.up("lo")
}

// quiet keeps the kernel from speaking or judging on its own in the present
// namespace: no IPv6 on any later interface, no reverse path filter.
func quiet() error {
	for path, value := range map[string]string{
		"ipv6/conf/all/disable_ipv6":     "1",
		"ipv6/conf/default/disable_ipv6": "1",
		"ipv4/conf/all/rp_filter":        "0",
		"ipv4/conf/default/rp_filter":    "0",
	} {
		err := os.WriteFile(filepath.Join("/proc/sys/net", path), []byte(value), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // no IPv6 in this kernel
			return err
		}
	}
	return nil
}

// longestOutage is for how many seconds a silent neighbour's MAC stays in use. The kernel
// asks for it once in each of them.
const longestOutage = 600

// keepNeighbours lets the kernel use the MACs that it knows on an interface although
// their owners are silent. It would forget them after 8 s: what is sent then waits until
// the owner is back, and the next packets, sent as those are let go, overtake them.
func (s *Space) keepNeighbours(ifname string) error {
	return s.Do(func() error {
		path := filepath.Join("/proc/sys/net/ipv4/neigh", ifname, "ucast_solicit")
		return os.WriteFile(path, []byte(strconv.Itoa(longestOutage)), 0)
	})
}

// Do runs f on a thread that is inside the namespace: sockets opened and
// processes started by f belong there for good. Goroutines that f starts are
// not inside, so give net.Dial literal addresses. f must not call
// runtime.UnlockOSThread more often than LockOSThread.
func (s *Space) Do(f func() error) error {
	return onLockedThread(func() error {
		if err := netns.Set(s.handle); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", s.Name, err)
		}
		return f()
	})
}

// onLockedThread runs f on a thread of its own and leaves that thread in the
// namespace where it was before. If that fails the thread ends with its
// goroutine instead of running other goroutines in the wrong namespace.
func onLockedThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			result <- err
			return
		}
		defer home.Close()
		err = f()
		if back := netns.Set(home); back != nil {
			result <- errors.Join(err, fmt.Errorf("leave network namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
		result <- err
	}()
	return <-result
}

func (s *Space) path() string { return filepath.Join(namespaceDir, s.Name) }

func (s *Space) up(name string) error {
	link, err := s.links.LinkByName(name)
	if err == nil {
		err = s.links.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

// address gives an interface an address in CIDR notation and brings it up.
func (s *Space) address(name, cidr string) error {
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	link, err := s.links.LinkByName(name)
	if err == nil {
		err = s.links.AddrAdd(link, addr)
	}
	if err != nil {
		return fmt.Errorf("give %s the address %s: %w", name, cidr, err)
	}
	return s.up(name)
}

func (s *Space) defaultRoute(via string) error {
	err := s.links.RouteAdd(&netlink.Route{Gw: net.ParseIP(via)})
	if err != nil {
		return fmt.Errorf("add default route via %s: %w", via, err)
	}
	return nil
}

// Processes lists the pids of all processes whose first thread is inside the
// namespace.
func (s *Space) Processes() ([]int, error) { return processesIn(s.id) }

func (s *Space) remove() error {
	if s.links != nil {
		s.links.Close()
	}
	if s.handle.IsOpen() {
		s.handle.Close()
	}
	return removeNamespace(s.Name)
}

func removeNamespace(name string) error {
	path := filepath.Join(namespaceDir, name)
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: not mounted yet
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func inodeOf(path string) (inode, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return inode{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return inode{st.Dev, st.Ino}, nil
}
