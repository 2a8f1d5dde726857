package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/quorate/quorate/vfs"
)

// ticket waits for one operation.
type ticket struct {
	done  chan struct{}
	disks int // that have it already
}

var tickets = sync.Pool{New: func() any { return &ticket{done: make(chan struct{}, 1)} }}

// limitDisk is what disks alone allow: files that are allocated and written in
// advance, to which every operation is appended, with one sync for all that came
// meanwhile. With three files an operation is done when a majority has it, as
// with three replicas on one disk.
type limitDisk struct {
	disks  []*disk
	quorum int

	mu sync.Mutex // of all tickets' disks
}

// disk is one file and the goroutine that writes it.
type disk struct {
	limit *limitDisk
	file  *os.File
	// direct: what is written goes past the page cache, in whole sectors; nil: not.
	direct  vfs.Direct
	at      int64
	sectors []byte

	mu      sync.Mutex
	work    sync.Cond
	buf     []byte
	waiting []*ticket
	stopped bool
	ended   chan error
}

// diskFileBytes is the size of the file, which is written over and over.
const diskFileBytes = 64 << 20

func startLimitDisk(n int, direct bool) func(setup) (system, error) {
	return func(s setup) (system, error) {
		l := &limitDisk{quorum: n/2 + 1}
		for i := range n {
			d, err := newDisk(l, filepath.Join(s.dir, fmt.Sprintf("file%d", i)), direct)
			if err != nil {
				return nil, errors.Join(err, l.Close())
			}
			l.disks = append(l.disks, d)
		}
		return l, nil
	}
}

func newDisk(l *limitDisk, name string, direct bool) (*disk, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 1<<20)
	for range diskFileBytes / len(zeros) {
		if _, err := f.Write(zeros); err != nil {
			return nil, err
		}
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	d := &disk{limit: l, file: f, ended: make(chan error, 1)}
	if direct {
		if d.direct, err = vfs.OpenDirect(vfs.OS(), name); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	d.work.L = &d.mu
	go func() { d.ended <- d.run() }()
	return d, nil
}

// entryHeadBytes is what an entry takes beside the command.
const entryHeadBytes = 16

func (l *limitDisk) Propose(_ context.Context, _ int, command []byte) error {
	t := tickets.Get().(*ticket)
	t.disks = 0
	for _, d := range l.disks {
		d.append(t, command)
	}
	<-t.done
	if len(l.disks) == 1 {
		tickets.Put(t) // with more, a slower disk still holds it
	}
	return nil
}

func (d *disk) append(t *ticket, command []byte) {
	var head [entryHeadBytes]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(command)))
	d.mu.Lock()
	wake := len(d.waiting) == 0
	d.buf = append(append(d.buf, head[:]...), command...)
	d.waiting = append(d.waiting, t)
	d.mu.Unlock()
	if wake {
		d.work.Signal()
	}
}

func (d *disk) run() error {
	var buf []byte
	var waiting []*ticket
	for {
		d.mu.Lock()
		for len(d.waiting) == 0 && !d.stopped {
			d.work.Wait()
		}
		if d.stopped {
			d.mu.Unlock()
			return nil
		}
		buf, d.buf = d.buf, buf[:0]
		waiting, d.waiting = d.waiting, waiting[:0]
		d.mu.Unlock()
		if err := d.write(buf); err != nil {
			return err
		}
		if err := syscall.Fdatasync(int(d.file.Fd())); err != nil {
			return err
		}
		d.limit.synced(waiting)
	}
}

// write writes b after what was written before.
func (d *disk) write(b []byte) error {
	size := len(b)
	if d.direct != nil {
		size = (size + vfs.SectorBytes - 1) / vfs.SectorBytes * vfs.SectorBytes
	}
	if d.at+int64(size) > diskFileBytes {
		d.at = 0
	}
	at := d.at
	d.at += int64(size)
	if d.direct == nil {
		_, err := d.file.WriteAt(b, at)
		return err
	}
	if len(d.sectors) < size {
		d.sectors = make([]byte, max(2*size, alignedBytes))
	}
	clear(d.sectors[copy(d.sectors, b):size])
	_, err := d.direct.WriteAt(d.sectors[:size], at)
	return err
}

// alignedBytes of memory are aligned to pages by Go's allocator.
const alignedBytes = 64 << 10

// synced completes the tickets that a majority of the disks has now.
func (l *limitDisk) synced(ts []*ticket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range ts {
		if t.disks++; t.disks == l.quorum {
			t.done <- struct{}{}
		}
	}
}

func (l *limitDisk) Close() error {
	var err error
	for _, d := range l.disks {
		d.mu.Lock()
		d.stopped = true
		d.mu.Unlock()
		d.work.Signal()
		err = errors.Join(err, <-d.ended, d.file.Close())
	}
	return err
}

// limitTCP is what the network alone allows: every operation is a frame that is
// sent to another goroutine over TCP and comes back, with all that is waiting in
// one write.
type limitTCP struct {
	conn, far net.Conn

	mu      sync.Mutex
	work    sync.Cond
	buf     []byte
	sent    []*ticket // in the order of the frames, not yet come back
	stopped bool
	ended   sync.WaitGroup
}

func startLimitTCP(setup) (system, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	l := &limitTCP{}
	l.work.L = &l.mu
	if l.conn, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		return nil, err
	}
	if l.far, err = listener.Accept(); err != nil {
		return nil, err
	}
	l.ended.Go(func() { echo(l.far) })
	l.ended.Go(l.write)
	l.ended.Go(l.read)
	return l, nil
}

// echo sends back what comes.
func echo(c net.Conn) {
	buf := make([]byte, 256<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (l *limitTCP) Propose(_ context.Context, _ int, command []byte) error {
	t := tickets.Get().(*ticket)
	var head [4]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(command)))
	l.mu.Lock()
	wake := len(l.buf) == 0
	l.buf = append(append(l.buf, head[:]...), command...)
	l.sent = append(l.sent, t)
	l.mu.Unlock()
	if wake {
		l.work.Signal()
	}
	<-t.done
	tickets.Put(t)
	return nil
}

func (l *limitTCP) write() {
	var buf []byte
	for {
		l.mu.Lock()
		for len(l.buf) == 0 && !l.stopped {
			l.work.Wait()
		}
		if l.stopped {
			l.mu.Unlock()
			return
		}
		buf, l.buf = l.buf, buf[:0]
		l.mu.Unlock()
		if _, err := l.conn.Write(buf); err != nil {
			return
		}
	}
}

func (l *limitTCP) read() {
	r := bufio.NewReaderSize(l.conn, 256<<10)
	var head [4]byte
	for {
		n := 0
		for ; n == 0 || r.Buffered() >= len(head); n++ {
			if _, err := io.ReadFull(r, head[:]); err != nil {
				return
			}
			if _, err := r.Discard(int(binary.LittleEndian.Uint32(head[:]))); err != nil {
				return
			}
		}
		l.mu.Lock()
		for _, t := range l.sent[:n] {
			t.done <- struct{}{}
		}
		l.sent = append(l.sent[:0], l.sent[n:]...)
		l.mu.Unlock()
	}
}

func (l *limitTCP) Close() error {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.work.Signal()
	err := errors.Join(l.conn.Close(), l.far.Close())
	l.ended.Wait()
	return err
}
