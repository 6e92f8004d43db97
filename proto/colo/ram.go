package colo

import "fmt"

// sections reads RAM and command sections until a section of type until,
// whose type byte it takes.
func (r *Reader) sections(s Sink, until byte) error {
	for {
		t, err := r.u8()
		if err != nil {
			return err
		}
		if t == until {
			return nil
		}
		if err := r.oneSection(s, t); err != nil {
			return err
		}
	}
}

func (r *Reader) oneSection(s Sink, t byte) error {
	switch t {
	case sectionStart:
		return r.start(s)
	case sectionPart, sectionEnd:
		r.ending = t == sectionEnd
		return r.part(s)
	case sectionCommand:
		return r.command()
	}
	return malformed("section type %#x among the memory", t)
}

// start reads a section that introduces itself. Only RAM may: another live
// section (a vfio device, a dirty bitmap) cannot be taken apart here.
func (r *Reader) start(s Sink) error {
	id, err := r.u32()
	if err != nil {
		return err
	}
	name, err := r.counted()
	if err != nil {
		return err
	}
	if string(name) != ramName {
		return malformed("section %q, only %q can be read", name, ramName)
	}
	section := Section{ID: id}
	if section.Instance, err = r.u32(); err != nil {
		return err
	}
	if section.Version, err = r.u32(); err != nil {
		return err
	}
	if r.started && section != r.section {
		return malformed("a second RAM section")
	}
	r.section, r.started = section, true
	return r.records(s)
}

func (r *Reader) part(s Sink) error {
	id, err := r.u32()
	if err != nil {
		return err
	}
	if !r.started || id != r.section.ID {
		return malformed("part of the unknown section %d", id)
	}
	return r.records(s)
}

// command passes over a command section: they concern QEMU's own secondary.
func (r *Reader) command() error {
	command, err := r.u16()
	if err != nil {
		return err
	}
	n, err := r.u16()
	if err != nil {
		return err
	}
	if command == cmdPackaged || n > maxCommand {
		return malformed("command %d with %d bytes", command, n)
	}
	return r.skip(int(n))
}

// records reads RAM records up to the end of the section, and its footer.
func (r *Reader) records(s Sink) error {
	for {
		v, err := r.u64()
		if err != nil {
			return err
		}
		flags, offset := v&flagMask, v&^flagMask
		switch flags {
		case flagPage, flagPage | flagContinue:
			err = r.page(s, flags, offset)
		case flagZero, flagZero | flagContinue:
			err = r.zero(s, flags, offset)
		case flagSize:
			err = r.blockList(s, offset)
		case flagEnd:
			return r.footer()
		default:
			err = malformed("RAM record %#x", v)
		}
		if err != nil {
			return err
		}
	}
}

func (r *Reader) footer() error {
	t, err := r.u8()
	if err != nil {
		return err
	}
	if t != sectionFooter {
		return malformed("%#x instead of a section footer", t)
	}
	return r.want("section in the footer", r.section.ID)
}

func (r *Reader) page(s Sink, flags, offset uint64) error {
	if err := r.locate(flags, offset); err != nil {
		return err
	}
	dst, err := s.Page(r.current, offset)
	if err != nil {
		return err
	}
	if len(dst) != PageSize {
		return fmt.Errorf("sink gave %d bytes for a page", len(dst))
	}
	return r.full(dst)
}

func (r *Reader) zero(s Sink, flags, offset uint64) error {
	if err := r.locate(flags, offset); err != nil {
		return err
	}
	fill, err := r.u8()
	if err != nil {
		return err
	}
	if fill != 0 {
		return malformed("page filled with %#x", fill)
	}
	return s.Zero(r.current, offset)
}

// locate finds the block of a page record and checks the offset in it. QEMU
// keeps the block of the last record across sections and checkpoints.
func (r *Reader) locate(flags, offset uint64) error {
	if flags&flagContinue == 0 {
		name, err := r.counted()
		if err != nil {
			return err
		}
		i, ok := r.index[string(name)]
		if !ok {
			return malformed("page of the unknown block %q", name)
		}
		r.current = i
	}
	if r.current < 0 {
		return malformed("page of no block")
	}
	// Both are multiples of the page size, so the page fits if it starts inside.
	if b := &r.blocks[r.current]; offset >= b.Size {
		return malformed("page at %#x of block %q, which has %#x bytes", offset, b.Name, b.Size)
	}
	return nil
}

// blockList reads names and sizes until they add up to total.
func (r *Reader) blockList(s Sink, total uint64) error {
	if r.blocks != nil {
		return malformed("a second block list")
	}
	if total > r.limits.RAM {
		return fmt.Errorf("%w: %d bytes of RAM, at most %d", ErrLimit, total, r.limits.RAM)
	}
	index := make(map[string]int)
	var blocks []Block
	for total > 0 {
		if len(blocks) >= r.limits.Blocks {
			return fmt.Errorf("%w: more than %d RAM blocks", ErrLimit, r.limits.Blocks)
		}
		b, err := r.block(total)
		if err != nil {
			return err
		}
		if _, ok := index[b.Name]; ok {
			return malformed("block %q twice", b.Name)
		}
		index[b.Name] = len(blocks)
		blocks = append(blocks, b)
		total -= b.Size
	}
	if len(blocks) == 0 {
		return malformed("no RAM blocks")
	}
	r.blocks, r.index = blocks, index
	return s.Blocks(blocks)
}

func (r *Reader) block(most uint64) (Block, error) {
	name, err := r.counted()
	if err != nil {
		return Block{}, err
	}
	b := Block{Name: string(name)}
	if b.Size, err = r.u64(); err != nil {
		return b, err
	}
	if b.Name == "" || b.Size%PageSize != 0 || b.Size > most {
		return b, malformed("block %q of %d bytes", b.Name, b.Size)
	}
	if r.addressed {
		_, err = r.u64()
	}
	return b, err
}
