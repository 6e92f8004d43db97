//go:build !race

package sim

// ordinaryRuns is how many runs the tests take.
const ordinaryRuns = 10000
