package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/snapshot"
	"github.com/quorate/quorate/vfs"
)

// checkImages verifies the images of a member's groups, every block of them, and
// every key of an image of the keys.
func checkImages(fs vfs.FS, dir string, out io.Writer) error {
	base := fs.PathJoin(dir, "wal", "snapshots")
	names, err := fs.List(base)
	if err != nil {
		if _, statErr := fs.Stat(base); statErr != nil {
			return nil // no group has written one yet
		}
		return &exitError{exitStart, err}
	}
	slices.Sort(names)
	var errs []error
	for _, name := range names {
		text, ok := strings.CutPrefix(name, "group-")
		id, err := strconv.ParseUint(text, 16, 64)
		if ok && err == nil {
			errs = append(errs, checkGroupImages(fs, fs.PathJoin(base, name), smr.GroupID(id), out))
		}
	}
	return errors.Join(errs...)
}

func checkGroupImages(fs vfs.FS, dir string, group smr.GroupID, out io.Writer) error {
	l, err := snapshot.List(fs, dir)
	if err != nil {
		return &exitError{exitStart, err}
	}
	var errs []error
	for _, f := range l.Whole {
		text, err := checkImage(fs, dir, f, group)
		if err != nil {
			text = fmt.Sprintf("DAMAGED\n            %v", err)
			errs = append(errs, damage(fmt.Errorf("%s: %w", dir, err)))
		}
		fmt.Fprintf(out, "  snapshot  group %d, %v: %s\n", group, f, text)
	}
	for _, f := range l.Parts {
		fmt.Fprintf(out, "  snapshot  group %d, %v: received in part; it goes on at the next start, if a member still has it\n", group, f)
	}
	for _, f := range l.Unfinished {
		fmt.Fprintf(out, "  snapshot  group %d, %v: was being written; the next start removes it\n", group, f)
	}
	return errors.Join(errs...)
}

// checkImage verifies one image and says what it holds.
func checkImage(fs vfs.FS, dir string, f snapshot.File, group smr.GroupID) (text string, err error) {
	var keys *kv.Inspector
	var state io.Writer
	if group == keysGroup {
		keys = kv.NewInspector()
		state = keys
	}
	h, bytes, err := snapshot.Verify(fs, dir, f, state)
	if err != nil {
		return "", err
	}
	if h.Group != group {
		return "", fmt.Errorf("snapshot %v is of group %d: %w", f, h.Group, smr.ErrCorrupt)
	}
	text = fmt.Sprintf("index %d, term %d, %d bytes", h.Index, h.Term, bytes)
	if keys == nil {
		return text, nil
	}
	sum, err := keys.Finish()
	if err != nil {
		return "", fmt.Errorf("snapshot %v: %w", f, err)
	}
	if h.Index != sum.Applied || h.Digest != sum.Digest {
		return "", fmt.Errorf("snapshot %v: the state is at %d with digest %x, the head says %d and %x: %w", f, sum.Applied, sum.Digest, h.Index, h.Digest, kv.ErrDigest)
	}
	return fmt.Sprintf("%s, %d keys at revision %d", text, sum.Keys, sum.Revision), nil
}
