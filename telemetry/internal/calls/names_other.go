//go:build !amd64 && !arm64

package calls

// names are not known for this processor: calls are told by number.
var names = [...]string{}
