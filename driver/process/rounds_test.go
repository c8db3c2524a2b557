//go:build !race

package process_test

// killRounds is how often the owner of a driver is killed.
const killRounds = 32
