package kv

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// (3) If complete, every key that lives is in it: until something is forgotten, a
// key that is not there is not looked for.
func TestLatestCacheIsComplete(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	cfg.CacheBytes = 8 * (latestOverhead + 8) // two generations of five keys
	s, _ := openStore(t, cfg)
	key := func(i int) string { return fmt.Sprintf("key %03d", i) }
	for i := range 4 {
		applyOne(t, s, putCmd(key(i), "v"))
	}
	applyOne(t, s, deleteCmd(key(2), ""), putCmd(key(2), "again"))
	if st := s.Stats(); st.CacheMisses != 0 || !s.w.cache.complete {
		t.Fatalf("%d keys were looked for in a store that was empty", st.CacheMisses)
	}
	for i := range 40 {
		applyOne(t, s, putCmd(key(100+i), "v"))
	}
	if s.w.cache.complete {
		t.Fatal("keys were forgotten, and it says that it is complete")
	}
	applyOne(t, s, putCmd(key(0), "w"))
	if kv, _, err := s.Point([]byte(key(0))); err != nil || kv.Version != 2 || kv.CreateRevision != 2 {
		t.Errorf("a key that was forgotten: %+v, %v", kv, err)
	}
	// Another start of a store that has keys knows of none.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(); err != nil {
		t.Fatal(err)
	}
	if s.w.cache.complete {
		t.Fatal("complete after a start with keys")
	}
	applyOne(t, s, putCmd(key(0), "x"))
	if kv, _, err := s.Point([]byte(key(0))); err != nil || kv.Version != 3 {
		t.Errorf("after a restart: %+v, %v", kv, err)
	}
}
