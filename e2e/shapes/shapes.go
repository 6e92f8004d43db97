// Package shapes protects machines of many shapes, under load, and has each
// taken over: a machine is more than the one that a demo shows.
package shapes

import (
	"fmt"
	"strings"
)

// Shape of a machine. Its fields are values of the factors below.
type Shape struct {
	Chipset string // pc, q35
	CPUs    string
	Cards   string // in all; the NAT uses two, a machine with one carries no traffic
	Memory  string
	Disk    string // none, or a read-only one: raw, qcow2
	Device  string // one of Devices
	QEMU    string // series
}

// factor is one property of a shape and the values it may have.
type factor struct {
	name   string
	values []string
	of     func(*Shape) *string
}

// factors of machines that run on these series of QEMU.
func factors(qemus []string) []factor {
	return []factor{
		{"chipset", []string{"pc", "q35"}, func(s *Shape) *string { return &s.Chipset }},
		{"processors", []string{"1", "2", "4", "8"}, func(s *Shape) *string { return &s.CPUs }},
		{"cards", []string{"1", "2", "3", "5", "8"}, func(s *Shape) *string { return &s.Cards }},
		{"memory", []string{"256MiB", "1GiB", "4GiB"}, func(s *Shape) *string { return &s.Memory }},
		{"disk", []string{"none", "raw", "qcow2"}, func(s *Shape) *string { return &s.Disk }},
		{"device", devices(), func(s *Shape) *string { return &s.Device }},
		{"QEMU", qemus, func(s *Shape) *string { return &s.QEMU }},
	}
}

// String names the shape, in one word for a test's name.
func (s Shape) String() string {
	return fmt.Sprintf("%s,%scpu,%scards,%s,disk=%s,%s,qemu-%s", s.Chipset, s.CPUs, s.Cards, s.Memory, s.Disk, s.Device, s.QEMU)
}

// Few shapes, in which each value occurs. The rarer ones of a shape come
// together in it.
func Few(qemus []string) (all []Shape) {
	fs := factors(qemus)
	most := 0
	for _, f := range fs {
		most = max(most, len(f.values))
	}
	for n := range most {
		var s Shape
		for i, f := range fs {
			// Shifted, so that not all first values make one shape.
			*f.of(&s) = f.values[(n+i)%len(f.values)]
		}
		all = append(all, s)
	}
	return all
}

// pair of values: the factors' and the values' indexes.
type pair struct{ f, v, g, w int }

// Pairwise is a set of shapes in which each two values of different factors
// meet. It is the same each time.
func Pairwise(qemus []string) (all []Shape) {
	fs := factors(qemus)
	open := map[pair]bool{}
	for f := range fs {
		for g := f + 1; g < len(fs); g++ {
			for v := range fs[f].values {
				for w := range fs[g].values {
					open[pair{f, v, g, w}] = true
				}
			}
		}
	}
	for len(open) > 0 {
		chosen := nextRow(fs, open)
		var s Shape
		for f, v := range chosen {
			*fs[f].of(&s) = fs[f].values[v]
		}
		close(open, chosen)
		all = append(all, s)
	}
	return all
}

// nextRow begins with the first pair that is open and gives each other factor
// the value that meets most of what is open.
func nextRow(fs []factor, open map[pair]bool) []int {
	first := firstOf(fs, open)
	row := make([]int, len(fs))
	for f := range row {
		row[f] = -1
	}
	row[first.f], row[first.g] = first.v, first.w
	for f := range fs {
		if row[f] >= 0 {
			continue
		}
		best, most := 0, -1
		for v := range fs[f].values {
			row[f] = v
			if n := meets(row, f, open); n > most {
				best, most = v, n
			}
		}
		row[f] = best
	}
	return row
}

func firstOf(fs []factor, open map[pair]bool) pair {
	for f := range fs {
		for g := f + 1; g < len(fs); g++ {
			for v := range fs[f].values {
				for w := range fs[g].values {
					if p := (pair{f, v, g, w}); open[p] {
						return p
					}
				}
			}
		}
	}
	return pair{}
}

// meets counts the open pairs of a factor's value with those chosen before.
func meets(row []int, f int, open map[pair]bool) (n int) {
	for g, w := range row {
		if g == f || w < 0 {
			continue
		}
		p := pair{f, row[f], g, w}
		if g < f {
			p = pair{g, w, f, row[f]}
		}
		if open[p] {
			n++
		}
	}
	return n
}

func close(open map[pair]bool, row []int) {
	for f, v := range row {
		for g := f + 1; g < len(row); g++ {
			delete(open, pair{f, v, g, row[g]})
		}
	}
}

// deviceSets are further devices by name: QEMU's arguments for them.
var deviceSets = []struct {
	name string
	args []string
}{
	{"none", nil},
	{"vga", []string{"-device", "VGA,vgamem_mb=32"}},
	{"serial-ports", serialPorts(30)},
	{"usb-and-e1000", []string{"-device", "qemu-xhci,id=xhci", "-device", "usb-tablet", "-device", "e1000"}},
	{"rng-and-balloon", []string{"-device", "virtio-rng-pci", "-device", "virtio-balloon-pci", "-device", "virtio-scsi-pci,num_queues=4"}},
	{"gpu", []string{"-device", "virtio-gpu-pci"}},
}

func devices() (names []string) {
	for _, d := range deviceSets {
		names = append(names, d.name)
	}
	return names
}

func deviceArguments(name string) []string {
	for _, d := range deviceSets {
		if d.name == name {
			return d.args
		}
	}
	return nil
}

// serialPorts is a virtio-serial device with n ports, which nobody opens.
func serialPorts(n int) []string {
	args := []string{"-device", "virtio-serial-pci,id=many,max_ports=31"}
	for port := 1; port <= n; port++ {
		args = append(args, "-chardev", fmt.Sprintf("null,id=many%d", port),
			"-device", strings.Join([]string{"virtserialport", "bus=many.0", fmt.Sprintf("nr=%d", port), fmt.Sprintf("chardev=many%d", port), fmt.Sprintf("name=port%d", port)}, ","))
	}
	return args
}
