module github.com/stillpoint-ft/stillpoint/guestagent/googlegopacketsource

go 1.24.0

require (
	github.com/google/gopacket v1.1.19
	github.com/stillpoint-ft/stillpoint/guestagent v0.1.0
)

require (
	github.com/safchain/ethtool v0.7.0 // indirect
	github.com/stillpoint-ft/stillpoint/proto/agent v0.1.0 // indirect
	github.com/vishvananda/netlink v1.3.1 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
	golang.org/x/sys v0.38.0 // indirect
)

replace (
	github.com/stillpoint-ft/stillpoint/guestagent => ..
	github.com/stillpoint-ft/stillpoint/proto/agent => ../../proto/agent
)
