package lab

import (
	"fmt"
	"html"
	"strings"
)

// snapshotTags name the marks of snapshots in the diagram.
func snapshotTag(it *Item) (class, text string) {
	switch it.Kind {
	case ItemTaking:
		return "taking", "view"
	case ItemTaken:
		return "taken", fmt.Sprintf("snapshot %d", it.Index)
	case ItemCompact:
		return "compact", fmt.Sprintf("log after %d", it.Index)
	case ItemInstall:
		return "install", fmt.Sprintf("installs %d", it.Index)
	case ItemRestore:
		return "restore", fmt.Sprintf("state %d", it.Index)
	}
	return "", ""
}

// drawSnapshots marks when a snapshot is begun, whole, and installed, when a state
// is restored, and when a log is compacted. A mark that has no room for its label
// says it when the pointer is there.
func (l *layout) drawSnapshots(b *strings.Builder) {
	for i := range l.rec.Items {
		it := &l.rec.Items[i]
		class, text := snapshotTag(it)
		if class == "" || int(it.Replica) > l.replicas {
			continue
		}
		if _, ok := l.rowOf[it.At]; !ok {
			continue
		}
		x, y := l.x(it.Replica), l.y(it.At)
		fmt.Fprintf(b, `<g class="snap %s"><title>%d %s</title>`, class, it.Replica, html.EscapeString(it.Text))
		switch it.Kind {
		case ItemCompact:
			fmt.Fprintf(b, `<path d="M%.1f %.1fh-11m0 0v5"/>`, x-2, y)
		default:
			fmt.Fprintf(b, `<path d="M%.1f %.1fv7a5 2 0 0 0 10 0v-7a5 2 0 0 0 -10 0a5 2 0 0 0 10 0"/>`, x-5, y-3.5)
		}
		w := 5.4*float64(len(text)) + 6
		for _, dy := range [...]float64{0, 12, -12, 24, 36} {
			if l.free(box{x - 12 - w, y + dy - 6, x - 10, y + dy + 6}) {
				fmt.Fprintf(b, `<text x="%.1f" y="%.1f">%s</text>`, x-13, y+dy+3.5, text)
				break
			}
		}
		b.WriteString("</g>")
	}
	b.WriteString("\n")
}
