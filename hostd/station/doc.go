// Package station knows by which stations (MAC addresses), VLAN tags and addresses a guest
// is reached on a port, as its frames and the network's show, and makes the frames that
// announce them.
package station
