package hook

import "strings"

// Expand replaces $NAME and ${NAME} for the names in vars and leaves everything else as it is: there is no shell, so
// any other dollar is the program's own business.
func Expand(s string, vars map[string]string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i == len(s)-1 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		name, size := nameAt(s)
		v, ok := vars[name]
		if !ok {
			b.WriteByte('$')
			s = s[1:]
			continue
		}
		b.WriteString(v)
		s = s[size:]
	}
}

// nameAt finds the name after the dollar that s begins with, and how long the whole reference is.
func nameAt(s string) (name string, size int) {
	if s[1] == '{' {
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return "", 0
		}
		return s[2:end], end + 1
	}
	n := 1
	for n < len(s) && (s[n] == '_' || s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z' || n > 1 && s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return s[1:n], n
}

// own are the instance's variables in its environment: those that are replaced in arguments.
func own(env []string) map[string]string {
	vars := map[string]string{}
	for _, e := range env {
		if k, v, _ := strings.Cut(e, "="); k == "PORT" || strings.HasPrefix(k, "FETTLE_") {
			vars[k] = v
		}
	}
	return vars
}
