//go:build race

package primary

const raceDetector = true
