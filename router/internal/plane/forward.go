package plane

import (
	"net"
	"net/http"
	"net/textproto"
	"strings"
)

// hopByHop are the header fields that concern one connection only (RFC 9110, 7.6.1), with those that only ever meant
// the same.
var hopByHop = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authenticate": true,
	"Proxy-Authorization": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// listed tells whether the Connection field names the header.
func listed(h http.Header, name string) bool {
	for _, v := range h["Connection"] {
		for len(v) > 0 {
			var t string
			t, v, _ = strings.Cut(v, ",")
			if strings.EqualFold(textproto.TrimString(t), name) {
				return true
			}
		}
	}
	return false
}

// hop tells whether a field must not be passed on.
func hop(h http.Header, name string) bool {
	return hopByHop[name] || len(h["Connection"]) > 0 && listed(h, name)
}

// upgrade is the protocol that a request or response switches to, empty if none.
func upgrade(h http.Header) string {
	if len(h["Upgrade"]) == 0 || !listed(h, "upgrade") {
		return ""
	}
	return h.Get("Upgrade")
}

// forwarding tells whether a field says where the request came from, also as servers see it that take an underscore
// for a dash (as CGI's variables do).
func forwarding(name string) bool {
	if len(name) < len("Forwarded") {
		return false
	}
	n := strings.ReplaceAll(name, "_", "-")
	return strings.EqualFold(n, "Forwarded") || strings.EqualFold(n, "X-Real-Ip") ||
		len(n) > 12 && strings.EqualFold(n[:12], "X-Forwarded-")
}

// appendForwarded writes the fields that say where the request came from. What the client said of that is replaced;
// where it is trusted (another proxy of ours), this hop is added to it.
func appendForwarded(b []byte, r *http.Request, trust bool) []byte {
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		ip = r.RemoteAddr
	}
	old := func(name string) string {
		if !trust {
			return ""
		}
		return strings.Join(r.Header[name], ", ")
	}
	field := func(name, before, value string) {
		b = append(b, name...)
		b = append(b, ": "...)
		if before != "" {
			b = append(b, before...)
			b = append(b, ", "...)
		}
		b = append(b, value...)
		b = append(b, "\r\n"...)
	}
	field("X-Forwarded-For", old("X-Forwarded-For"), ip)
	if v := old("X-Forwarded-Host"); v != "" {
		field("X-Forwarded-Host", "", v)
	} else {
		field("X-Forwarded-Host", "", r.Host)
	}
	if v := old("X-Forwarded-Proto"); v != "" {
		field("X-Forwarded-Proto", "", v)
	} else {
		field("X-Forwarded-Proto", "", "http")
	}
	if strings.Contains(ip, ":") {
		ip = `"[` + ip + `]"` // RFC 7239, 6
	}
	field("Forwarded", old("Forwarded"), "for="+ip+`;host="`+quoted(r.Host)+`";proto=http`)
	if trust {
		for name, vs := range r.Header {
			switch {
			case !forwarding(name), name == "X-Forwarded-For", name == "X-Forwarded-Host", name == "X-Forwarded-Proto", name == "Forwarded":
			case strings.Contains(name, "_"):
			default:
				field(name, "", strings.Join(vs, ", "))
			}
		}
	}
	return b
}

func quoted(s string) string {
	if !strings.ContainsAny(s, `"\`) {
		return s
	}
	return strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(s)
}

// appendHead writes the request's head as the member gets it.
func appendHead(b []byte, r *http.Request, x *exchange) []byte {
	b = append(b, r.Method...)
	b = append(b, ' ')
	if uri := r.RequestURI; strings.HasPrefix(uri, "/") || uri == "*" {
		b = append(b, uri...)
	} else {
		b = append(b, r.URL.RequestURI()...)
	}
	b = append(b, " HTTP/1.1\r\nHost: "...)
	if r.Host != "" {
		b = append(b, r.Host...)
	} else {
		b = append(b, "localhost"...)
	}
	b = append(b, "\r\n"...)
	for name, vs := range r.Header {
		if hop(r.Header, name) || forwarding(name) || name == "Content-Length" || name == "Expect" || name == "Host" {
			continue
		}
		for _, v := range vs {
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, v...)
			b = append(b, "\r\n"...)
		}
	}
	b = appendForwarded(b, r, x.route.TrustForwarded)
	b = appendConnection(b, x.upgrade, strings.Contains(r.Header.Get("Te"), "trailers"))
	b = x.body.appendFraming(b, r)
	return append(b, "\r\n"...)
}

// appendConnection writes the fields that concern the connection to the member.
func appendConnection(b []byte, upgrade string, trailers bool) []byte {
	switch {
	case upgrade != "":
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, upgrade...)
		return append(b, "\r\n"...)
	case trailers:
		return append(b, "Connection: TE\r\nTE: trailers\r\n"...)
	default:
		return b
	}
}
