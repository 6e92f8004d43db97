package machine

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// User that QEMU runs as. nil is the daemon's.
type User struct {
	UID, GID uint32
	// Groups are all that it is in, as kvm may be one.
	Groups []uint32
}

// LookupUser finds a user by its name, or by "uid" or "uid:gid". A uid that this host
// has no user of needs its gid.
func LookupUser(text string) (*User, error) {
	name, group, hasGroup := strings.Cut(text, ":")
	known, err := lookup(name)
	if err != nil && !hasGroup {
		return nil, err
	}
	u := &User{}
	if known != nil {
		if u, err = userOf(known); err != nil {
			return nil, fmt.Errorf("user %q: %w", text, err)
		}
	} else if u.UID, err = numberOf(name); err != nil {
		return nil, fmt.Errorf("user %q is not known on this host: %w", name, err)
	}
	if hasGroup {
		if u.GID, err = numberOf(group); err != nil {
			return nil, fmt.Errorf("user %q: %q is no number of a group", text, group)
		}
	}
	if u.UID == 0 {
		return nil, fmt.Errorf("user %q is root: leave qemu.user out, or name one without privileges", text)
	}
	return u, nil
}

func lookup(name string) (*user.User, error) {
	if _, err := numberOf(name); err == nil {
		known, err := user.LookupId(name)
		if err != nil {
			return nil, fmt.Errorf("no user in /etc/passwd of this host has the uid %s: add one, or give the gid as well (%s:GID)", name, name)
		}
		return known, nil
	}
	known, err := user.Lookup(name)
	if err != nil { // a static program reads the files only, and asks no directory service
		return nil, fmt.Errorf("user %q is not in /etc/passwd of this host: %w; give a user of a directory service as uid:gid", name, err)
	}
	return known, nil
}

func userOf(known *user.User) (*User, error) {
	uid, err := numberOf(known.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := numberOf(known.Gid)
	if err != nil {
		return nil, err
	}
	groups, err := known.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("ask for its groups: %w", err)
	}
	u := &User{UID: uid, GID: gid}
	for _, g := range groups {
		if id, err := numberOf(g); err == nil {
			u.Groups = append(u.Groups, id)
		}
	}
	return u, nil
}

// numberOf a user or group. The largest is none: it means "as it is".
func numberOf(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err == nil && n == 1<<32-1 {
		err = strconv.ErrRange
	}
	return uint32(n), err
}

// credential is what a process is started with; nil for that of the daemon.
func (u *User) credential() *syscall.Credential {
	if u == nil {
		return nil
	}
	return &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
}

// CanOpen fails unless the user can open a file. It asks the kernel, which knows of
// lists and of file systems that have rules of their own.
func (u *User) CanOpen(path string, write bool) error {
	flags, verb := unix.O_RDONLY, "read"
	if write {
		flags, verb = unix.O_RDWR, "read and write"
	}
	err := u.do(func() error {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
	if u != nil && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)) {
		return fmt.Errorf("QEMU's user (qemu.user, %d:%d) may not %s %s: %w; let it, or a group that it is in, do so, and enter the directories above", u.UID, u.GID, verb, path, err)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, path, err)
	}
	return nil
}

// do something with files as that user does it. The thread that has become the user
// ends with the goroutine; nothing that it opens may be a place where others wait.
func (u *User) do(what func() error) error {
	if u == nil {
		return what()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		err := u.become()
		if err == nil {
			err = what()
		}
		done <- err
	}()
	return <-done
}

// become lets the thread, alone, use files as the user does: with no privileges, as
// the kernel takes those about files away with root's number.
func (u *User) become() error {
	var groups *uint32
	if len(u.Groups) > 0 {
		groups = &u.Groups[0]
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(u.Groups)), uintptr(unsafe.Pointer(groups)), 0); e != 0 {
		return fmt.Errorf("take the groups of user %d: %w", u.UID, e)
	}
	_ = unix.Setfsgid(int(u.GID)) // tells no errors
	_ = unix.Setfsuid(int(u.UID))
	gid, _ := unix.SetfsgidRetGid(-1)
	uid, _ := unix.SetfsuidRetUid(-1)
	if uint32(uid) != u.UID || uint32(gid) != u.GID {
		return fmt.Errorf("become user %d:%d: %w", u.UID, u.GID, unix.EPERM)
	}
	return nil
}

// give the user a file that was made for it.
func (u *User) give(path string) error {
	if u == nil {
		return nil
	}
	if err := os.Lchown(path, int(u.UID), int(u.GID)); err != nil {
		return fmt.Errorf("give %s to QEMU's user: %w", path, err)
	}
	return nil
}
