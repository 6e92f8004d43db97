package spec

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
)

// IsName reports that a machine may have the name.
func IsName(name string) bool { return machineName.MatchString(name) }

var (
	machineName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	interfaceName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,15}$`)
	machineType   = regexp.MustCompile(`^(pc|q35|pc-(i440fx|q35)-[0-9]{1,3}\.[0-9]{1,3})$`)
	channelName   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)
)

// IsMachineType says that a specification may name this machine type.
func IsMachineType(name string) bool { return machineType.MatchString(name) }

func (m Machine) check(f *yamlfile.File) {
	if !machineName.MatchString(m.Name) {
		f.Problem("name", "%q is not a valid machine name: 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit", m.Name)
	}
	const mib, least, most = 1 << 20, 16 << 20, 4 << 40
	if m.Memory < least || m.Memory > most || m.Memory%mib != 0 {
		f.Problem("memory", "%d bytes: want 16MiB to 4TiB in whole MiB (M and G count in thousands; write 256MiB or 1GiB)", m.Memory)
	}
	if m.CPUs < 1 || m.CPUs > 255 {
		f.Problem("cpus", "%d: want 1 to 255", m.CPUs)
	}
	if !machineType.MatchString(m.Machine) {
		f.Problem("machine", "%q: want pc, q35, or a version of one as QEMU names it, such as pc-i440fx-10.0 or pc-q35-10.0", m.Machine)
	}
	m.checkBoot(f)
	m.checkPorts(f)
	if m.Agent.Enabled && !channelName.MatchString(m.Agent.Channel) {
		f.Problem("agent.channel", "%q is not a valid channel name: 1 to 63 letters, digits, dots, dashes and underscores", m.Agent.Channel)
	}
	m.checkExtraArgs(f)
	m.Protection.check(f)
}

func (m Machine) checkBoot(f *yamlfile.File) {
	if m.Kernel == "" && m.Disk == nil {
		f.Problem("kernel", "give a kernel or a disk to boot from")
	}
	if m.Kernel == "" && (m.Initrd != "" || m.Append != "") {
		f.Problem("initrd", "initrd and append need a kernel")
	}
	paths := [][2]string{{"kernel", m.Kernel}, {"initrd", m.Initrd}, {"console", m.Console}}
	if m.Disk != nil {
		paths = append(paths, [2]string{"disk.image", m.Disk.Image})
		oneOf(f, "disk.format", m.Disk.Format, "raw", "qcow2")
		if m.Disk.Image == "" {
			f.Problem("disk.image", "is missing")
		}
	}
	for i, c := range m.Append {
		if unicode.IsControl(c) {
			f.Problem("append", "character %U at %d is not allowed in a kernel's command line; write it on one line, or fold it with >-", c, i)
			break
		}
	}
	for _, p := range paths {
		if field, path := p[0], p[1]; path != "" && !filepath.IsAbs(path) {
			f.Problem(field, "%q is not an absolute path: the standby reads the same file", path)
		}
	}
}

func (m Machine) checkPorts(f *yamlfile.File) {
	seen := map[string]string{}
	unique := func(field, value string) {
		if first, ok := seen[value]; ok {
			f.Problem(field, "%q is also %s", value, first)
		}
		seen[value] = field
	}
	for i, p := range m.Ports {
		field := fmt.Sprintf("ports[%d]", i)
		if p.Name == "" {
			f.Problem(field+".name", "is missing")
		}
		unique(field+".name", "port "+p.Name)
		for _, card := range [][2]string{{".tap", p.Tap}, {".uplink", p.Uplink}} {
			name, value := card[0], card[1]
			if !interfaceName.MatchString(value) || slices.Contains(reserved, value) {
				f.Problem(field+name, "%q is not a valid interface name: 1 to 15 letters, digits, dots, dashes and underscores", value)
				continue
			}
			unique(field+name, value)
		}
		if p.MAC == (MAC{}) || p.MAC[0]&1 != 0 {
			f.Problem(field+".mac", "%v is not a unicast MAC address", p.MAC)
		}
		unique(field+".mac", p.MAC.String())
		for j, a := range p.Addresses {
			if why := unfit(a); why != "" {
				f.Problem(fmt.Sprintf("%s.addresses[%d]", field, j), "%v %s", a, why)
			}
		}
	}
}

// unfit says why an address cannot be a guest's: after a takeover it would be
// announced to the whole network.
func unfit(a netip.Addr) string {
	switch {
	case a.Zone() != "":
		return "has a zone; leave out %" + a.Zone()
	case a.Is4In6():
		return "is an IPv4 address in IPv6 form; write " + a.Unmap().String()
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "cannot be the address of a guest"
	}
	return ""
}

// reserved are names that mean something else to the kernel: directories, and all
// interfaces at once in /proc/sys/net.
var reserved = []string{".", "..", "all", "default"}

// owned are QEMU options that the daemon sets itself.
var owned = []string{"-name", "-machine", "-M", "-m", "-smp", "-qmp", "-incoming", "-daemonize", "-S", "-accel", "-enable-kvm", "-mem-path", "-loadvm", "-runas", "-chroot"}

func (m Machine) checkExtraArgs(f *yamlfile.File) {
	for i, a := range m.ExtraArgs {
		if slices.Contains(owned, "-"+strings.TrimLeft(a, "-")) && strings.HasPrefix(a, "-") {
			f.Problem(fmt.Sprintf("extra-args[%d]", i), "%s is set by the daemon", a)
		}
	}
}

func (p Protection) check(f *yamlfile.File) {
	oneOf(f, "protection.checkpoint", p.Checkpoint, Demand, Periodic)
	oneOf(f, "protection.output", p.Output, Hold, Pass)
	oneOf(f, "protection.input-log", p.InputLog, InputSync, InputAsync, InputOff)
	oneOf(f, "protection.on-quiesce-failure", p.OnQuiesceFailure, Force, Skip)
	between := func(field string, v yamlfile.Duration, least, most time.Duration) {
		if d := time.Duration(v); d < least || d > most {
			f.Problem("protection."+field, "%v: want %v to %v", d, least, most)
		}
	}
	between("interval", p.Interval, time.Millisecond, time.Minute)
	between("min-epoch", p.MinEpoch, 0, time.Minute)
	between("max-epoch", p.MaxEpoch, 5*time.Millisecond, time.Minute)
	between("quiesce-deadline", p.QuiesceDeadline, time.Millisecond, 10*time.Second)
	if p.MaxEpoch < p.MinEpoch {
		f.Problem("protection.max-epoch", "%v is less than min-epoch (%v)", time.Duration(p.MaxEpoch), time.Duration(p.MinEpoch))
	}
	if p.Overhead <= 0 || p.Overhead > 1 {
		f.Problem("protection.overhead", "%.4g%%: want more than 0%% and at most 100%%", float64(p.Overhead)*100)
	}
}

func oneOf(f *yamlfile.File, field, v string, allowed ...string) {
	if !slices.Contains(allowed, v) {
		f.Problem(field, "%q is not one of %s", v, strings.Join(allowed, ", "))
	}
}
