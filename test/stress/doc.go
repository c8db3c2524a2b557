// Package stress runs programs whose behaviour is known, mostly workers of stress-ng, and checks what telemetry says of them:
// each must show in the dimensions that table.yaml names for it, within 10 % of what the kernel itself counted, and must
// stir no other dimension beyond what the table lists. `make test-stress` runs it, some three minutes; it needs
// stress-ng (Debian's package), and root for what only root can see.
package stress
