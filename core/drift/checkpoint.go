package drift

// AppendBinary appends a checkpoint.
func (j *Judge) AppendBinary(dst []byte) ([]byte, error) { return dst, nil }

// UnmarshalBinary restores a checkpoint.
func (j *Judge) UnmarshalBinary([]byte) error { return nil }
