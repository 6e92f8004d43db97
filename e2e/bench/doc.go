// Command bench measures what protection costs, as ratios taken in one run. The
// same guest is checkpointed, in turns, by a pair of daemons, by QEMU's own COLO,
// and by the floor: a peer of its QEMU that reads and throws away what QEMU sends
// and answers at once. Nothing that talks to this QEMU can pause the guest for
// less.
//
// Results go to results.json, from which the report and its plots are made:
//
//	bench -report results.json
package main
