// Package sim runs whole daemons against each other: the real hostd/daemon with
// its gate, capture, replica, link and role machine, over QEMUs, interfaces, a
// network and an arbiter that are made of memory, in one fake clock. Operators
// and faults are drawn from a seed. An oracle watches every frame that leaves a
// host. All of it is in the tests; "make sim" runs more of them.
package sim
