package wire

import (
	"reflect"
	"testing"
)

// Every word about snapshots is read as it was written, and nothing shorter or
// longer is.
func TestSnapshotItems(t *testing.T) {
	for _, want := range []Item{
		{Kind: KindSnapshotOffer, SnapshotOffer: SnapshotOffer{Group: 1, Term: 2, Index: 300, ID: 1 << 63, Source: 4, LogStart: 5, Blocks: 6}},
		{Kind: KindSnapshotFetch, SnapshotFetch: SnapshotFetch{Group: 1, Index: 300, ID: 9, First: 4, Count: 8}},
		{Kind: KindSnapshotBlock, SnapshotBlock: SnapshotBlock{Group: 1, Index: 300, ID: 9, Number: 4, Data: []byte("block")}},
		{Kind: KindSnapshotBlock, SnapshotBlock: SnapshotBlock{Group: 1, Index: 300, ID: 9}},
		{Kind: KindSnapshotStatus, SnapshotStatus: SnapshotStatus{Group: 1, Term: 2, State: SnapshotInstalled, Index: 300, Have: 7}},
	} {
		b := AppendHeader(nil, 3)
		n := len(b)
		b = AppendItem(b, &want)
		var r Reader
		var got Item
		if _, err := r.Reset(b); err != nil {
			t.Fatal(err)
		}
		if ok, err := r.Next(&got); !ok || err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v is read as %+v, %v %v", want, got, ok, err)
		}
		if ok, err := r.Next(&got); ok || err != nil {
			t.Fatalf("another item: %v %v", ok, err)
		}
		for cut := n + 1; cut < len(b); cut++ {
			if _, err := r.Reset(b[:cut]); err != nil {
				t.Fatal(err)
			}
			if ok, err := r.Next(&got); ok || err == nil {
				t.Fatalf("%+v cut to %d bytes is read", want, cut)
			}
		}
	}
}
