package stat

import "math"

// Select partially sorts a so that a[k] is its k-th smallest element, those before it are no greater and those after
// it no smaller, and returns a[k] (Hoare, 1961). No element may be NaN.
func Select(a []float64, k int) float64 {
	lo, hi := 0, len(a)-1
	for lo < hi {
		p := a[lo+(hi-lo)/2]
		i, j := lo, hi
		for i <= j {
			for a[i] < p {
				i++
			}
			for a[j] > p {
				j--
			}
			if i <= j {
				a[i], a[j] = a[j], a[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return a[k]
		}
	}
	return a[k]
}

// Median of a, which is partially sorted by it; the mean of the middle two for an even number, NaN for none.
func Median(a []float64) float64 {
	lo, hi := middle(a)
	return (lo + hi) / 2
}

// FollowMedian moves the estimate m of a median towards x, the observation after n others: by at most a part of scale that
// falls with their number (Robbins and Monro, A Stochastic Approximation Method, Annals of Mathematical Statistics 22(3),
// 1951). scale is about the spread of the observations.
func FollowMedian(m, n, x, scale float64) float64 {
	if n == 0 {
		return x
	}
	step := 2 * scale / (n + 4)
	return m + min(max(x-m, -step), step)
}

// middle gives the one or two middle elements.
func middle(a []float64) (lo, hi float64) {
	n := len(a)
	if n == 0 {
		return math.NaN(), math.NaN()
	}
	hi = Select(a, n/2)
	lo = hi
	if n%2 == 0 {
		lo = a[0]
		for _, v := range a[1 : n/2] {
			lo = max(lo, v)
		}
	}
	return lo, hi
}

// Calm is the median of a nearest to 0: 0 where the middle two have different signs. It partially sorts a.
func Calm(a []float64) float64 {
	lo, hi := middle(a)
	switch {
	case lo > 0:
		return lo
	case hi < 0:
		return hi
	default:
		return 0
	}
}

// Middle is what must be known of a sample to find the median of it without any one member (leave one out).
type Middle struct {
	n          int
	a, b, c, d float64 // the order statistics n/2-2 ... n/2+1, as far as there are any
}

// MiddleOf partially sorts a, which has no NaN.
func MiddleOf(a []float64) Middle {
	n := len(a)
	m := Middle{n: n}
	if n == 0 {
		return m
	}
	k := n / 2
	m.c = Select(a, k)
	m.b, m.a, m.d = math.Inf(-1), math.Inf(-1), math.Inf(1)
	for _, v := range a[:k] {
		if v > m.b {
			m.a, m.b = m.b, v
		} else if v > m.a {
			m.a = v
		}
	}
	for _, v := range a[k+1:] {
		m.d = min(m.d, v)
	}
	return m
}

// Without gives the middle values of the sample without its member v: equal where the others are odd in number, and
// NaN where there are none. v must be a member.
func (m Middle) Without(v float64) (lo, hi float64) {
	switch {
	case m.n < 2:
		return math.NaN(), math.NaN()
	case m.n%2 == 0 && v <= m.b: // an odd number of others: one middle
		return m.c, m.c
	case m.n%2 == 0:
		return m.b, m.b
	case v < m.c: // an even number of others: two
		return m.c, m.d
	case v > m.c:
		return m.b, m.c
	default:
		return m.b, m.d
	}
}

// Median7 is the median of the seven values of h: up to three wild ones among them do not move it. It is the
// exchange network of Smith (1996); min and max compile to instructions without branches, which noise would mispredict.
func Median7(h *[7]float64) float64 {
	a, b, c, d, e, f, g := h[0], h[1], h[2], h[3], h[4], h[5], h[6]
	a, f = min(a, f), max(a, f)
	a, d = min(a, d), max(a, d)
	b, g = min(b, g), max(b, g)
	c, e = min(c, e), max(c, e)
	b = max(a, b)
	d, f = min(d, f), max(d, f)
	c, g = min(c, g), max(c, g)
	d = max(c, d)
	d = min(d, g)
	e = min(e, f)
	b, e = min(b, e), max(b, e)
	d = max(b, d)
	return min(d, e)
}

// All gives the middle values of the whole sample, NaN where it is empty.
func (m Middle) All() (lo, hi float64) {
	switch {
	case m.n == 0:
		return math.NaN(), math.NaN()
	case m.n%2 == 0:
		return m.b, m.c
	default:
		return m.c, m.c
	}
}
