package etcdapi

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers what it falls back to
	"google.golang.org/grpc/mem"
)

// codec is gRPC's codec of protocol buffers, with code by hand for the messages
// of single puts and ranges: walking their descriptions costs several times what
// it costs to write the bytes. Every other message goes to gRPC's own codec, and
// so does a request that this one does not understand in full: unknown fields,
// and what is malformed, have one meaning and one error text.
//
// What it writes is byte for byte what gRPC's codec writes.
type codec struct {
	encoding.CodecV2
	traffic *traffic
}

// traffic counts the bytes of messages.
type traffic struct{ received, sent atomic.Uint64 }

func newCodec(t *traffic) codec { return codec{encoding.GetCodecV2("proto"), t} }

// The wire types of protocol buffers.
const (
	wireVarint = 0
	wireBytes  = 2
)

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *pb.PutResponse:
		if m != nil {
			size := putResponseSize(m)
			c.traffic.sent.Add(uint64(size))
			return filled(size, func(b []byte) []byte { return appendPutResponse(b, m) }), nil
		}
	case *pb.RangeResponse:
		if m != nil {
			size := rangeResponseSize(m)
			c.traffic.sent.Add(uint64(size))
			return filled(size, func(b []byte) []byte { return appendRangeResponse(b, m) }), nil
		}
	}
	b, err := c.CodecV2.Marshal(v)
	if err == nil {
		c.traffic.sent.Add(uint64(b.Len()))
	}
	return b, err
}

// filled returns size bytes that fill appends, in memory of gRPC's pool where
// that pays.
func filled(size int, fill func(b []byte) []byte) mem.BufferSlice {
	if mem.IsBelowBufferPoolingThreshold(size) {
		return mem.BufferSlice{mem.SliceBuffer(fill(make([]byte, 0, size)))}
	}
	pool := mem.DefaultBufferPool()
	buf := pool.Get(size)
	fill((*buf)[:0])
	return mem.BufferSlice{mem.NewBuffer(buf, pool)}
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	c.traffic.received.Add(uint64(data.Len()))
	switch m := v.(type) {
	case *pb.PutRequest:
		buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buf.Free()
		if decodePutRequest(buf.ReadOnlyData(), m) {
			return nil
		}
	case *pb.RangeRequest:
		buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buf.Free()
		if decodeRangeRequest(buf.ReadOnlyData(), m) {
			return nil
		}
	}
	return c.CodecV2.Unmarshal(data, v)
}

// field is one field of a message.
type field struct {
	number int
	wire   byte
	varint uint64
	bytes  []byte
}

// nextField cuts a field off b. It knows numbers below 16, which are one byte
// with their wire type, in varints and bytes.
func nextField(b []byte) (f field, rest []byte, ok bool) {
	if len(b) == 0 || b[0] >= 0x80 || b[0] < 1<<3 {
		return f, nil, false
	}
	f.number, f.wire = int(b[0]>>3), b[0]&7
	v, n := binary.Uvarint(b[1:])
	if n <= 0 {
		return f, nil, false
	}
	b = b[1+n:]
	switch f.wire {
	case wireVarint:
		f.varint = v
	case wireBytes:
		if v > uint64(len(b)) {
			return f, nil, false
		}
		f.bytes, b = b[:v], b[v:]
	default:
		return f, nil, false
	}
	return f, b, true
}

// decodePutRequest reads b into r, which is empty. It reports false, and leaves r
// empty, for what it does not understand.
func decodePutRequest(b []byte, r *pb.PutRequest) bool {
	var key, value []byte
	var lease uint64
	var flags [7]bool // by field number
	for len(b) > 0 {
		f, rest, ok := nextField(b)
		if !ok {
			return false
		}
		b = rest
		switch {
		case f.number == 1 && f.wire == wireBytes:
			key = f.bytes
		case f.number == 2 && f.wire == wireBytes:
			value = f.bytes
		case f.number == 3 && f.wire == wireVarint:
			lease = f.varint
		case f.number >= 4 && f.number <= 6 && f.wire == wireVarint:
			flags[f.number] = f.varint != 0
		default:
			return false
		}
	}
	r.Key, r.Value = copyTwo(key, value)
	r.Lease, r.PrevKv, r.IgnoreValue, r.IgnoreLease = int64(lease), flags[4], flags[5], flags[6]
	return true
}

