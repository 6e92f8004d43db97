//go:build !faults

package fault

// FromEnvironment returns no hook: this build has no faults.
func FromEnvironment() (Hook, error) { return None, nil }
