// Package stray is named by no rule.
package stray
