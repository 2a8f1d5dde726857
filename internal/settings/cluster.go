package settings

import (
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/smr"
)

// parseMembers reads --initial-cluster: name=url,name=url,... by name ascending.
func parseMembers(s string) ([]Member, error) {
	var members []Member
	for _, part := range strings.Split(s, ",") {
		name, rest, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || name == "" || rest == "" {
			return nil, fmt.Errorf("%q is not of the form NAME=URL", part)
		}
		u, err := ParseURL(rest)
		if err == nil {
			err = u.checkHost()
		}
		if err != nil {
			return nil, fmt.Errorf("member %q: %w", name, err)
		}
		for _, m := range members {
			switch {
			case m.Name == name && m.PeerURL == u:
				return nil, fmt.Errorf("member %q stands twice", name)
			case m.Name == name:
				return nil, fmt.Errorf("member %q has two URLs, %s and %s; quorate uses one for each member", name, m.PeerURL, u)
			case m.PeerURL == u:
				return nil, fmt.Errorf("members %q and %q have the same URL %s", m.Name, name, u)
			case m.PeerURL.TLS != u.TLS:
				return nil, fmt.Errorf("member %q has %s and member %q has %s; either all or none use https", m.Name, m.PeerURL, name, u)
			}
		}
		members = append(members, Member{Name: name, PeerURL: u})
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return members, nil
}

// FormatMembers writes members as --initial-cluster takes them.
func FormatMembers(members []Member) string {
	parts := make([]string, len(members))
	for i, m := range members {
		parts[i] = m.Name + "=" + m.PeerURL.String()
	}
	return strings.Join(parts, ",")
}

// MemberID is a member's id, which follows from its peer URL and the cluster's
// token. It is what etcd computes from the same settings: the first eight bytes,
// big-endian, of the SHA-1 of the URL and the token. (SHA-1 spreads the values;
// nothing secret hangs on it.) It is never zero.
func MemberID(peer URL, token string) smr.ReplicaID {
	return smr.ReplicaID(id([]byte(peer.String() + token)))
}

// ClusterID is the cluster's id: etcd's too, the first eight bytes of the SHA-1
// of all members' ids, ascending and big-endian. It is never zero.
func ClusterID(members []Member, token string) uint64 {
	ids := make([]uint64, len(members))
	for i, m := range members {
		ids[i] = uint64(MemberID(m.PeerURL, token))
	}
	slices.Sort(ids)
	b := make([]byte, 0, 8*len(ids))
	for _, v := range ids {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return id(b)
}

func id(b []byte) uint64 {
	sum := sha1.Sum(b)
	// Zero means "none" everywhere, and one hash in 2^64 is zero.
	return max(binary.BigEndian.Uint64(sum[:8]), 1)
}
