package colo

import (
	"io"
	"slices"
)

func (r *Reader) header() (Header, error) {
	if err := r.want("magic", fileMagic); err != nil {
		return Header{}, err
	}
	if err := r.want("stream version", fileVersion); err != nil {
		return Header{}, err
	}
	t, err := r.u8()
	if err != nil {
		return Header{}, err
	}
	if t != sectionConfiguration {
		return Header{}, malformed("section type %#x instead of the configuration", t)
	}
	return r.configuration()
}

// configuration reads the machine's name and the subsections after it
// (vmstate_configuration in migration/savevm.c).
func (r *Reader) configuration() (Header, error) {
	var h Header
	n, err := r.u32()
	if err != nil {
		return h, err
	}
	if n == 0 || n > maxName {
		return h, malformed("machine name of %d bytes", n)
	}
	if err := r.full(r.scratch[:n]); err != nil {
		return h, err
	}
	h.Machine = string(r.scratch[:n])
	for {
		more, err := r.nextIs(sectionSubsection)
		if err != nil || !more {
			return h, err
		}
		if err := r.subsection(&h); err != nil {
			return h, err
		}
	}
}

// nextIs looks at the next section's type without taking it.
func (r *Reader) nextIs(t byte) (bool, error) {
	b, err := r.buf.Peek(1)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err == nil && b[0] == t, err
}

func (r *Reader) subsection(h *Header) error {
	if _, err := r.u8(); err != nil {
		return err
	}
	b, err := r.counted()
	if err != nil {
		return err
	}
	name := string(b)
	if err := r.want("version of "+name, 1); err != nil {
		return err
	}
	switch name {
	case configCapabilities:
		return r.capabilities(h)
	case configPageBits:
		return r.want("page bits", pageBits)
	case configUUID:
		return r.skip(16)
	}
	return malformed("unknown subsection %q", name)
}

func (r *Reader) capabilities(h *Header) error {
	n, err := r.u32()
	if err != nil {
		return err
	}
	if n > maxCapabilities || len(h.Capabilities) > 0 {
		return malformed("%d capabilities", n)
	}
	for range n {
		b, err := r.counted()
		if err != nil {
			return err
		}
		h.Capabilities = append(h.Capabilities, string(b))
	}
	r.addressed = slices.Contains(h.Capabilities, capIgnoreShared)
	return nil
}
