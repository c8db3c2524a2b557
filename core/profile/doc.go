// Package profile holds the learnt baselines of a pool's instances: each one's location, and the scatter that the
// instances of a group share, in slabs of float64 with a fixed stride and without pointers, so that the garbage
// collector has nothing to look at and a step touches memory in order.
//
// # Checkpoint format, version 1
//
// All numbers are little-endian; f is an IEEE 754 double, which must be finite. Counts are checked against what is
// left of the input before anything is allocated for them.
//
//	magic    "FTLP"
//	version  u16  1
//	digest   u64  of the schema that the columns belong to
//	shape    u16 columns, u16 work, u16 categories, u16 unbounded
//	tails    u16 number; each: f threshold, f scale, f rate, f prior, f days, 32 f counts
//	groups   u32 number; each: u32 ID, u64 columns known, f rows, f located, f streamed, f rho, f rho rows,
//	         3 f windows of growth, then the vectors location, recent work, packed covariance, mean squares of the self and the
//	         peers channel (3 spans each), mean squares of growth
//	profiles u32 number; each: u64 life, u32 index of its group, u32 settings, u64 columns known, f rows, f need,
//	         f lived, f candidate rows, f reference counts, u8 flags (1 began from the group, 2 anchored),
//	         6 f healthy quadratic forms, 3 u8 minima seen, then the vectors location, anchor, candidate, recent
//	         work, category reference, its candidate, minima, lowest of the interval under way
//	crc      u32  CRC-32C of all before
//
// Streams of the last seconds are not kept: whoever restores a checkpoint judges by fresh rows.
package profile
