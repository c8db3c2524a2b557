// Package config reads the pool file.
package config

import (
	"encoding/json"

	ft "github.com/fettle-dev/fettle"
)

// File is a pool file.
type File struct {
	// Pools of instances.
	Pools []ft.Pool `json:"pools"`
}

// Error is all that is wrong with a file.
type Error struct {
	Problems []Problem
}

// Problem is one thing that is wrong, and where.
type Problem struct {
	File    string
	Line    int    // from 1
	Column  int    // from 1
	Source  string // the line itself
	Msg     string
	Suggest string // the nearest right name, if any
}

func (e *Error) Error() string { return "" }

// Parse reads a pool file; what is wrong with it is an *Error.
func Parse(name string, b []byte) (*File, error) {
	var f File
	return &f, json.Unmarshal(b, &f)
}

// Schema is the JSON Schema of the pool file.
func Schema() ([]byte, error) { return nil, nil }

// Init is the commented file that a user starts from.
func Init(command []string) []byte { return nil }

// Marshal writes the file as YAML.
func Marshal(f File) ([]byte, error) { return json.Marshal(f) }
