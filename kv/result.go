package kv

import (
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate/smr"
)

// kvBytesMin is the least size of an encoded KeyValue.
const kvBytesMin = 6

// AppendResult appends the encoding of r to dst; the package comment draws it.
func AppendResult(dst []byte, r *Result) []byte {
	dst = append(dst, codecVersion, byte(r.Kind), codeOf(r.Err))
	if r.Err != nil {
		return dst
	}
	switch r.Kind {
	case CommandPut:
		dst = appendPutResponse(dst, &r.Put)
	case CommandDeleteRange:
		dst = appendDeleteRangeResponse(dst, &r.DeleteRange)
	case CommandTxn:
		dst = appendTxnResponse(dst, &r.Txn)
	case CommandCompact:
		dst = appendInt(dst, r.Compact.Revision)
	}
	return dst
}

// DecodeResult reads a result from the whole of b into r, which shares b's
// memory. The error wraps smr.ErrCorrupt and is not the command's own: that is
// in r.Err.
func DecodeResult(b []byte, r *Result) error {
	*r = Result{}
	d := smr.Decoder{B: b}
	version, kind, code := d.Byte(), CommandKind(d.Byte()), d.Byte()
	if d.Failed || version != codecVersion || int(code) >= len(codes) {
		return fmt.Errorf("result of %d bytes: %w", len(b), smr.ErrCorrupt)
	}
	r.Kind = kind
	switch {
	case code != 0:
		r.Err = codes[code]
	case kind == CommandPut:
		decodePutResponse(&d, &r.Put)
	case kind == CommandDeleteRange:
		decodeDeleteRangeResponse(&d, &r.DeleteRange)
	case kind == CommandTxn:
		decodeTxnResponse(&d, &r.Txn, txnDepthMax)
	case kind == CommandCompact:
		r.Compact.Revision = decodeInt(&d)
	default:
		d.Failed = true
	}
	if d.Failed || len(d.B) != 0 {
		*r = Result{}
		return fmt.Errorf("result of kind %d: %w", kind, smr.ErrCorrupt)
	}
	return nil
}

// appendAnswer appends the encoding of what Lookup answers: version | kind |
// body of the response.
func appendAnswer(dst []byte, r *OpResponse) []byte {
	return appendOpResponse(append(dst, codecVersion), r)
}

// DecodeAnswer reads what Lookup answered to a Query: Range or Txn is set, and
// shares b's memory. The error wraps smr.ErrCorrupt.
func DecodeAnswer(b []byte) (r OpResponse, err error) {
	d := smr.Decoder{B: b}
	if d.Byte() != codecVersion {
		d.Failed = true
	}
	decodeOpResponse(&d, &r, txnDepthMax)
	if d.Failed || len(d.B) != 0 || r.Range == nil && r.Txn == nil {
		return OpResponse{}, fmt.Errorf("answer of %d bytes: %w", len(b), smr.ErrCorrupt)
	}
	return r, nil
}

func appendKeyValue(dst []byte, kv *KeyValue) []byte {
	dst = appendBytes(dst, kv.Key)
	dst = appendBytes(dst, kv.Value)
	dst = appendInt(dst, kv.CreateRevision)
	dst = appendInt(dst, kv.ModRevision)
	dst = appendInt(dst, kv.Version)
	return appendInt(dst, kv.Lease)
}

func decodeKeyValue(d *smr.Decoder, kv *KeyValue) {
	kv.Key, kv.Value = d.Bytes(), d.Bytes()
	kv.CreateRevision, kv.ModRevision = decodeInt(d), decodeInt(d)
	kv.Version, kv.Lease = decodeInt(d), decodeInt(d)
}

func appendKeyValues(dst []byte, kvs []KeyValue) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(kvs)))
	for i := range kvs {
		dst = appendKeyValue(dst, &kvs[i])
	}
	return dst
}

