package sim

import (
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// operation is one client call on a register, in the order of the world's
// events: begin and end number events, so that no two are equal.
type operation struct {
	client     int
	write      bool
	key        byte
	value      uint64
	begin, end int64
}

// stillOpen is the end of an operation whose outcome the client never learned.
const stillOpen = int64(1) << 62

// history is what the clients saw.
type history struct {
	clock int64
	ops   []operation
}

func (h *history) tick() int64 {
	h.clock++
	return h.clock
}

// registerModel is one register whose initial value is zero.
var registerModel = porcupine.Model{
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		op := input.(*operation)
		if op.write {
			return true, op.value
		}
		return state.(uint64) == op.value, state
	},
}

// historyTimeout only bounds a search that grows out of hand; the histories are
// drawn so that none does.
const historyTimeout = 10 * time.Second

// check searches an order of each register's operations and returns the key of
// the first register that has none. decided is false if a search was cut off.
func (h *history) check(keys int) (bad byte, ok, decided bool) {
	decided = true
	perKey := make([][]porcupine.Operation, keys)
	for i := range h.ops {
		op := &h.ops[i]
		if int(op.key) >= keys {
			continue
		}
		perKey[op.key] = append(perKey[op.key], porcupine.Operation{ClientId: op.client, Input: op, Call: op.begin, Return: op.end})
	}
	for key, ops := range perKey {
		if !slices.ContainsFunc(ops, func(o porcupine.Operation) bool { return !o.Input.(*operation).write }) {
			continue
		}
		switch porcupine.CheckOperationsTimeout(registerModel, ops, historyTimeout) {
		case porcupine.Illegal:
			return byte(key), false, true
		case porcupine.Unknown:
			decided = false
		}
	}
	return 0, true, decided
}
