package sim

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/raft"
)

// hostSwitches are the protections of the host. "sync" is one of both: in the
// core world an acknowledgement does not wait for the disk, in the full world
// the log does not sync.
var hostSwitches = []raft.Switch{
	{Name: "apply-wait", Meaning: "a read waits until its index is applied (thesis §6.4; whole hosts alone)"},
	{Name: "fence", Meaning: "what an earlier term's leader lost is proposed again (whole hosts alone)"},
	{Name: "fence-term", Meaning: "a leader takes forwarded proposals in the term alone that they are meant for (whole hosts alone)"},
	{Name: "durable-image", Meaning: "the log is freed only up to what a durable state contains (Raft §7; whole hosts alone)"},
	{Name: "image-sync", Meaning: "a snapshot is synced before it has its name (whole hosts alone)"},
	{Name: "image-marker", Meaning: "that the log begins at a snapshot is on disk before the state is exchanged for it (whole hosts alone)"},
	{Name: "disk-watch", Meaning: "a leader whose disk stalls hands over (whole hosts alone)"},
	{Name: "frame-checksum", Meaning: "frames that have changed on their way break their connection (whole hosts alone)"},
	{Name: "unknown-kinds", Meaning: "what a newer version says in a frame is skipped (whole hosts alone)"},
	{Name: "chain-check", Meaning: "damage in the log is told from a batch that was being written (whole hosts alone)"},
	{Name: "pulse", Meaning: "hosts vouch for one another while groups rest"},
}

// HostProtections lists those of Protections that a host has beside its cores.
func HostProtections() []raft.Switch { return slices.Clone(hostSwitches) }

// Protections lists what Options.Without can switch off.
func Protections() []raft.Switch {
	return append(slices.Clone(hostSwitches), raft.Switches()...)
}

// protections sorts names of protections into the host's own and the cores'.
func protections(names []string) (host.Protections, error) {
	p := host.Protections{Core: []raft.Option{raft.Poison()}}
	for _, name := range names {
		switch name {
		case "fence":
			p.Fence = true
		case "fence-term":
			p.FenceTerm = true
		case "apply-wait":
			p.ApplyWait = true
		case "durable-image":
			p.DurableImage = true
		case "image-sync":
			p.ImageSync = true
		case "image-marker":
			p.ImageMarker = true
		case "disk-watch":
			p.DiskWatch = true
		case "frame-checksum": // the network's own
		case "unknown-kinds":
			p.UnknownKinds = true
		case "chain-check":
			p.ChainCheck = true
		case "pulse":
			p.Pulse = true
		case "sync":
			p.Sync = true
		default:
			off, err := raft.Without(name)
			if err != nil {
				return p, err
			}
			p.Core = append(p.Core, off)
		}
	}
	return p, nil
}

// coreOptions are the options of the cores of the core world.
func coreOptions(names []string) ([]raft.Option, error) {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "pulse" }) // the world's own
	for _, name := range names {
		if slices.ContainsFunc(hostSwitches, func(s raft.Switch) bool { return s.Name == name }) {
			return nil, fmt.Errorf("%q is a protection of whole hosts, which the core world does not have", name)
		}
	}
	off, err := raft.Without(names...)
	return []raft.Option{raft.Poison(), off}, err
}
