// Package cgroup finds the control groups that this process may use and makes one for each instance.
package cgroup
