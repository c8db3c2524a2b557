// Package profile holds the learnt baselines of a pool's instances: each one's location, and the scatter that the
// instances of a group share, in slabs of float64 with a fixed stride and without pointers, so that the garbage
// collector has nothing to look at and a step touches memory in order.
//
// # Checkpoint format, version 3
//
// All numbers are little-endian; f is an IEEE 754 double, which must be finite. Counts are checked against what is
// left of the input before anything is allocated for them. Nothing is left out: whoever restores a checkpoint goes on
// exactly as the one that wrote it. Earlier versions lacked what looks at longer times, and are refused.
//
//	magic    "FTLP"
//	version  u16  3
//	digest   u64  of the schema that the columns belong to
//	shape    u16 columns, u16 work, u16 slow, u16 unbounded, u16 categories, u16 sets
//	tails    u16 number; each: f threshold, f scale, f rate, f prior, f octaves, f days, 32 f counts
//	groups   u32 number; each: u32 ID, u64 columns located, u64 columns with scatter, u64 late ones, f rows, f located,
//	         f streamed, 4 f windows of growth, f rows since it was factored, u8 factored, u64 tick of its last row,
//	         u8 flags of longer times (1 a half hour goes on, 2 a member's streams are known), 15 f of [GroupLong] in the
//	         order of its floats, then the vectors of [Group] in their order
//	profiles u32 number, by life; each: u64 life, u32 index of its group, u32 settings, u64 columns known, u64 columns that
//	         count, f rows, f need, f lived, f candidate rows, u8 flags (1 began from the group, 2 anchored, 4 rows of the
//	         streams are missing), 6 f healthy quadratic forms, 4 u8 minima seen, u64 columns that the streams know, 23 f of [Long]
//	         in the order of its floats, then the vectors of [Profile] in their order
//	crc      u32  CRC-32C of all before
package profile
