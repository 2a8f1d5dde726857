package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/kv"
)

// The forms in which status writes: a line for each figure, and those of etcdutl.
const (
	formText   = "text"
	formSimple = "simple"
	formFields = "fields"
	formJSON   = "json"
	formTable  = "table"
)

func newSnapshotStatus() *cobra.Command {
	var from source
	form := formText
	cmd := &cobra.Command{
		Use:   "status FILE",
		Short: "Verify a backup and say what it holds",
		Long: `Verify a backup, every byte and every key of it, and say what it holds. With
--write-out it says so as etcdutl does. Exit codes: 0 it is whole, 1 it is not, 3 it
cannot be read.`,
		Args: usageErrors(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			write := forms[form]
			if write == nil {
				return &exitError{exitUsage, fmt.Errorf("--write-out %q; there are text, simple, fields, json and table", form)}
			}
			from.file, from.told = args[0], cmd.ErrOrStderr()
			sum, bytes, err := from.verify("verified", nil)
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), sum, bytes)
		},
	}
	cmd.Flags().StringVarP(&form, "write-out", "w", formText, "text, or a form of etcdutl's: simple, fields, json, table")
	from.flags(cmd)
	return cmd
}

var forms = map[string]func(w io.Writer, sum kv.Summary, bytes int64) error{
	formText: describe, formSimple: writeSimple, formFields: writeFields, formJSON: writeJSON, formTable: writeTable,
}

func describe(w io.Writer, sum kv.Summary, bytes int64) error {
	_, err := fmt.Fprintf(w, "digest    %x\nrevision  %d\ncompacted %d\nkeys      %d\nsize      %d bytes\nindex     %d\n",
		sum.Digest, sum.Revision, max(sum.CompactRevision, 0), sum.Keys, bytes, sum.Applied)
	return err
}

// shortHash is what stands in the place of etcdutl's hash of 32 bits: the front of
// the digest. Backups of one state have the same.
func shortHash(sum *kv.Summary) uint32 { return binary.BigEndian.Uint32(sum.Digest[:]) }

func writeSimple(w io.Writer, sum kv.Summary, bytes int64) error {
	_, err := fmt.Fprintf(w, "%x, %d, %d, %s\n", shortHash(&sum), sum.Revision, sum.Keys, size(bytes))
	return err
}

func writeFields(w io.Writer, sum kv.Summary, bytes int64) error {
	_, err := fmt.Fprintf(w, "\"Hash\" : %d\n\"Revision\" : %d\n\"Keys\" : %d\n\"Size\" : %d\n",
		shortHash(&sum), sum.Revision, sum.Keys, bytes)
	return err
}

func writeJSON(w io.Writer, sum kv.Summary, bytes int64) error {
	return json.NewEncoder(w).Encode(struct {
		Hash      uint32 `json:"hash"`
		Revision  int64  `json:"revision"`
		TotalKey  int64  `json:"totalKey"`
		TotalSize int64  `json:"totalSize"`
		// What etcdutl does not have.
		Digest    string `json:"digest"`
		Compacted int64  `json:"compacted"`
		Index     uint64 `json:"index"`
	}{shortHash(&sum), sum.Revision, sum.Keys, bytes, fmt.Sprintf("%x", sum.Digest), max(sum.CompactRevision, 0), sum.Applied})
}

func writeTable(w io.Writer, sum kv.Summary, bytes int64) error {
	rows := [2][4]string{
		{"HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"},
		{fmt.Sprintf("%x", shortHash(&sum)), fmt.Sprint(sum.Revision), fmt.Sprint(sum.Keys), size(bytes)},
	}
	var b strings.Builder
	var widths [4]int
	rule := func() {
		for _, n := range widths {
			b.WriteString("+" + strings.Repeat("-", n+2))
		}
		b.WriteString("+\n")
	}
	for i := range widths {
		widths[i] = max(len(rows[0][i]), len(rows[1][i]))
	}
	rule()
	for _, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(&b, "| %*s ", widths[i], cell)
		}
		b.WriteString("|\n")
		rule()
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// size is a number of bytes for people.
func size(bytes int64) string {
	const units = " kMGTPE"
	n, unit := float64(bytes), 0
	for n >= 1000 && unit < len(units)-1 {
		n, unit = n/1000, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.3g %cB", n, units[unit])
}
