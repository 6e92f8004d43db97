// Command falseqemu stands in for QEMU where only the daemons are measured.
package main

import (
	"fmt"
	"os"

	"github.com/stillpoint-ft/stillpoint/e2e/falseqemu"
)

func main() {
	fmt.Fprintln(os.Stderr, falseqemu.Play(os.Args[1:]))
	os.Exit(1)
}
