// Package e2e runs Fettle with programs that nobody here wrote (python3, gunicorn, node, redis-server) under real traffic
// (wrk). Build tag e2e; `make e2e`. A program that is missing skips its test with the reason.
package e2e
