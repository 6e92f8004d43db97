//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// options of a guest, from its kernel command line.
type options struct {
	plain     bool // no /nat in the image
	nat       []string
	addresses map[string][]netip.Prefix // of a card, by its name
	dirty     int                       // pages
	shell     bool
	flood     bool // the agent channel with garbage
	offloads  bool // the cards keep theirs
}

// parseOptions takes the words that begin with "stillpoint."; one that it does
// not know is an error, for a typing error would be hard to find otherwise.
func parseOptions(line string) (options, error) {
	o := options{addresses: map[string][]netip.Prefix{}}
	for _, word := range strings.Fields(line) {
		name, value, _ := strings.Cut(strings.Trim(word, `"`), "=")
		name, ours := strings.CutPrefix(name, "stillpoint.")
		if !ours {
			continue
		}
		if err := o.set(name, strings.Trim(value, `"`)); err != nil {
			return o, fmt.Errorf("stillpoint.%s: %w", name, err)
		}
	}
	return o, nil
}

func (o *options) set(name, value string) (err error) {
	switch {
	case name == "nat":
		o.nat = list(value)
	case name == "dirty":
		o.dirty, err = pages(value)
	case name == "shell":
		o.shell = true
	case name == "offloads" && value == "keep":
		o.offloads = true
	case name == "channel" && value == "flood":
		o.flood = true
	case strings.HasPrefix(name, "eth"):
		o.addresses[name], err = prefixes(value)
	default:
		err = fmt.Errorf("no such option")
	}
	return err
}

func list(value string) []string {
	if value == "" {
		return nil
	}
	return strings.Split(value, ",")
}

func pages(value string) (int, error) {
	const most = 1 << 20 // 4 GiB
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%q is no number of pages from 0 to %d", value, most)
	}
	return n, nil
}

func prefixes(value string) ([]netip.Prefix, error) {
	var found []netip.Prefix
	for _, word := range list(value) {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return nil, err
		}
		if !p.Addr().Is4() {
			return nil, fmt.Errorf("%s is no IPv4 address", p)
		}
		found = append(found, p)
	}
	return found, nil
}
