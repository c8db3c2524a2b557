// Package app is the application of the demo.
package app

// Main runs the application until SIGTERM and returns the exit code.
func Main(args []string) int { return 0 }
