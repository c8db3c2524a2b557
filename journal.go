package fettle

// Written says how a batch of events fared in the journal. A batch whose write failed is tried again: its first
// failure is reported with Err, its success later without.
type Written struct {
	Batch uint64
	// Seq is the sequence number of the batch's last event, once it is durable.
	Seq uint64
	Err error
	// Lost: the batch will not be tried again.
	Lost bool
}
