package kv

import (
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate/smr"
)

// codecVersion is the first byte of every command, result and query.
const codecVersion = 1

// The flag bytes of requests.
const (
	rangeKeysOnly  = 1 << 0
	rangeCountOnly = 1 << 1
	rangeNoCount   = 1 << 2
	rangeFilters   = 1 << 3

	putPrevKv      = 1 << 0
	putIgnoreValue = 1 << 1
	putIgnoreLease = 1 << 2

	deletePrevKv = 1 << 0
)

// The kinds of operations inside a transaction and of queries.
const (
	opRange       = 1
	opPut         = 2
	opDeleteRange = 3
	opTxn         = 4
)

// AppendCommand appends the encoding of c to dst; the package comment draws it.
func AppendCommand(dst []byte, c *Command) []byte {
	dst = append(dst, codecVersion, byte(c.Kind))
	switch c.Kind {
	case CommandPut:
		dst = appendPut(dst, &c.Put)
	case CommandDeleteRange:
		dst = appendDeleteRange(dst, &c.DeleteRange)
	case CommandTxn:
		dst = appendTxn(dst, &c.Txn)
	case CommandCompact:
		dst = appendInt(dst, c.Compact.Revision)
	}
	return dst
}

// DecodeCommand reads a command from the whole of b into c, which shares b's
// memory. The error wraps ErrBadCommand. Memory allocated is proportional to b.
func DecodeCommand(b []byte, c *Command) error {
	*c = Command{}
	if len(b) < 2 || b[0] != codecVersion {
		return fmt.Errorf("command of %d bytes with an unknown version: %w", len(b), ErrBadCommand)
	}
	c.Kind = CommandKind(b[1])
	d := smr.Decoder{B: b[2:]}
	switch c.Kind {
	case CommandPut:
		decodePut(&d, &c.Put)
	case CommandDeleteRange:
		decodeDeleteRange(&d, &c.DeleteRange)
	case CommandTxn:
		decodeTxn(&d, &c.Txn, txnDepthMax)
	case CommandCompact:
		c.Compact.Revision = decodeInt(&d)
	default:
		d.Failed = true
	}
	if d.Failed || len(d.B) != 0 {
		kind := c.Kind
		*c = Command{}
		return fmt.Errorf("command of kind %d: %w", kind, ErrBadCommand)
	}
	return nil
}

// Query is a question for Lookup: a range, or a transaction that only reads.
// Exactly one field is set.
type Query struct {
	Range *RangeRequest
	Txn   *TxnRequest
}

// AppendQuery appends the encoding of q to dst.
func AppendQuery(dst []byte, q *Query) []byte {
	dst = append(dst, codecVersion)
	return appendOp(dst, &Op{Range: q.Range, Txn: q.Txn})
}