func decodeKeyValues(d *smr.Decoder) []KeyValue {
	n := decodeCount(d, kvBytesMin)
	if n == 0 {
		return nil
	}
	kvs := make([]KeyValue, n)
	for i := range kvs {
		decodeKeyValue(d, &kvs[i])
	}
	return kvs
}

func appendPutResponse(dst []byte, r *PutResponse) []byte {
	dst = appendInt(dst, r.Revision)
	dst = append(dst, flag(r.PrevKv != nil, 1))
	if r.PrevKv != nil {
		dst = appendKeyValue(dst, r.PrevKv)
	}
	return dst
}

func decodePutResponse(d *smr.Decoder, r *PutResponse) {
	r.Revision = decodeInt(d)
	if decodeFlags(d, 1) != 0 && !d.Failed {
		r.PrevKv = new(KeyValue)
		decodeKeyValue(d, r.PrevKv)
	}
}

func appendDeleteRangeResponse(dst []byte, r *DeleteRangeResponse) []byte {
	dst = appendInt(dst, r.Revision)
	dst = appendInt(dst, r.Deleted)
	return appendKeyValues(dst, r.PrevKvs)
}

func decodeDeleteRangeResponse(d *smr.Decoder, r *DeleteRangeResponse) {
	r.Revision, r.Deleted, r.PrevKvs = decodeInt(d), decodeInt(d), decodeKeyValues(d)
}

func appendRangeResponse(dst []byte, r *RangeResponse) []byte {
	dst = append(dst, flag(r.More, 1))
	dst = appendInt(dst, r.Revision)
	dst = appendInt(dst, r.Count)
	return appendKeyValues(dst, r.Kvs)
}

func decodeRangeResponse(d *smr.Decoder, r *RangeResponse) {
	r.More = decodeFlags(d, 1) != 0
	r.Revision, r.Count, r.Kvs = decodeInt(d), decodeInt(d), decodeKeyValues(d)
}

func appendTxnResponse(dst []byte, r *TxnResponse) []byte {
	dst = append(dst, flag(r.Succeeded, 1))
	dst = appendInt(dst, r.Revision)
	dst = binary.AppendUvarint(dst, uint64(len(r.Responses)))
	for i := range r.Responses {
		dst = appendOpResponse(dst, &r.Responses[i])
	}
	return dst
}

func decodeTxnResponse(d *smr.Decoder, r *TxnResponse, depth int) {
	if depth == 0 {
		d.Failed = true
		return
	}
	r.Succeeded = decodeFlags(d, 1) != 0
	r.Revision = decodeInt(d)
	if n := decodeCount(d, opBytesMin); n > 0 {
		r.Responses = make([]OpResponse, n)
	}
	for i := range r.Responses {
		decodeOpResponse(d, &r.Responses[i], depth-1)
	}
}

func appendOpResponse(dst []byte, o *OpResponse) []byte {
	switch {
	case o.Range != nil:
		return appendRangeResponse(append(dst, opRange), o.Range)
	case o.Put != nil:
		return appendPutResponse(append(dst, opPut), o.Put)
	case o.DeleteRange != nil:
		return appendDeleteRangeResponse(append(dst, opDeleteRange), o.DeleteRange)
	case o.Txn != nil:
		return appendTxnResponse(append(dst, opTxn), o.Txn)
	}
	return append(dst, 0)
}

func decodeOpResponse(d *smr.Decoder, o *OpResponse, depth int) {
	if d.Failed {
		return
	}
	switch d.Byte() {
	case 0:
	case opRange:
		o.Range = new(RangeResponse)
		decodeRangeResponse(d, o.Range)
	case opPut:
		o.Put = new(PutResponse)
		decodePutResponse(d, o.Put)
	case opDeleteRange:
		o.DeleteRange = new(DeleteRangeResponse)
		decodeDeleteRangeResponse(d, o.DeleteRange)
	case opTxn:
		o.Txn = new(TxnResponse)
		decodeTxnResponse(d, o.Txn, depth)
	default:
		d.Failed = true
	}
}
