// Package store is outside of the core.
package store

var Value = 1
