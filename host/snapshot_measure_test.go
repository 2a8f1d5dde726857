package host_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
)

// table is a state machine in memory that measures itself: numbers with values, in
// a tree of fixed depth. Nodes that a view may see are copied when they change;
// others, which have been made since the newest view, are changed in place.
type table struct {
	mu      sync.Mutex
	root    *tableNode
	epoch   uint64
	applied uint64
	digest  [16]byte
	bytes   int64

	views int // open ones
	ended time.Time
	// Without and with a view: from the end of one Apply to that of the next, and
	// in Apply.
	pauses, took [2][]time.Duration
}

type tableNode struct {
	epoch  uint64
	kids   []*tableNode
	values [][]byte
}

const (
	tableFan   = 32
	tableDepth = 4 // 32^4: a million numbers
)

func (m *table) set(n *tableNode, depth int, number uint32, value []byte) *tableNode {
	switch {
	case n == nil:
		n = &tableNode{epoch: m.epoch}
	case n.epoch != m.epoch:
		n = &tableNode{epoch: m.epoch, kids: slices.Clone(n.kids), values: slices.Clone(n.values)}
	}
	at := number >> (5 * depth) % tableFan
	if depth > 0 {
		if n.kids == nil {
			n.kids = make([]*tableNode, tableFan)
		}
		n.kids[at] = m.set(n.kids[at], depth-1, number, value)
		return n
	}
	if n.values == nil {
		n.values = make([][]byte, tableFan)
	}
	m.bytes += int64(len(value) - len(n.values[at]))
	n.values[at] = value
	return n
}

func (m *table) Open() (uint64, error)         { return 0, nil }
func (m *table) Close() error                  { return nil }
func (m *table) Lookup([]byte) ([]byte, error) { return nil, nil }

func (m *table) Apply(batch []smr.Committed) error {
	begun := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range batch {
		c := &batch[i]
		m.applied = c.Index
		if c.Kind == smr.KindCommand {
			m.root = m.set(m.root, tableDepth-1, binary.BigEndian.Uint32(c.Data), slices.Clone(c.Data)) // what it keeps, it copies
			sum := binary.BigEndian.Uint32(m.digest[:])
			binary.BigEndian.PutUint32(m.digest[:], crc32.Update(sum, crc32.IEEETable, c.Data))
		}
	}
	now, with := time.Now(), min(m.views, 1)
	m.took[with] = append(m.took[with], now.Sub(begun))
	if !m.ended.IsZero() {
		m.pauses[with] = append(m.pauses[with], now.Sub(m.ended))
	}
	m.ended = now
	return nil
}

func (m *table) Digest() (uint64, [16]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied, m.digest
}

func (m *table) View() (smr.View, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.views++
	m.epoch++
	return &tableView{m: m, todo: []*tableNode{m.root}, applied: m.applied, digest: m.digest}, nil
}

func (m *table) BeginRestore() (smr.Restoration, error) { return nil, errors.New("not measured") }

// tableView reads one leaf after the other.
type tableView struct {
	m       *table
	todo    []*tableNode
	out     []byte
	applied uint64
	digest  [16]byte
}

func (v *tableView) Applied() uint64  { return v.applied }
func (v *tableView) Digest() [16]byte { return v.digest }

func (v *tableView) Close() error {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	v.m.views--
	return nil
}

func (v *tableView) Read(p []byte) (int, error) {
	for len(v.out) == 0 {
		if len(v.todo) == 0 {
			return 0, io.EOF
		}
		n := v.todo[len(v.todo)-1]
		v.todo = v.todo[:len(v.todo)-1]
		if n == nil {
			continue
		}
		for _, kid := range slices.Backward(n.kids) {
			v.todo = append(v.todo, kid)
		}
		for _, value := range n.values {
			v.out = append(binary.AppendUvarint(v.out, uint64(len(value))), value...)
		}
	}
	n := copy(p, v.out)
	v.out = v.out[:copy(v.out, v.out[n:])]
	return n, nil
}

// overload proposes to a group as fast as it goes.
type overload struct {
	t      *testing.T
	h      *host.Host
	g      *host.Group
	m      *table
	flying chan struct{}
	// Without and with a view, at most.
	heap, resident [2]uint64
}

func (o *overload) put(number uint32) {
	command := make([]byte, 1<<10)
	binary.BigEndian.PutUint32(command, number)
	o.flying <- struct{}{}
	if err := o.g.Submit(command, o.h.Now().Add(time.Minute), func(_ smr.Result, err error) {
		<-o.flying
		if err != nil {
			o.t.Error(err)
		}
	}); err != nil {
		o.t.Fatal(err)
	}
}

// sample notes the memory that is in use, and says whether a view is open.
func (o *overload) sample() (viewed bool) {
	o.m.mu.Lock()
	with := min(o.m.views, 1)
	o.m.mu.Unlock()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	text, _ := os.ReadFile("/proc/self/statm")
	var pages uint64
	if fields := strings.Fields(string(text)); len(fields) > 1 {
		pages, _ = strconv.ParseUint(fields[1], 10, 64)
	}
	o.heap[with] = max(o.heap[with], stats.HeapInuse)
	o.resident[with] = max(o.resident[with], pages*uint64(os.Getpagesize()))
	return with == 1
}

// TestImageUnderLoad measures what an image of a state in memory costs the state
// machine that goes on: the longest time between two Applies, and memory. It runs
// with QUORATE_MEASURE=<MiB of state>.
func TestImageUnderLoad(t *testing.T) {
	mib, _ := strconv.Atoi(os.Getenv("QUORATE_MEASURE"))
	if mib == 0 {
		t.Skip("QUORATE_MEASURE is not set")
	}
	numbers := uint32(min(mib<<10, 1<<20))
	h, err := host.Open(host.Config{ID: 1, Cluster: 7, Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	m := &table{}
	g, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1), Machine: m})
	if err != nil {
		t.Fatal(err)
	}
	o := &overload{t: t, h: h, g: g, m: m, flying: make(chan struct{}, 256)}
	for n := range numbers {
		o.put(n)
	}
	m.mu.Lock()
	m.pauses, m.took = [2][]time.Duration{}, [2][]time.Duration{}
	m.mu.Unlock()
	random := rand.New(rand.NewPCG(1, 2))
	taken := h.Stats().SnapshotsTaken
	var begun time.Time
	var took time.Duration
	for end := taken + 2; taken < end; {
		for range 512 {
			o.put(random.Uint32N(numbers))
		}
		if o.sample() && begun.IsZero() {
			begun = time.Now()
		}
		if now := h.Stats().SnapshotsTaken; now != taken {
			if taken = now; !begun.IsZero() {
				took = time.Since(begun)
			}
			begun = time.Time{}
		}
	}
	for range cap(o.flying) {
		o.flying <- struct{}{} // all are answered
	}
	o.report()
	t.Logf("%d MiB of state; the last image took %v", m.bytes>>20, took.Round(time.Millisecond))
}

func (o *overload) report() {
	m := o.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, name := range []string{"no image", "an image is written"} {
		p := m.pauses[i]
		if len(p) == 0 {
			continue
		}
		slices.Sort(p)
		round := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
		o.t.Logf("%-20s %6d batches, the longest Apply %v; between two: p50 %v p99 %v longest %v; heap %d MiB, resident %d MiB", name, len(p),
			round(slices.Max(m.took[i])), round(p[len(p)/2]), round(p[len(p)*99/100]), round(p[len(p)-1]), o.heap[i]>>20, o.resident[i]>>20)
	}
}