// DecodeQuery reads a query from the whole of b. The result shares b's memory.
// The error wraps ErrBadCommand.
func DecodeQuery(b []byte) (q Query, err error) {
	d := smr.Decoder{B: b}
	if d.Byte() != codecVersion {
		return q, fmt.Errorf("query with an unknown version: %w", ErrBadCommand)
	}
	var op Op
	decodeOp(&d, &op, txnDepthMax)
	if d.Failed || len(d.B) != 0 || op.Range == nil && op.Txn == nil {
		return q, fmt.Errorf("query: %w", ErrBadCommand)
	}
	return Query{Range: op.Range, Txn: op.Txn}, nil
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func appendInt(dst []byte, v int64) []byte { return binary.AppendUvarint(dst, uint64(v)) }

func decodeInt(d *smr.Decoder) int64 { return int64(d.Uvarint()) }

// decodeFlags reads a byte in which only the bits of known may be set.
func decodeFlags(d *smr.Decoder, known byte) byte {
	v := d.Byte()
	if v&^known != 0 {
		d.Failed = true
	}
	return v
}

// decodeCount reads the number of items, each of at least itemBytesMin bytes.
func decodeCount(d *smr.Decoder, itemBytesMin int) int {
	n := d.Uvarint()
	if n > uint64(len(d.B)/itemBytesMin) {
		d.Failed = true
		return 0
	}
	return int(n)
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

func appendPut(dst []byte, p *PutRequest) []byte {
	dst = append(dst, flag(p.PrevKv, putPrevKv)|flag(p.IgnoreValue, putIgnoreValue)|flag(p.IgnoreLease, putIgnoreLease))
	dst = appendBytes(dst, p.Key)
	dst = appendBytes(dst, p.Value)
	return appendInt(dst, p.Lease)
}

func decodePut(d *smr.Decoder, p *PutRequest) {
	flags := decodeFlags(d, putPrevKv|putIgnoreValue|putIgnoreLease)
	p.PrevKv, p.IgnoreValue, p.IgnoreLease = flags&putPrevKv != 0, flags&putIgnoreValue != 0, flags&putIgnoreLease != 0
	p.Key, p.Value, p.Lease = d.Bytes(), d.Bytes(), decodeInt(d)
}

func appendDeleteRange(dst []byte, r *DeleteRangeRequest) []byte {
	dst = append(dst, flag(r.PrevKv, deletePrevKv))
	dst = appendBytes(dst, r.Key)
	return appendBytes(dst, r.RangeEnd)
}

func decodeDeleteRange(d *smr.Decoder, r *DeleteRangeRequest) {
	r.PrevKv = decodeFlags(d, deletePrevKv) != 0
	r.Key, r.RangeEnd = d.Bytes(), d.Bytes()
}

func appendRange(dst []byte, r *RangeRequest) []byte {
	dst = append(dst, flag(r.KeysOnly, rangeKeysOnly)|flag(r.CountOnly, rangeCountOnly)|
		flag(r.NoCount, rangeNoCount)|flag(r.hasFilters(), rangeFilters))
	dst = append(dst, byte(r.SortOrder), byte(r.SortTarget))
	dst = appendBytes(dst, r.Key)
	dst = appendBytes(dst, r.RangeEnd)
	dst = appendInt(dst, r.Limit)
	dst = appendInt(dst, r.Revision)
	if r.hasFilters() {
		dst = appendInt(dst, r.MinModRevision)
		dst = appendInt(dst, r.MaxModRevision)
		dst = appendInt(dst, r.MinCreateRevision)
		dst = appendInt(dst, r.MaxCreateRevision)
	}
	return dst
}

func decodeRange(d *smr.Decoder, r *RangeRequest) {
	flags := decodeFlags(d, rangeKeysOnly|rangeCountOnly|rangeNoCount|rangeFilters)
	r.KeysOnly, r.CountOnly, r.NoCount = flags&rangeKeysOnly != 0, flags&rangeCountOnly != 0, flags&rangeNoCount != 0
	r.SortOrder, r.SortTarget = SortOrder(d.Byte()), SortTarget(d.Byte())
	r.Key, r.RangeEnd, r.Limit, r.Revision = d.Bytes(), d.Bytes(), decodeInt(d), decodeInt(d)
	if flags&rangeFilters != 0 {
		r.MinModRevision, r.MaxModRevision = decodeInt(d), decodeInt(d)
		r.MinCreateRevision, r.MaxCreateRevision = decodeInt(d), decodeInt(d)
	}
}

// The least bytes of a compare and of an operation.
const (
	compareBytesMin = 6
	opBytesMin      = 1
)

func appendTxn(dst []byte, t *TxnRequest) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(t.Compare)))
	for i := range t.Compare {
		c := &t.Compare[i]
		dst = append(dst, byte(c.Result), byte(c.Target))
		dst = appendBytes(dst, c.Key)
		dst = appendBytes(dst, c.RangeEnd)
		dst = appendBytes(dst, c.Value)
		dst = appendInt(dst, c.Number)
	}
	for _, ops := range [2][]Op{t.Success, t.Failure} {
		dst = binary.AppendUvarint(dst, uint64(len(ops)))
		for i := range ops {
			dst = appendOp(dst, &ops[i])
		}
	}
	return dst
}

func decodeTxn(d *smr.Decoder, t *TxnRequest, depth int) {
	if depth == 0 {
		d.Failed = true
		return
	}
	if n := decodeCount(d, compareBytesMin); n > 0 {
		t.Compare = make([]Compare, n)
	}
	for i := range t.Compare {
		c := &t.Compare[i]
		c.Result, c.Target = CompareResult(d.Byte()), CompareTarget(d.Byte())
		c.Key, c.RangeEnd, c.Value, c.Number = d.Bytes(), d.Bytes(), d.Bytes(), decodeInt(d)
	}
	for _, ops := range [2]*[]Op{&t.Success, &t.Failure} {
		if n := decodeCount(d, opBytesMin); n > 0 {
			*ops = make([]Op, n)
		}
		for i := range *ops {
			decodeOp(d, &(*ops)[i], depth-1)
		}
	}
}

// appendOp appends kind byte | body. An empty operation has kind 0 and is
// refused when it is applied.
func appendOp(dst []byte, o *Op) []byte {
	switch {
	case o.Range != nil:
		return appendRange(append(dst, opRange), o.Range)
	case o.Put != nil:
		return appendPut(append(dst, opPut), o.Put)
	case o.DeleteRange != nil:
		return appendDeleteRange(append(dst, opDeleteRange), o.DeleteRange)
	case o.Txn != nil:
		return appendTxn(append(dst, opTxn), o.Txn)
	}
	return append(dst, 0)
}

func decodeOp(d *smr.Decoder, o *Op, depth int) {
	if d.Failed {
		return
	}
	switch d.Byte() {
	case 0:
	case opRange:
		o.Range = new(RangeRequest)
		decodeRange(d, o.Range)
	case opPut:
		o.Put = new(PutRequest)
		decodePut(d, o.Put)
	case opDeleteRange:
		o.DeleteRange = new(DeleteRangeRequest)
		decodeDeleteRange(d, o.DeleteRange)
	case opTxn:
		o.Txn = new(TxnRequest)
		decodeTxn(d, o.Txn, depth)
	default:
		d.Failed = true
	}
}
