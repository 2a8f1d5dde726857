package settings

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

const fileBytesMax = 1 << 20

// sections are the keys of a configuration file that hold keys of their own:
// what their keys are called as flags.
var sections = map[string]map[string]string{
	"client-transport-security": {
		"cert-file":        "cert-file",
		"key-file":         "key-file",
		"client-cert-file": "client-cert-file",
		"client-key-file":  "client-key-file",
		"client-cert-auth": "client-cert-auth",
		"trusted-ca-file":  "trusted-ca-file",
		"auto-tls":         "auto-tls",
		"allowed-cn":       "client-cert-allowed-cn",
		"allowed-hostname": "client-cert-allowed-hostname",
		"crl-file":         "client-crl-file",
	},
	"peer-transport-security": {
		"cert-file":                    "peer-cert-file",
		"key-file":                     "peer-key-file",
		"client-cert-file":             "peer-client-cert-file",
		"client-key-file":              "peer-client-key-file",
		"client-cert-auth":             "peer-client-cert-auth",
		"trusted-ca-file":              "peer-trusted-ca-file",
		"auto-tls":                     "peer-auto-tls",
		"allowed-cn":                   "peer-cert-allowed-cn",
		"allowed-hostname":             "peer-cert-allowed-hostname",
		"crl-file":                     "peer-crl-file",
		"skip-client-san-verification": "peer-skip-client-san-verification",
	},
	"socket-options": {
		"reuse-port":    "socket-reuse-port",
		"reuse-address": "socket-reuse-address",
	},
}

// fromFile reads a configuration file: YAML, and so JSON.
func fromFile(path string, read func(string) ([]byte, error)) ([]named, error) {
	bad := func(problem string) error {
		return &Error{Source: Source{Kind: FromFlag, Name: configFile}, Value: path, Problem: problem, Kind: ErrInvalid}
	}
	b, err := read(path)
	if err != nil {
		return nil, bad(fmt.Sprintf("cannot be read: %v", err))
	}
	if len(b) > fileBytesMax {
		return nil, bad(fmt.Sprintf("has %d bytes, more than the %d that a configuration file may have", len(b), fileBytesMax))
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, bad(fmt.Sprintf("is not YAML: %v", err))
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, bad("does not consist of KEY: VALUE lines")
	}
	w := fileWalk{file: path, seen: map[string]bool{}}
	if err := w.mapping("", nil, root); err != nil {
		return nil, err
	}
	return w.out, nil
}

type fileWalk struct {
	file string
	seen map[string]bool
	out  []named
}

// mapping takes the keys of one mapping; names translates those of a section.
func (w *fileWalk) mapping(section string, names map[string]string, n *yaml.Node) error {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i].Value, n.Content[i+1]
		src := Source{Kind: FromFile, Name: section + key, File: w.file}
		fail := func(kind error, problem string) error {
			return &Error{Source: src, Problem: fmt.Sprintf("%s (line %d)", problem, n.Content[i].Line), Kind: kind}
		}
		if w.seen[section+key] {
			return fail(ErrInvalid, "stands twice")
		}
		w.seen[section+key] = true
		if sub, ok := sections[key]; ok && names == nil && value.Kind == yaml.MappingNode {
			if err := w.mapping(key+".", sub, value); err != nil {
				return err
			}
			continue
		}
		name := key
		if names != nil {
			if name = names[key]; name == "" {
				return fail(ErrUnknown, "neither etcd nor quorate has this key")
			}
		}
		text, ok := scalar(value)
		if !ok {
			// A mapping where Quorate expects none may be a setting of etcd's
			// own; then the reason why it is refused is what helps.
			if _, isForeign := foreignByName(name); !isForeign {
				return fail(ErrInvalid, "is not a single value or a list of them")
			}
			text = "{...}"
		}
		if sections[name] != nil && text == "" {
			continue
		}
		w.out = append(w.out, named{name, Raw{text, src}})
	}
	return nil
}

// scalar returns the text of a single value, or of a list of them with commas.
func scalar(n *yaml.Node) (string, bool) {
	switch {
	case n.Kind == yaml.AliasNode && n.Alias.Kind == yaml.ScalarNode:
		return scalar(n.Alias)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return "", true
	case n.Kind == yaml.ScalarNode:
		return n.Value, true
	case n.Kind == yaml.SequenceNode:
		parts := make([]string, len(n.Content))
		for i, c := range n.Content {
			if c.Kind != yaml.ScalarNode {
				return "", false
			}
			parts[i] = c.Value
		}
		return strings.Join(parts, ","), true
	}
	return "", false
}
