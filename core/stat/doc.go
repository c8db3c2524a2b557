// Package stat has the online estimators that the drift judge is made of: packed Cholesky factors and conditional
// distances, exponentially weighted moments, order statistics, robust slopes, the G-test on counts with
// over-dispersion, and thresholds by alarm runs. All functions are pure, deterministic, and allocate nothing.
package stat
