// Package rtnetlink has those messages of the kernel's routing netlink (rtnetlink(7)) that
// tell of interfaces, as pure codecs, and what they say of one that is followed.
package rtnetlink
