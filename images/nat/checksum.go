package nat

// checksum is the Internet checksum (RFC 1071) of b, started from sum.
func checksum(b []byte, sum uint32) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(be16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return ^fold(sum)
}

func fold(sum uint32) uint16 {
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// update16 is a checksum after one 16-bit word below it has changed (RFC 1624,
// equation 3).
func update16(sum, from, to uint16) uint16 {
	return ^fold(uint32(^sum) + uint32(^from) + uint32(to))
}

func update32(sum uint16, from, to uint32) uint16 {
	return update16(update16(sum, uint16(from>>16), uint16(to>>16)), uint16(from), uint16(to))
}

// nonZero writes UDP's zero as its other form, because zero means "none" there.
func nonZero(proto byte, sum uint16) uint16 {
	if proto == protoUDP && sum == 0 {
		return 0xffff
	}
	return sum
}