// decodeRangeRequest is decodePutRequest for a range.
func decodeRangeRequest(b []byte, r *pb.RangeRequest) bool {
	var key, end []byte
	var numbers [14]uint64 // by field number
	for len(b) > 0 {
		f, rest, ok := nextField(b)
		if !ok {
			return false
		}
		b = rest
		switch {
		case f.number == 1 && f.wire == wireBytes:
			key = f.bytes
		case f.number == 2 && f.wire == wireBytes:
			end = f.bytes
		case f.number >= 3 && f.number <= 13 && f.wire == wireVarint:
			numbers[f.number] = f.varint
		default:
			return false
		}
	}
	r.Key, r.RangeEnd = copyTwo(key, end)
	r.Limit, r.Revision = int64(numbers[3]), int64(numbers[4])
	r.SortOrder, r.SortTarget = pb.RangeRequest_SortOrder(numbers[5]), pb.RangeRequest_SortTarget(numbers[6])
	r.Serializable, r.KeysOnly, r.CountOnly = numbers[7] != 0, numbers[8] != 0, numbers[9] != 0
	r.MinModRevision, r.MaxModRevision = int64(numbers[10]), int64(numbers[11])
	r.MinCreateRevision, r.MaxCreateRevision = int64(numbers[12]), int64(numbers[13])
	return true
}

// copyTwo copies both into one piece of memory; what is empty becomes nil.
func copyTwo(a, b []byte) (x, y []byte) {
	n := len(a)
	all := append(append(make([]byte, 0, n+len(b)), a...), b...)
	if n > 0 {
		x = all[:n:n]
	}
	if len(b) > 0 {
		y = all[n:]
	}
	return x, y
}

func varintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// numberSize is the size of a field with a number below 16; zero is left out.
func numberSize(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + varintSize(v)
}

func bytesSize(n int) int {
	if n == 0 {
		return 0
	}
	return messageSize(n)
}

// messageSize is bytesSize for what is there though it be empty.
func messageSize(n int) int { return 1 + varintSize(uint64(n)) + n }

func appendNumber(b []byte, number byte, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(append(b, number<<3|wireVarint), v)
}

func appendBytes(b []byte, number byte, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return append(appendLength(b, number, len(v)), v...)
}

// appendLength appends what comes before the n bytes of a field.
func appendLength(b []byte, number byte, n int) []byte {
	return binary.AppendUvarint(append(b, number<<3|wireBytes), uint64(n))
}

func headerSize(h *pb.ResponseHeader) int {
	return numberSize(h.GetClusterId()) + numberSize(h.GetMemberId()) +
		numberSize(uint64(h.GetRevision())) + numberSize(h.GetRaftTerm())
}

func appendHeader(b []byte, h *pb.ResponseHeader) []byte {
	if h == nil {
		return b
	}
	b = appendLength(b, 1, headerSize(h))
	b = appendNumber(b, 1, h.ClusterId)
	b = appendNumber(b, 2, h.MemberId)
	b = appendNumber(b, 3, uint64(h.Revision))
	return appendNumber(b, 4, h.RaftTerm)
}

func keyValueSize(kv *mvccpb.KeyValue) int {
	return bytesSize(len(kv.GetKey())) + bytesSize(len(kv.GetValue())) + numberSize(uint64(kv.GetCreateRevision())) +
		numberSize(uint64(kv.GetModRevision())) + numberSize(uint64(kv.GetVersion())) + numberSize(uint64(kv.GetLease()))
}

// appendKeyValue appends kv as field 2, which it is in both answers.
func appendKeyValue(b []byte, kv *mvccpb.KeyValue) []byte {
	b = appendLength(b, 2, keyValueSize(kv))
	b = appendBytes(b, 1, kv.GetKey())
	b = appendNumber(b, 2, uint64(kv.GetCreateRevision()))
	b = appendNumber(b, 3, uint64(kv.GetModRevision()))
	b = appendNumber(b, 4, uint64(kv.GetVersion()))
	b = appendBytes(b, 5, kv.GetValue())
	return appendNumber(b, 6, uint64(kv.GetLease()))
}

func putResponseSize(r *pb.PutResponse) (n int) {
	if r.Header != nil {
		n += messageSize(headerSize(r.Header))
	}
	if r.PrevKv != nil {
		n += messageSize(keyValueSize(r.PrevKv))
	}
	return n
}

func appendPutResponse(b []byte, r *pb.PutResponse) []byte {
	b = appendHeader(b, r.Header)
	if r.PrevKv != nil {
		b = appendKeyValue(b, r.PrevKv)
	}
	return b
}

func rangeResponseSize(r *pb.RangeResponse) (n int) {
	if r.Header != nil {
		n += messageSize(headerSize(r.Header))
	}
	for _, kv := range r.Kvs {
		n += messageSize(keyValueSize(kv))
	}
	if r.More {
		n += 2
	}
	return n + numberSize(uint64(r.Count))
}

func appendRangeResponse(b []byte, r *pb.RangeResponse) []byte {
	b = appendHeader(b, r.Header)
	for _, kv := range r.Kvs {
		b = appendKeyValue(b, kv)
	}
	if r.More {
		b = append(b, 3<<3|wireVarint, 1)
	}
	return appendNumber(b, 4, uint64(r.Count))
}
