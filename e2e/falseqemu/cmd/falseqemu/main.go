// Command falseqemu stands in for QEMU where only the daemons are measured.
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/stillpoint-ft/stillpoint/e2e/falseqemu"
)

func main() {
	runtime.GOMAXPROCS(1) // there are hundreds of them
	fmt.Fprintln(os.Stderr, falseqemu.Play(os.Args[1:]))
	os.Exit(1)
}
