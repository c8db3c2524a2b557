// Package stat has the online estimators that the drift judge is made of: packed Cholesky factors, conditional
// distances, robust location and slope, quantiles, and tests on counts. All functions are pure and deterministic.
package stat
