package shapes

import "encoding/binary"

// emptyQCOW2 is an image of version 2 in which nothing was ever written, as
// QEMU's docs/interop/qcow2.rst has it: the header, an L1 table, a refcount table
// and its one block, a cluster each.
func emptyQCOW2(size uint64) []byte {
	const bits, cluster = 16, 1 << 16
	b := make([]byte, 4*cluster)
	be := binary.BigEndian
	copy(b, "QFI\xfb")
	be.PutUint32(b[4:], 2) // version
	be.PutUint32(b[20:], bits)
	be.PutUint64(b[24:], size)
	be.PutUint32(b[36:], uint32((size+(cluster*cluster/8)-1)/(cluster*cluster/8))) // L1 entries
	be.PutUint64(b[40:], cluster)                                                  // L1 table
	be.PutUint64(b[48:], 2*cluster)                                                // refcount table
	be.PutUint32(b[56:], 1)                                                        // its clusters
	be.PutUint64(b[2*cluster:], 3*cluster)                                         // refcount block
	for i := range 4 {
		be.PutUint16(b[3*cluster+2*i:], 1)
	}
	return b
}
