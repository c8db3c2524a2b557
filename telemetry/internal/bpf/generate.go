package bpf

// The objects are made with the clang and libbpf of Debian 12; TestObjects proves that they are of this source.
//
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -go-package bpf -target bpfel,bpfeb -type peer -type control probes probes.c -- -O2 -mcpu=v3 -Wall -Werror
