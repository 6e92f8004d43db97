module github.com/stillpoint-ft/stillpoint/guestagent

go 1.24.0

require (
	github.com/safchain/ethtool v0.7.0
	github.com/stillpoint-ft/stillpoint/proto/agent v0.1.0
	github.com/vishvananda/netlink v1.3.1
	go.uber.org/goleak v1.3.0
	golang.org/x/sys v0.38.0
)

require github.com/vishvananda/netns v0.0.5 // indirect

replace github.com/stillpoint-ft/stillpoint/proto/agent => ../proto/agent
