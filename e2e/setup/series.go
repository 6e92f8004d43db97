//go:build linux

package main

// series of QEMU that the lab runs.
type series struct {
	// name is part of the wrapper's, qemu-system-x86_64-NAME.
	name string
	// root is where it is unpacked, under build/cache.
	root string
	// want says in words which versions do, as good tells.
	want string
	good func(version) bool
	// backports is true where Debian 13 has it among its backports only.
	backports bool
	// shim is true where it hangs under TCG without the shim.
	shim bool
}

// allSeries: 10.0.13 is the first of its series whose COLO was found right, and
// 10.1 is broken.
var allSeries = []series{
	{name: "10.0", root: "qemu-root", want: "10.0.13 or newer of the 10.0 series", shim: true,
		good: func(v version) bool { return v[0] == 10 && v[1] == 0 && v[2] >= 13 }},
	{name: "11", root: "qemu-root-11", want: "11.1 or newer of the 11 series", backports: true,
		good: func(v version) bool { return v[0] == 11 && v[1] >= 1 }},
}

// defaultSeries is the one that qemu-system-x86_64 in build/bin is: demo,
// benchmarks, and every test that names none, run on it.
const defaultSeries = "11"
