//go:build race

package process_test

// killRounds is less under the race detector, which makes each start several times dearer.
const killRounds = 12
