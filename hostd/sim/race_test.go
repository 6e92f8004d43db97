//go:build race

package sim

// ordinaryRuns is how many runs the tests take: the race detector makes them slow.
const ordinaryRuns = 300
