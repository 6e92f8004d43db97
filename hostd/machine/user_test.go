package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

// stranger is a user whom no host knows.
func stranger() *User { return &User{UID: 64123, GID: 64124, Groups: []uint32{64125}} }

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
}

func TestLookupUser(t *testing.T) {
	for text, want := range map[string]User{"64123:64124": {UID: 64123, GID: 64124}, "64123:0": {UID: 64123}} {
		if got, err := LookupUser(text); err != nil || got.UID != want.UID || got.GID != want.GID {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	byName, err := LookupUser("nobody")
	if err != nil {
		t.Skip(err)
	}
	byNumber, err := LookupUser(fmt.Sprint(byName.UID))
	if err != nil || byNumber.UID != byName.UID || byNumber.GID != byName.GID || !slices.Equal(byNumber.Groups, byName.Groups) || !slices.Contains(byName.Groups, byName.GID) {
		t.Errorf("by name %+v, by number %+v, %v", byName, byNumber, err)
	}
	if u, err := LookupUser(fmt.Sprintf("%d:64124", byName.UID)); err != nil || u.GID != 64124 {
		t.Errorf("with another group: %+v, %v", u, err)
	}
}

func TestLookupUserRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"nobody-of-that-name": "nobody-of-that-name", "64123": "64123:GID", "root": "is root", "0": "is root", "0:64124": "is root",
		"64123:kvm": `"kvm"`, "nobody-of-that-name:1": "nobody-of-that-name", "4294967295:1": "4294967295", "64123:4294967295": "4294967295",
	} {
		_, err := LookupUser(text)
		wantError(t, err, says)
	}
}

// TestCanOpen asks for files with the rights of the user, and of its groups, only.
func TestCanOpen(t *testing.T) {
	needRoot(t)
	top := t.TempDir()
	open := filepath.Join(top, "open")
	for dir := open; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		_ = os.Mkdir(dir, 0o755)
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	closed := filepath.Join(open, "closed")
	u := stranger()
	file := func(dir, name string, uid, gid int, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(path, nil, 0o600), os.Chown(path, uid, gid), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		path        string
		read, write bool
	}{
		{file(open, "root's", 0, 0, 0o600), false, false},
		{file(open, "everybody's", 0, 0, 0o644), true, false},
		{file(open, "own", int(u.UID), 0, 0o600), true, true},
		{file(open, "group's", 0, int(u.GID), 0o640), true, false},
		{file(open, "another group's", 0, int(u.Groups[0]), 0o660), true, true},
		{file(open, "strangers'", 0, 64126, 0o660), false, false},
		{file(closed, "behind a closed directory", int(u.UID), int(u.GID), 0o666), false, false},
	} {
		for write, want := range map[bool]bool{false: c.read, true: c.write} {
			err := u.CanOpen(c.path, write)
			if (err == nil) != want {
				t.Errorf("%s, write %v: %v", c.path, write, err)
			}
			if err != nil {
				wantError(t, err, "qemu.user, 64123:64124", c.path)
			}
		}
	}
	if err := (*User)(nil).CanOpen(filepath.Join(open, "root's"), true); err != nil || os.Geteuid() != 0 {
		t.Errorf("the daemon itself: %v", err)
	}
	wantError(t, u.CanOpen(filepath.Join(open, "none"), false), "no such file")
}

