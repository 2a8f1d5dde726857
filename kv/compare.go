package kv

import (
	"bytes"
	"cmp"
	"context"
)

// holds says whether kv satisfies c. kv has zeros if there is no such key.
func (c *Compare) holds(kv *KeyValue) bool {
	var r int
	switch c.Target {
	case CompareVersion:
		r = cmp.Compare(kv.Version, c.Number)
	case CompareCreate:
		r = cmp.Compare(kv.CreateRevision, c.Number)
	case CompareMod:
		r = cmp.Compare(kv.ModRevision, c.Number)
	case CompareValue:
		r = bytes.Compare(kv.Value, c.Value)
	case CompareLease:
		r = cmp.Compare(kv.Lease, c.Number)
	}
	switch c.Result {
	case CompareEqual:
		return r == 0
	case CompareNotEqual:
		return r != 0
	case CompareGreater:
		return r > 0
	case CompareLess:
		return r < 0
	}
	return true
}

// holdsAbsent says whether a key or range in which there is nothing satisfies c.
// There is no value to compare with: nil is as good as empty on the wire.
func (c *Compare) holdsAbsent() bool {
	return c.Target != CompareValue && c.holds(&KeyValue{})
}

// compare evaluates c at the view's revision.
func (v *view) compare(ctx context.Context, c *Compare) (bool, error) {
	found, holds := false, true
	err := v.each(ctx, c.Key, c.RangeEnd, v.rev, func() (bool, error) {
		ver, err := v.load()
		if err != nil {
			return false, err
		}
		kv := ver.keyValue()
		found, holds = true, c.holds(&kv)
		return holds, nil
	})
	if err != nil {
		return false, err
	}
	if !found {
		return c.holdsAbsent(), nil
	}
	return holds, nil
}

// compare evaluates c on the state before the entry at hand.
func (s *Store) compare(c *Compare) (holds bool, err error) {
	if isPoint(c.RangeEnd) && c.Target != CompareValue {
		l, err := s.latest(c.Key)
		if err != nil {
			return false, err
		}
		return c.holds(&KeyValue{Version: l.version, CreateRevision: l.create, ModRevision: l.at.main, Lease: l.lease}), nil
	}
	err = s.withView(func(v *view) error {
		holds, err = v.compare(context.Background(), c)
		return err
	})
	return holds, err
}
