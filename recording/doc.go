// Package recording keeps what a pool's brain saw and decided in a file, and lets a brain see it again.
//
// # Format
//
// A recording is a text of JSON values, one a line, in UTF-8, compressed as one or more gzip members (RFC 1952), one after
// the other, so that zcat prints it. Each member ends with a complete line. A text that is not compressed is read as well.
//
// The first line is the header ([Header]):
//
//	{"format": "fettle recording", "version": 1, "minor": 0, "fettle": "0.1.0", "at": "2026-01-02T15:04:05.123456789Z",
//	 "pool": {...}, "redacted": ["image.env.TOKEN"], "schema": {"dimensions": [...], "sets": [...]},
//	 "judge": {...}, "journal": true, "state": {...}, "slots": [0, 1], "loop": {...}, "profiles": 2}
//
// pool is the policy in the form of the pool file. state, slots and loop are the planner's and the loop's own at that
// moment: a brain that is made of them goes on where the recorded one was. What the judge had learnt (its checkpoint, in the
// format of core/profile) follows in as many lines as profiles says, in base64:
//
//	{"profiles": "RlRMUAEA..."}
//
// Then there is one line for each step of the loop ([Step]): when it was, what went in, and what came of it.
//
//	{"at": "...", "frame": {...}, "events": [{"kind": "exited", "event": {...}}], "written": [{"batch": 7, "seq": 31}],
//	 "made": [{"kind": "judged", "event": {...}}, {"kind": "opened", "event": {...}}], "did": [12]}
//
// events are facts, outcomes of actions, and commands; written says which batches of the journal became durable; made are
// verdicts, figures and decisions, in the order in which they were made; did are the numbers of the actions that were begun.
// Kinds and fields of events are those of the journal. Whatever is empty is left out.
//
// A frame has a row for each instance that was measured:
//
//	{"at": "...", "demand": {"arrivals": 80}, "labels": ["GET /items"], "rows": [
//	  {"id": "web-1", "generation": 1, "slot": 0, "age": 61.5, "span": 1, "serving": true,
//	   "x": [40.1, null, 0.012], "lacks": [1], "counts": [38, 2]}]}
//
// x has a value for each dimension of the schema, in its order and unit; null is missing this time, and the columns in
// lacks cannot be measured of this instance at all. counts has one number for each category of all sets, one set after the
// other. labels name the categories; they are given when they changed. group, settings, held and serving are of a [fettle.Row].
// Numbers are written so that they are read as the same floating-point numbers, bit for bit; what JSON has no number for is
// the text "+Inf" or "-Inf".
//
// The last line says how the recording ended:
//
//	{"end": {"at": "...", "reason": "asked for"}}
//
// Without it the recording broke off, which readers say; all lines before are good.
//
// # Versions
//
// minor grows when fields or kinds of lines are added; readers ignore those that they do not know. version grows when older
// readers would misread the file; they refuse it.
package recording
