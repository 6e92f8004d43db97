// Package lab makes a small world for Stillpoint on one Linux machine: a
// client and a server, hosts that a daemon runs on, and the wires between
// them, all of it in network namespaces. Demo, tests and benchmarks use it.
//
//	 client 10.1.0.2 --- br-in ---+--- up-in  host a  up-out ---+--- br-out --- server 10.2.0.2
//	                              +--- up-in  host b  up-out ---+
//	host a 10.99.0.1 --- br-link --- host b 10.99.0.2
//	host a 10.98.0.1 --- br-arb ---- host b 10.98.0.2, witness w 10.98.0.100
//
// The last line is there with ArbiterEtcd only.
//
// The bridges and all their ports live in one namespace ("net"), where an
// Observer sees what each host sends, whatever the host believes. A wire can
// be unplugged there without the host's interface noticing, as when a switch
// dies.
//
// A Lab needs root. Everything that it makes carries its name, and the name
// carries the pid of its maker: Sweep removes what a maker that died left
// behind: processes, namespaces, mounts, files. It kills only processes whose
// pid and start time a lab recorded, or that carry the lab's name in their
// environment inside one of its namespaces.
package lab
