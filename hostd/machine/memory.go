package machine

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// availableMemory is how many bytes this process and its children can get without
// somebody being ended for it: the host's, or what its control groups leave. Where
// nothing tells it is boundless.
func availableMemory() uint64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return math.MaxUint64
	}
	available := hostMemory(string(text))
	if text, err = os.ReadFile("/proc/self/cgroup"); err == nil {
		available = min(available, groupMemory("/sys/fs/cgroup", string(text)))
	}
	return available
}

// hostMemory reads /proc/meminfo.
func hostMemory(meminfo string) uint64 {
	values := fields(meminfo)
	available, ok := values["MemAvailable:"]
	if !ok {
		return math.MaxUint64
	}
	return (available + values["SwapFree:"]) << 10
}

// groupMemory is the least that a control group (version 2) of the process, or one
// above it, leaves. What is cached of files counts as free.
func groupMemory(root, self string) uint64 {
	least := uint64(math.MaxUint64)
	for line := range strings.Lines(self) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/")
		if !ok {
			continue
		}
		for dir := filepath.Join(root, path); dir != root && strings.HasPrefix(dir, root); dir = filepath.Dir(dir) {
			least = min(least, leftIn(dir))
		}
	}
	return least
}

func leftIn(group string) uint64 {
	most, err := number(filepath.Join(group, "memory.max"))
	if err != nil { // "max", or no such group
		return math.MaxUint64
	}
	used, err := number(filepath.Join(group, "memory.current"))
	if err != nil {
		return math.MaxUint64
	}
	text, _ := os.ReadFile(filepath.Join(group, "memory.stat"))
	stat := fields(string(text))
	used -= min(used, stat["active_file"]+stat["inactive_file"])
	return most - min(most, used)
}

func number(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// fields reads lines of a name and a number.
func fields(text string) map[string]uint64 {
	values := map[string]uint64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			continue
		}
		if n, err := strconv.ParseUint(words[1], 10, 64); err == nil {
			values[words[0]] = n
		}
	}
	return values
}

// hugePages is what the kernel has in pages of a size, in bytes: those that it may still
// give out, and all. It is as much as one likes where the kernel does not tell.
func hugePages(pools string, size uint64) (free, whole uint64) {
	counts := map[string]uint64{}
	for _, name := range []string{"nr_hugepages", "free_hugepages", "resv_hugepages", "nr_overcommit_hugepages", "surplus_hugepages"} {
		n, err := number(filepath.Join(pools, fmt.Sprintf("hugepages-%dkB", size>>10), name))
		if err != nil {
			return math.MaxUint64, math.MaxUint64
		}
		counts[name] = n
	}
	// Pages that the kernel makes where they are needed, and has not made yet.
	more := counts["nr_overcommit_hugepages"] - min(counts["nr_overcommit_hugepages"], counts["surplus_hugepages"])
	unpromised := counts["free_hugepages"] - min(counts["free_hugepages"], counts["resv_hugepages"])
	return (unpromised + more) * size, (counts["nr_hugepages"] + more) * size
}