// TestArgumentsOfAUsersQEMU name nothing in the daemon's directories, and each
// descriptor once. The devices are those of any QEMU.
func TestArgumentsOfAUsersQEMU(t *testing.T) {
	o := full()
	own := (&Machine{o: o}).arguments()
	m := newMachine(o)
	m.user = stranger()
	got := m.arguments()
	all := strings.Join(got, "\n")
	for _, dir := range []string{o.RunDir, o.RAMDir, o.StateDir, escape(o.RunDir)} {
		if strings.Contains(all, dir+"/") {
			t.Errorf("%s is in\n%s", dir, all)
		}
	}
	if !slices.Equal(devices(got), devices(own)) {
		t.Errorf("devices %q, want %q", devices(got), devices(own))
	}
	for i, want := range []string{"id=console,fd=", "mem-path=/proc/self/fd/", "", "id=qmp,server=on,wait=off,fd=", "id=oob,server=on,wait=off,fd=",
		"id=agent,server=on,wait=off,fd=", "id=port0,fd=", "id=port1,fd="} {
		if want = fmt.Sprintf("%s%d", want, firstPassed+i); i != 2 && !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if uri := m.COLOURI(); uri != "unix:/proc/self/fd/5/colo" {
		t.Errorf("COLO at %s", uri)
	}
	if n := len(m.passes()); n != 8 {
		t.Errorf("%d descriptors", n)
	}
}

// TestAUsersQEMU is started as the user, with what it needs and not more: a program in
// its place tells.
func TestAUsersQEMU(t *testing.T) {
	needRoot(t)
	o, said := tellingQEMU(t)
	m := newMachine(o)
	defer m.Remove()
	if err := errors.Join(m.prepare(t.Context()), m.spawn(t.Context())); err != nil {
		t.Fatal(err)
	}
	<-m.Exited()
	text, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"uid 64123 64123 64123 64123", "gid 64124 64124 64124 64124", "groups 64125", "caps 0000000000000000", "ram opens", "directory writes", "the RAM file's name is closed", "the run-dir is closed"} {
		if !strings.Contains(string(text), want+"\n") {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	info, err := os.Stat(m.RAMFile())
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); s.Uid != 64123 || info.Mode().Perm() != privateFile {
		t.Errorf("the RAM file is of user %d, mode %#o", s.Uid, info.Mode().Perm())
	}
	m.Remove()
	if left, _ := filepath.Glob(filepath.Join(o.RunDir, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// tellingQEMU is a script that writes what it may do to what it was told to print to.
func tellingQEMU(t *testing.T) (o Options, said string) {
	t.Helper()
	dir := t.TempDir()
	for above := dir; above != os.TempDir() && above != "/"; above = filepath.Dir(above) {
		if err := os.Chmod(above, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "qemu")
	o = Options{Spec: spec.Machine{Name: "m", Memory: 1 << 20}, Binary: binary, User: stranger(), Log: hclog.NewNullLogger(),
		RunDir: filepath.Join(dir, "run"), RAMDir: filepath.Join(dir, "ram"), StateDir: filepath.Join(dir, "state")}
	script := `#!/bin/sh
exec 2>/dev/null
sed -n 's/^Uid:\t/uid /p; s/^Gid:\t/gid /p; s/^Groups:\t\(.*\) $/groups \1/p; s/^CapEff:\t/caps /p' /proc/self/status | tr '\t' ' '
(: <>/proc/self/fd/3) && echo ram opens
(: >/proc/self/fd/4/new) && echo directory writes
(: <` + filepath.Join(o.RAMDir, "m.ram") + `) || echo "the RAM file's name is closed"
(: >` + filepath.Join(o.RunDir, "new") + `) || echo the run-dir is closed
`
	if err := os.WriteFile(binary, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return o, newMachine(o).outputFile()
}

// TestNothingIsMadeForAFileThatIsClosed to QEMU's user.
func TestNothingIsMadeForAFileThatIsClosed(t *testing.T) {
	needRoot(t)
	o, _ := tellingQEMU(t)
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Spec.Kernel, o.Spec.Disk = image, &spec.Disk{Image: image, Format: "raw"}
	_, err := Start(t.Context(), o)
	wantError(t, err, "may not read "+image, "may not read and write "+image, "qemu.user")
	if _, err := os.Lstat(newMachine(o).RAMFile()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the RAM file: %v", err)
	}
}

// TestAFoundQEMUIsWhoseItIs, whatever the configuration says by now.
func TestAFoundQEMUIsWhoseItIs(t *testing.T) {
	m := newMachine(Options{Spec: spec.Machine{Name: "m"}, RunDir: t.TempDir(), User: stranger()})
	m.runsAs(unix.Ucred{Pid: 1, Uid: uint32(os.Geteuid())})
	if m.user != nil || m.COLOURI() != "unix:"+m.COLOSocket() {
		t.Errorf("without a directory of its own: %+v, %s", m.user, m.COLOURI())
	}
	l, err := net.Listen("unix", m.monitorSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	found, err := Find(m.o, nil)
	found.Release()
	if err != nil || found.user != nil {
		t.Errorf("found: %+v, %v", found.user, err)
	}
	if err := os.Mkdir(m.directory(), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, configured := range []*User{nil, {UID: 7, GID: 8}, stranger()} {
		m.user = configured
		m.runsAs(unix.Ucred{Pid: 1, Uid: 64123, Gid: 64124})
		if m.user == nil || m.user.UID != 64123 || m.user.GID != 64124 {
			t.Errorf("with one: %+v", m.user)
		}
	}
}

// TestListenerIsWhoListens, not who has made the socket.
func TestListenerIsWhoListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f, err := bound(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, ok := listener(path); ok {
		t.Error("somebody listens")
	}
	listens := exec.Command(os.Args[0], "-test.run=^TestListensOn3$")
	listens.Env = append(os.Environ(), "STILLPOINT_TEST_LISTENS=1")
	listens.ExtraFiles = []*os.File{f}
	in, err := listens.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := listens.Start(); err != nil {
		t.Fatal(err)
	}
	defer listens.Wait()
	defer in.Close()
	for {
		if peer, ok := listener(path); ok {
			if int(peer.Pid) != listens.Process.Pid {
				t.Errorf("process %d listens, want %d", peer.Pid, listens.Process.Pid)
			}
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("nobody listens")
		}
	}
}

// TestListensOn3 is the other process of the test above.
func TestListensOn3(t *testing.T) {
	if os.Getenv("STILLPOINT_TEST_LISTENS") == "" {
		t.Skip("run by TestListenerIsWhoListens")
	}
	if err := unix.Listen(3, 1); err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdin.Read(make([]byte, 1))
}
