// Package profile holds the learnt baselines of a pool's instances in one pointer-free slab.
package profile
