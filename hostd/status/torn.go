package status

import "fmt"

// TornMessage tells how often checkpoints were torn.
func TornMessage(all uint64) string {
	return fmt.Sprintf("%d checkpoints were taken again: the guest's agent channel moved while it was stopped; their output waits for the next", all)
}
