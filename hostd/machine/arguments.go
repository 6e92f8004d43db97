package machine

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

// RAMBlock is QEMU's name of the guest's main memory.
const RAMBlock = "ram0"

// arguments is QEMU's command line. A primary and its standby must get the
// same devices in the same order: the device state of one is loaded by the
// other.
func (m *Machine) arguments() []string {
	s := m.o.Spec
	args := []string{
		"-name", s.Name + ",debug-threads=on", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", fmt.Sprintf("%s,accel=%s,memory-backend=%s", s.Machine, m.o.Accel, RAMBlock),
		"-m", mebibytes(uint64(s.Memory)), "-smp", strconv.Itoa(s.CPUs),
		"-object", fmt.Sprintf("memory-backend-file,id=%s,share=on,align=%s,size=%s,mem-path=%s",
			RAMBlock, mebibytes(hugePage(m.o.RAMDir)), mebibytes(uint64(s.Memory)), escape(m.ramPath())),
	}
	args = append(args, m.monitors()...)
	args = append(args, m.boot()...)
	args = append(args, m.console()...)
	args = append(args, m.agent()...)
	for i, p := range s.Ports {
		args = append(args, m.networkPort(i, p)...)
	}
	args = append(args, m.o.ExtraArgs...)
	args = append(args, s.ExtraArgs...)
	if m.o.Incoming {
		args = append(args, "-incoming", "defer")
	}
	return args
}

// hugePage is the size in bytes to which QEMU must align RAM from a file of that
// directory, so that its pages, and KVM's, can be huge. By itself it aligns to what
// it takes for the file's page size: 4 KiB on a tmpfs, whatever its pages are.
func hugePage(dir string) uint64 {
	const least = 2 << 20
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil || fs.Type != unix.HUGETLBFS_MAGIC {
		return least
	}
	return max(least, uint64(fs.Bsize))
}

func (m *Machine) boot() []string {
	s, args := m.o.Spec, []string{}
	if s.CPU != "" {
		args = append(args, "-cpu", s.CPU)
	}
	if s.Kernel != "" {
		args = append(args, "-kernel", s.Kernel)
	}
	if s.Initrd != "" {
		args = append(args, "-initrd", s.Initrd)
	}
	if s.Append != "" {
		args = append(args, "-append", s.Append)
	}
	if d := s.Disk; d != nil {
		readOnly := "off"
		if d.ReadOnly {
			readOnly = "on"
		}
		args = append(args, "-drive", fmt.Sprintf("file=%s,format=%s,if=virtio,readonly=%s", escape(d.Image), d.Format, readOnly))
	}
	return args
}

// console is a serial port in any case, so that a machine with and one without
// a console file have the same devices.
func (m *Machine) console() []string {
	if m.o.Spec.Console == "" {
		return []string{"-serial", "null"}
	}
	return []string{"-chardev", fmt.Sprintf("socket,id=console,fd=%d", consoleDescriptor), "-serial", "chardev:console"}
}

func (m *Machine) agent() []string {
	a := m.o.Spec.Agent
	if !a.Enabled {
		return nil
	}
	return []string{
		"-chardev", "socket,id=agent,server=on,wait=off," + m.listensOn(m.AgentSocket()),
		"-device", "virtio-serial-pci",
		"-device", "virtserialport,chardev=agent,id=agentport,name=" + a.Channel,
	}
}

func cardID(port int) string { return fmt.Sprintf("nic%d", port) }

// CardPath is where QEMU's object model has the card of a port.
func CardPath(port int) string { return "/machine/peripheral/" + cardID(port) }

func (m *Machine) networkPort(i int, p spec.Port) []string {
	device := fmt.Sprintf("virtio-net-pci,id=%s,netdev=port%d,mac=%s", cardID(i), i, p.MAC)
	if !p.OffloadsOn() {
		device += ",csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,guest_uso4=off,guest_uso6=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,host_uso=off"
	}
	return []string{
		"-netdev", fmt.Sprintf("tap,id=port%d,%s,vhost=off", i, m.tap(p.Tap)),
		"-device", device,
	}
}

// escape doubles the commas of a value in QEMU's option lists.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }
