package settings

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// URL is the address of a listener or of a member: scheme, host and port.
type URL struct {
	// TLS is the scheme: https if set, http if not.
	TLS bool
	// Addr is host:port.
	Addr string
}

func (u URL) String() string {
	if u.TLS {
		return "https://" + u.Addr
	}
	return "http://" + u.Addr
}

// ParseURL reads an URL as etcd writes them: a scheme, a host and a port, and
// no path.
func ParseURL(s string) (URL, error) {
	s = strings.TrimSpace(s)
	parsed, err := url.Parse(s)
	if err != nil {
		return URL{}, fmt.Errorf("%q is not a URL (want http://HOST:PORT or https://HOST:PORT)", s)
	}
	switch parsed.Scheme {
	case "http", "https":
	case "unix", "unixs":
		return URL{}, fmt.Errorf("%q is a unix socket, which quorate does not listen on (use http://127.0.0.1:PORT)", s)
	default:
		return URL{}, fmt.Errorf("%q has no scheme of http or https (want http://HOST:PORT or https://HOST:PORT)", s)
	}
	if parsed.Path != "" || parsed.RawQuery != "" || parsed.Fragment != "" || parsed.User != nil {
		return URL{}, fmt.Errorf("%q has more than scheme, host and port", s)
	}
	host, port, err := net.SplitHostPort(parsed.Host)
	if err != nil {
		return URL{}, fmt.Errorf("%q does not end in HOST:PORT", s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return URL{}, fmt.Errorf("%q has no port between 0 and 65535", s)
	}
	return URL{TLS: parsed.Scheme == "https", Addr: net.JoinHostPort(host, port)}, nil
}

func mustURL(s string) URL {
	u, err := ParseURL(s)
	if err != nil {
		panic(err)
	}
	return u
}

// parseURLs reads a list separated by commas. Duplicates are dropped.
func parseURLs(s string) ([]URL, error) {
	var urls []URL
next:
	for _, part := range strings.Split(s, ",") {
		u, err := ParseURL(part)
		if err != nil {
			return nil, err
		}
		for _, v := range urls {
			if u == v {
				continue next
			}
		}
		urls = append(urls, u)
	}
	return urls, nil
}

// checkBind reports whether u can be listened on: by an IP address, or by the
// name localhost. Another name may stand for any number of addresses, and etcd
// refuses it as well.
func (u URL) checkBind() error {
	host, _, _ := net.SplitHostPort(u.Addr)
	if host == "" {
		return fmt.Errorf("%q has no host to listen on (0.0.0.0 is all addresses)", u)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
		return fmt.Errorf("%q names a host, but an IP address (or localhost) is needed to listen on (0.0.0.0 is all addresses)", u)
	}
	return nil
}

// checkHost reports whether others can be told u.
func (u URL) checkHost() error {
	host, port, _ := net.SplitHostPort(u.Addr)
	switch {
	case host == "":
		return fmt.Errorf("%q has no host", u)
	case port == "0":
		return fmt.Errorf("%q has port 0, which nobody can connect to", u)
	}
	return nil
}

// Join formats a list as the flags take it.
func Join(urls []URL) string { return strings.Join(Strings(urls), ",") }

// Strings formats each of a list.
func Strings(urls []URL) []string {
	out := make([]string, len(urls))
	for i, u := range urls {
		out[i] = u.String()
	}
	return out
}
