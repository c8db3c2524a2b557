package drift

// Config is what the judge was made with, defaults filled in.
func (j *Judge) Config() Config { return j.config }
