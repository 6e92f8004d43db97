package machine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
)

func machineOf(dir, name string, memory uint64) *Machine {
	return newMachine(Options{Spec: spec.Machine{Name: name, Memory: yamlfile.Size(memory)}, RAMDir: dir})
}

// ownTmpfs is mounted where only the test's thread sees it.
func ownTmpfs(t *testing.T, options string) string {
	t.Helper()
	return ownMount(t, "tmpfs", options)
}

// ownMount is a file system of a kind; what the kernel does not have is skipped.
func ownMount(t *testing.T, kind, options string) string {
	t.Helper()
	runtime.LockOSThread() // it ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skip("needs a mount namespace of its own, for root only: ", err)
	}
	dir := t.TempDir()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	err := unix.Mount(kind, dir, kind, 0, options)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		t.Skipf("this kernel has no %s with %q: %v", kind, options, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestRAMTakesItsRoom: all of it, in a new file that is nobody else's.
func TestRAMTakesItsRoom(t *testing.T) {
	dir := t.TempDir()
	m := machineOf(dir, "m", 8<<20)
	if err := os.WriteFile(m.RAMFile(), []byte("another machine's"), 0o666); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(m.RAMFile()) // by somebody who was quick
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := m.makeRAM(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer m.closeRAM()
	info, err := os.Stat(m.RAMFile())
	if err != nil {
		t.Fatal(err)
	}
	if oldInfo, _ := old.Stat(); os.SameFile(info, oldInfo) {
		t.Error("a file that was there is used")
	}
	if s := info.Sys().(*syscall.Stat_t); info.Size() != 8<<20 || s.Blocks*512 < 8<<20 {
		t.Errorf("%d bytes, %d of them taken", info.Size(), s.Blocks*512)
	}
	wantMode(t, m.RAMFile(), 0o600)
}

// TestRAMDoesNotFollowALink to a file of somebody else.
func TestRAMDoesNotFollowALink(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := machineOf(dir, "m", 1<<20)
	if err := os.Symlink(victim, m.RAMFile()); err != nil {
		t.Fatal(err)
	}
	if err := m.makeRAM(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.closeRAM()
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("the file behind the link: %q, %v", b, err)
	}
}

// TestRAMIsCheckedOnceQEMURuns.
func TestRAMIsCheckedOnceQEMURuns(t *testing.T) {
	dir := t.TempDir()
	m := machineOf(dir, "m", 1<<20)
	start := func() {
		t.Helper()
		if err := m.makeRAM(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	start()
	if err := errors.Join(os.Chmod(m.RAMFile(), 0o644), os.Truncate(m.RAMFile(), 0), os.Truncate(m.RAMFile(), 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := m.checkRAM(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantMode(t, m.RAMFile(), 0o600)
	if info, _ := os.Stat(m.RAMFile()); info.Sys().(*syscall.Stat_t).Blocks*512 < 1<<20 {
		t.Error("room that was given back is not taken again")
	}
	for name, meddle := range map[string]func() error{
		"shorter": func() error { return os.Truncate(m.RAMFile(), 4096) },
		"gone":    func() error { return os.Remove(m.RAMFile()) },
		"another": func() error {
			return errors.Join(os.Remove(m.RAMFile()), os.WriteFile(m.RAMFile(), make([]byte, 1<<20), 0o600))
		},
	} {
		start()
		if err := meddle(); err != nil {
			t.Fatal(err)
		}
		if err := m.checkRAM(t.Context()); err == nil {
			t.Errorf("a RAM file that is %s is accepted", name)
		}
	}
}

func TestNoRoomIsRefusedWithNumbers(t *testing.T) {
	dir := ownTmpfs(t, "size=32m,mode=0700")
	m := machineOf(dir, "m", 48<<20)
	err := m.makeRAM(t.Context())
	m.closeRAM()
	wantError(t, err, "48 MiB", "32 MiB free of 32 MiB", dir, "a tmpfs", "remount")
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v is not ENOSPC", err)
	}
	one, two := machineOf(dir, "one", 20<<20), machineOf(dir, "two", 20<<20)
	if err := one.makeRAM(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer one.closeRAM()
	wantError(t, two.makeRAM(t.Context()), "20 MiB", "12 MiB free")
	two.closeRAM()
}

// TestNoHugePagesIsRefusedWithNumbers: a page of a file for which there is none free is
// a signal that ends QEMU, so it is asked for first.
func TestNoHugePagesIsRefusedWithNumbers(t *testing.T) {
	dir := ownMount(t, "hugetlbfs", "pagesize=2M,mode=0700")
	free, whole := hugePages("/sys/kernel/mm/hugepages", 2<<20)
	if free == math.MaxUint64 {
		t.Skip("this kernel does not tell of its huge pages of 2 MiB")
	}
	m := machineOf(dir, "m", free+2<<20)
	err := m.makeRAM(t.Context())
	m.closeRAM()
	wantError(t, err, dir, "a hugetlbfs", amount(free+2<<20), "vm.nr_hugepages", fmt.Sprintf("%s free of %s", amount(free), amount(whole)))
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v is not ENOSPC", err)
	}
	odd := machineOf(dir, "odd", 1<<20)
	wantError(t, odd.makeRAM(t.Context()), "no whole number", "2097152 bytes")
	odd.closeRAM()
}

// TestAQuotaIsRefusedWithNumbers where this kernel keeps one on a tmpfs.
func TestAQuotaIsRefusedWithNumbers(t *testing.T) {
	dir := ownMount(t, "tmpfs", "usrquota,usrquota_block_hardlimit=16M,mode=0777")
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	// Root has no quota: the thread is another user's for its files, and ends with the test.
	if err := errors.Join(unix.Setfsgid(65534), unix.Setfsuid(65534)); err != nil {
		t.Fatal(err)
	}
	m := machineOf(dir, "m", 32<<20)
	err := m.makeRAM(t.Context())
	m.closeRAM()
	wantError(t, err, "quota", "32 MiB", dir)
	if !errors.Is(err, unix.EDQUOT) {
		t.Errorf("%v is not EDQUOT", err)
	}
}

// TestRoomIsPromisedOnce: of several that fit alone and not together one gets it.
func TestRoomIsPromisedOnce(t *testing.T) {
	dir := ownTmpfs(t, "size=48m,mode=0700")
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	// Other threads reach the tmpfs only by this thread's files.
	reach := filepath.Join("/proc/self/task", strconv.Itoa(unix.Gettid()), "fd", strconv.Itoa(int(d.Fd())))
	const machines = 4
	errs := make([]error, machines)
	var wg sync.WaitGroup
	for i := range errs {
		m := machineOf(reach, strconv.Itoa(i), 32<<20)
		wg.Go(func() {
			errs[i] = m.makeRAM(t.Context())
			m.closeRAM()
		})
	}
	wg.Wait()
	got := 0
	for _, err := range errs {
		if err == nil {
			got++
		} else if !errors.Is(err, unix.ENOSPC) {
			t.Error(err)
		}
	}
	if got != 1 {
		t.Errorf("%d machines of 32 MiB were promised room in 48 MiB: %v", got, errs)
	}
}

func TestATurnCanBeGivenUp(t *testing.T) {
	dir := t.TempDir()
	unlock, err := turn(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := turn(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	unlock()
	if unlock, err = turn(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestWritingTakesRoomToo(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 3<<20 + 4096
	if err := write(t.Context(), f, size); err != nil {
		t.Fatal(err)
	}
	if info, _ := f.Stat(); info.Size() != size {
		t.Errorf("%d bytes", info.Size())
	}
}

func TestRoomErrors(t *testing.T) {
	r := room{dir: "/ram", kind: "a file system of type 0xef53", free: 5 << 30, whole: 10 << 30, memory: math.MaxUint64}
	wantError(t, r.explain(unix.ENOSPC, 6<<30), "6144 MiB", "5120 MiB free of 10240 MiB", "set ram-dir")
	wantError(t, r.explain(unix.EDQUOT, 1<<30), "quota", "1024 MiB", "/ram")
	wantError(t, r.explain(unix.EFBIG, 1<<42), "/ram", "takes no file of")
	wantError(t, r.explain(unix.EIO, 1<<30), "input/output error", "/ram")
	r.memory = 1 << 30
	wantError(t, r.fits(2<<30), "2048 MiB are needed", "1024 MiB of memory left")
	r.memory, r.kind, r.huge = math.MaxUint64, "a hugetlbfs", 1<<30
	wantError(t, r.fits(1<<30+2<<20), "no whole number", "1024 MiB")
	wantError(t, r.explain(unix.ENOSPC, 6<<30), "vm.nr_hugepages")
}

// TestALimitOfTheProcessIsSeenFirst: the kernel's signal would end it.
func TestALimitOfTheProcessIsSeenFirst(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 20 << 20, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_FSIZE, &old)
	m := machineOf(t.TempDir(), "m", 32<<20)
	defer m.closeRAM()
	wantError(t, m.makeRAM(t.Context()), "32 MiB", "20 MiB", "LimitFSIZE")
}

func TestHostMemory(t *testing.T) {
	if got := hostMemory("MemTotal: 100 kB\nMemAvailable:   40 kB\nSwapFree: 2 kB\n"); got != 42<<10 {
		t.Error(got)
	}
	if got := hostMemory("of another kernel"); got != math.MaxUint64 {
		t.Error(got)
	}
}

func TestHugePages(t *testing.T) {
	pools := t.TempDir()
	dir := filepath.Join(pools, "hugepages-2048kB")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]string{"nr": "10", "free": "6", "resv": "1", "nr_overcommit": "4", "surplus": "2"} {
		if err := os.WriteFile(filepath.Join(dir, name+"_hugepages"), []byte(n+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if free, whole := hugePages(pools, 2<<20); free != 7*2<<20 || whole != 12*2<<20 {
		t.Errorf("%d free of %d", free>>21, whole>>21)
	}
	if free, whole := hugePages(pools, 1<<30); free != math.MaxUint64 || whole != math.MaxUint64 {
		t.Errorf("of an unknown size: %d free of %d", free, whole)
	}
}

// TestGroupMemory: the narrowest of the process's control groups counts.
func TestGroupMemory(t *testing.T) {
	root := t.TempDir()
	group := func(name, most, used, stat string) {
		t.Helper()
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"memory.max": most, "memory.current": used, "memory.stat": stat} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	group("a", "1000", "900", "active_file 50\ninactive_file 100\nanon 700")
	group("a/b", "max", "900", "")
	if got := groupMemory(root, "1:name=x:/else\n0::/a/b\n"); got != 250 {
		t.Errorf("%d bytes, want 250", got)
	}
	group("a/b", "100", "200", "")
	if got := groupMemory(root, "0::/a/b"); got != 0 {
		t.Errorf("%d bytes above the limit", got)
	}
	if got := groupMemory(root, "0::/\n"); got != math.MaxUint64 {
		t.Errorf("without a group %d", got)
	}
}
