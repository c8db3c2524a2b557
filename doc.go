// Package fettle is the vocabulary of Fettle: the values that all its packages exchange, and the ports that drivers,
// sources and fronts implement. It has no behaviour beyond validation and text forms, and imports the standard
// library only.
//
// Fettle keeps pools of warm instances in good order. A [Pool] is made from one [Image]; a [Driver] starts
// [Instance]s of it; [Source]s measure them into [Frame]s; core/drift judges a frame into [Verdict]s; core/plan
// decides [Action]s; an executor carries them out and reports [Event]s, the only thing that changes decision state.
//
//	driver + sources --Frame--> drift.Judge --Verdict--> plan.State --Action--> journal --> executor
//	                                                         ^                                 |
//	                                                         +-------- outcome events ---------+
package fettle
