//go:build linux

package main

import "strings"

// shimUnderTCG sets $shim where QEMU is told to run under TCG, and where the
// environment asks for it.
const shimUnderTCG = `shim=
[ -z "${STILLPOINT_TCG_SHIM:-}" ] || shim=@SHIM@
option=
for word in "$@"; do
  case $option:$word in
  -accel:tcg* | --accel:tcg* | -machine:*accel=tcg* | --machine:*accel=tcg* | -M:*accel=tcg*) shim=@SHIM@ ;;
  esac
  option=$word
done
`

// chooseShim is empty where there is no shim to choose.
func chooseShim(shim string) string {
	if shim == "" {
		return "shim=\n"
	}
	return shimUnderTCG
}

// rootWrapper runs an unpacked QEMU with its own loader and libraries; with the
// shim under TCG, where there is one.
func rootWrapper(root, shim string) string {
	return expand(`#!/bin/sh
# QEMU of Debian 13, run with its own loader and libraries.
`+chooseShim(shim)+`root=@ROOT@
QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu exec "$root/lib64/ld-linux-x86-64.so.2" \
  --library-path "$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu" ${shim:+--preload "$shim"} \
  "$root/usr/bin/qemu-system-x86_64" \
  -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -L "$root/usr/lib/ipxe/qemu" "$@"
`, root, shim)
}

// packagedWrapper runs the system's QEMU; with the shim under TCG, where there
// is one.
func packagedWrapper(qemu, shim string) string {
	return expand(`#!/bin/sh
# The system's QEMU.
`+chooseShim(shim)+`if [ -n "$shim" ]; then
  LD_PRELOAD=$shim${LD_PRELOAD:+:$LD_PRELOAD}
  export LD_PRELOAD
fi
exec @ROOT@ "$@"
`, qemu, shim)
}

func expand(text, root, shim string) string {
	return strings.NewReplacer("@ROOT@", quote(root), "@SHIM@", quote(shim)).Replace(text)
}

// quote makes one word of the shell of a path.
func quote(path string) string {
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
