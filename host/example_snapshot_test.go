package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
)

// tree is a binary search tree whose nodes are never changed: setting a key
// copies the path to it and shares the rest. So the root is a view.
type tree struct {
	Key, Value  string
	Left, Right *tree
}

func (t *tree) set(key, value string) *tree {
	if t == nil {
		return &tree{Key: key, Value: value}
	}
	n := *t
	switch {
	case key < t.Key:
		n.Left = t.Left.set(key, value)
	case key > t.Key:
		n.Right = t.Right.set(key, value)
	default:
		n.Value = value
	}
	return &n
}

func (t *tree) get(key string) string {
	switch {
	case t == nil:
		return ""
	case key < t.Key:
		return t.Left.get(key)
	case key > t.Key:
		return t.Right.get(key)
	}
	return t.Value
}

// dictionary is a state machine in memory: a command is "key=value".
type dictionary struct {
	mu      sync.RWMutex
	root    *tree
	applied uint64
	digest  [16]byte
}

func (d *dictionary) Open() (uint64, error) { return 0, nil }
func (d *dictionary) Close() error          { return nil }

func (d *dictionary) Apply(batch []smr.Committed) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range batch {
		c := &batch[i]
		d.applied = c.Index
		if c.Kind != smr.KindCommand {
			continue
		}
		for at, b := range c.Data {
			if b == '=' {
				d.root = d.root.set(string(c.Data[:at]), string(c.Data[at+1:]))
				break
			}
		}
		d.digest = chain(d.digest, c.Data)
	}
	return nil
}

func (d *dictionary) Lookup(query []byte) ([]byte, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return []byte(d.root.get(string(query))), nil
}

func (d *dictionary) Digest() (uint64, [16]byte) { return d.applied, d.digest }

// image is the state as it travels.
type image struct {
	Root    *tree
	Applied uint64
	Digest  [16]byte
}

// imageView turns an image into bytes when it is read, beside Apply.
type imageView struct {
	image
	*io.PipeReader
}

func (v *imageView) Applied() uint64  { return v.image.Applied }
func (v *imageView) Digest() [16]byte { return v.image.Digest }

// View takes the root, and copies nothing.
func (d *dictionary) View() (smr.View, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	r, w := io.Pipe()
	v := &imageView{image{d.root, d.applied, d.digest}, r}
	go func() { w.CloseWithError(json.NewEncoder(w).Encode(v.image)) }()
	return v, nil
}

// incoming is a state that comes in.
type incoming struct {
	d *dictionary
	b []byte
	i image
}

func (d *dictionary) BeginRestore() (smr.Restoration, error) { return &incoming{d: d}, nil }

func (n *incoming) Write(p []byte) (int, error) {
	n.b = append(n.b, p...)
	return len(p), nil
}

func (n *incoming) Finish() error { return json.Unmarshal(n.b, &n.i) }

func (n *incoming) Commit() error {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	n.d.root, n.d.applied, n.d.digest = n.i.Root, n.i.Applied, n.i.Digest
	return nil
}

func (n *incoming) Close() error { return nil }

// ledgerFile is a state machine on disk: the number of commands, in a file that is
// replaced by a rename. It implements smr.Durable, so its log is replayed from
// what the file holds, and no snapshot is written for its own restart.
type ledgerFile struct {
	mu      sync.Mutex
	path    string
	state   fileState
	durable uint64
}

type fileState struct{ Applied, Commands uint64 }

func (f *ledgerFile) save(s fileState, path string) error {
	b, _ := json.Marshal(s)
	file, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(b); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (f *ledgerFile) Open() (uint64, error) {
	b, err := os.ReadFile(f.path)
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &f.state)
	}
	f.durable = f.state.Applied
	return f.durable, err
}

func (f *ledgerFile) Close() error { return nil }

func (f *ledgerFile) Apply(batch []smr.Committed) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range batch {
		f.state.Applied = batch[i].Index
		if batch[i].Kind == smr.KindCommand {
			f.state.Commands++
			batch[i].Result.Value = f.state.Commands
		}
	}
	return nil
}

