package main

import "gonum.org/v1/gonum/stat/distuv"

// garwood is the exact interval of the mean of a Poisson count: from 2.5 % to 97.5 % (Garwood, Fiducial Limits for the Poisson
// Distribution, Biometrika 28, 1936).
func garwood(n int) (low, high float64) {
	if n > 0 {
		low = distuv.Gamma{Alpha: float64(n), Beta: 1}.Quantile(0.025)
	}
	return low, distuv.Gamma{Alpha: float64(n) + 1, Beta: 1}.Quantile(0.975)
}

// atMost is the bound that the mean is below with 95 % confidence.
func atMost(n int) float64 {
	return distuv.Gamma{Alpha: float64(n) + 1, Beta: 1}.Quantile(0.95)
}

// per100 is a count in so many days as a rate per 100 of them.
func per100(n, days float64) float64 { return 100 * n / days }
