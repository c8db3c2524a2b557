package api

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fettle-dev/fettle"
)

// Query is the filter as URL parameters.
func (f LogFilter) Query() url.Values {
	q := url.Values{}
	set := func(k, v string, is bool) {
		if is {
			q.Set(k, v)
		}
	}
	set("pool", string(f.Pool), f.Pool != "")
	set("instance", string(f.Instance), f.Instance != "")
	set("kind", strings.Join(f.Kinds, ","), len(f.Kinds) > 0)
	set("since", f.Since.Format(time.RFC3339Nano), !f.Since.IsZero())
	set("after", strconv.FormatUint(f.After, 10), f.After > 0)
	set("limit", strconv.Itoa(f.Limit), f.Limit > 0)
	set("follow", "1", f.Follow)
	return q
}

// ParseLogFilter is the inverse of Query. Its error is [fettle.ErrInvalid] and says which parameter is wrong.
func ParseLogFilter(q url.Values) (f LogFilter, err error) {
	f.Pool = fettle.PoolName(q.Get("pool"))
	f.Instance = fettle.InstanceID(q.Get("instance"))
	if k := q.Get("kind"); k != "" {
		f.Kinds = strings.Split(k, ",")
	}
	if s := q.Get("since"); s != "" {
		if f.Since, err = time.Parse(time.RFC3339Nano, s); err != nil {
			return f, fmt.Errorf("since: %q is no time such as 2006-01-02T15:04:05Z: %w", s, fettle.ErrInvalid)
		}
	}
	if s := q.Get("after"); s != "" {
		if f.After, err = strconv.ParseUint(s, 10, 64); err != nil {
			return f, fmt.Errorf("after: %q is no sequence number: %w", s, fettle.ErrInvalid)
		}
	}
	if f.Limit, err = count(q, "limit"); err != nil {
		return f, err
	}
	f.Follow, err = flag(q, "follow")
	return f, err
}

func count(q url.Values, name string) (int, error) {
	s := q.Get(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: %q is no count: %w", name, s, fettle.ErrInvalid)
	}
	return n, nil
}

func flag(q url.Values, name string) (bool, error) {
	switch s := q.Get(name); s {
	case "", "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	default:
		return false, fmt.Errorf("%s: %q is neither 1 nor 0: %w", name, s, fettle.ErrInvalid)
	}
}