func (f *ledgerFile) Lookup([]byte) ([]byte, error) { return nil, nil }

func (f *ledgerFile) Digest() (uint64, [16]byte) {
	return f.state.Applied, [16]byte{byte(f.state.Commands), byte(f.state.Commands >> 8)}
}

func (f *ledgerFile) Durable() (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.durable, nil
}

func (f *ledgerFile) Flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.save(f.state, f.path); err != nil {
		return err
	}
	f.durable = f.state.Applied
	return nil
}

// fileView reads a copy of the state, which is small.
type fileView struct {
	fileState
	digest [16]byte
	done   bool
}

func (v *fileView) Applied() uint64  { return v.fileState.Applied }
func (v *fileView) Digest() [16]byte { return v.digest }
func (v *fileView) Close() error     { return nil }
func (v *fileView) Read(p []byte) (int, error) {
	if v.done {
		return 0, io.EOF
	}
	v.done = true
	b, _ := json.Marshal(v.fileState)
	return copy(p, b), nil
}

func (f *ledgerFile) View() (smr.View, error) {
	_, digest := f.Digest()
	return &fileView{fileState: f.state, digest: digest}, nil
}

type fileRestoration struct {
	f     *ledgerFile
	b     []byte
	state fileState
}

func (f *ledgerFile) BeginRestore() (smr.Restoration, error) { return &fileRestoration{f: f}, nil }

func (r *fileRestoration) Write(p []byte) (int, error) {
	r.b = append(r.b, p...)
	return len(p), nil
}

// Finish makes the new state durable beside the old one.
func (r *fileRestoration) Finish() error {
	if err := json.Unmarshal(r.b, &r.state); err != nil {
		return err
	}
	return r.f.save(r.state, r.f.path+".restored")
}

// Commit exchanges them: a rename is atomic.
func (r *fileRestoration) Commit() error {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if err := os.Rename(r.f.path+".restored", r.f.path); err != nil {
		return err
	}
	r.f.state, r.f.durable = r.state, r.state.Applied
	return nil
}

func (r *fileRestoration) Close() error {
	_ = os.Remove(r.f.path + ".restored")
	return nil
}

// One host, whose log is compacted every 4 KiB: it keeps the newest entries and
// a snapshot of the rest.
func ExampleSnapshotConfig() {
	dir, _ := os.MkdirTemp("", "quorate-example")
	defer os.RemoveAll(dir)
	open := func() (*host.Host, *host.Group, *host.Group) {
		h, err := host.Open(host.Config{
			ID: 1, Cluster: 7, Dir: dir + "/log", Listen: "127.0.0.1:0", Logger: quiet,
			Snapshots: host.SnapshotConfig{EveryBytes: 4 << 10, TailBytes: 1 << 10},
		})
		if err != nil {
			panic(err)
		}
		words, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1), Machine: &dictionary{}})
		if err != nil {
			panic(err)
		}
		count, err := h.StartGroup(host.GroupConfig{ID: 2, Members: host.Voters(1), Machine: &ledgerFile{path: filepath.Join(dir, "count")}})
		if err != nil {
			panic(err)
		}
		return h, words, count
	}

	h, words, count := open()
	ctx := context.Background()
	for i := range 1000 {
		if _, err := words.Propose(ctx, fmt.Appendf(nil, "key %d=value %d", i%7, i)); err != nil {
			fmt.Println(err)
		}
		if _, err := count.Propose(ctx, []byte("one more")); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("compacted:", words.Status().First > 1, count.Status().First > 1)
	h.Close()

	h, words, count = open()
	defer h.Close()
	value, _ := words.Read(ctx, []byte("key 5"))
	n, _ := count.Propose(ctx, []byte("one more"))
	fmt.Println(string(value), n.Value)
	// Output:
	// compacted: true true
	// value 999 1001
}
