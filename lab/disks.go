package lab

import (
	"fmt"

	"github.com/quorate/quorate/smr"
)

// What the language has for disks that are bad or full. All of it is for hosts.

type (
	// damage flips a bit of the command at an index, on a host's disk.
	damage struct {
		index uint64
		id    smr.ReplicaID
	}
	// fill leaves no room on a host's disk, or gives it back.
	fill struct {
		id   smr.ReplicaID
		full bool
	}
)

// damageStep reads "entry 2 at 1".
func (p *parser) damageStep(col int) action {
	p.hostsOnly(col, "damage is")
	p.expect("entry")
	a := damage{index: p.number("an index")}
	p.expect("at")
	a.id = p.replica()
	return a
}

// fillStep reads "disk 1".
func (p *parser) fillStep(col int, full bool) action {
	p.hostsOnly(col, "room on a disk is")
	p.expect("disk")
	return fill{p.replica(), full}
}

func (a damage) act(r *run) error {
	if err := r.world.Damage(a.id, a.index); err != nil {
		return err
	}
	r.recorder.add(Item{At: r.now(), Kind: ItemLog, Replica: a.id, Letter: -1, Text: fmt.Sprintf("a bit of entry %d flips on its disk", a.index)})
	return nil
}

func (a fill) act(r *run) error {
	if err := r.world.Fill(a.id, a.full); err != nil {
		return err
	}
	text := "its disk has room again"
	if a.full {
		text = "its disk is full"
	}
	r.recorder.add(Item{At: r.now(), Kind: ItemLog, Replica: a.id, Letter: -1, Text: text})
	return nil
}
