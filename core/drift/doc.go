// Package drift judges frames: how far each instance is from its learnt behaviour and from its peers, whether its
// workload changed or the instance itself did, and which columns say so.
//
// # What is compared
//
// The columns of a row are transformed ([ft.Transform]) and whitened by one packed Cholesky factor in the order
// intake, load, response, so that the innovation of a response column is what it deviates from its expectation given
// the work and the responses before it. The factor's covariance belongs to the group (the instances of one
// specialization), the location to the instance. Intake stands before load, so that responses are explained by the
// work that was really done; a change of intake alone is evidence for nothing.
//
//   - self, response: the innovations, each passed through the median of the last seven rows, so that up to three
//     wild rows leave no trace, then smoothed over 10 and 40 rows, and divided by their own healthy scale. The quadratic
//     form of each of the three spans, less its healthy mean, is the squared deviation.
//   - peers, response: the same of that part of an innovation which neither the instance's own usual nor the
//     leave-one-out median of its peers covers. It is never larger than what self sees, so self must agree, and a
//     healthy instance beside one sick peer has none.
//   - self, load: the present offered load and its mean of 40 rows against the last two minutes, and against the learnt
//     location, in scales that follow the healthy extremes: waves are no bell curves.
//   - routes: the G-test of the last 4 and 20 rows' counts against the reference, divided by the over-dispersion
//     learnt from healthy windows.
//   - slope: growth of an unbounded response over minima of 8, 64 and 512 rows by Theil-Sen, with the work removed,
//     beyond the growth of peers of like age; growth that slows down is warming up and does not count.
//   - pool: the column-wise median of the members' deviations.
//
// All spans are in rows: multiples of [Config.Interval].
//
// # Thresholds and levels
//
// Each part has a threshold by alarm runs ([stat.Runs]); a score is the deviation divided by it. Score 1 is Low; the
// other levels stand where the tail's scale says that healthy time crosses at 1/3, 1/10 and 1/100 of the rate. The
// tolerated rate is split evenly over the parts.
//
// # Cause
//
// Routes above 0.6 of their threshold, load above its threshold or above its learnt range explain a response: workload
// changed. A response without that: instance changed, which with three or more members needs the peers channel too;
// else it is at most Low, cause unknown. What most members show alike is the pool's verdict, for load, routes and
// response each by itself; then their self thresholds rise and only the peers channel, with the load relative to that
// of the peers, can call one of them ill. A response that outlasts the change of work which brought it about stays
// with that cause for a while. Without load columns and route counts the peers decide; an instance that has neither
// stays at cause unknown. The work of a pool of one is the pool's.
//
// # Learning
//
// The first baseline takes [Config.Learn]. A new life of a known group starts from the group's location and is judged
// after 10 rows, with a variance that falls with its age. Rows under an action train nothing; while an instance or the
// pool drifts, the profile is frozen and a candidate is learnt beside it, which is adopted after 10 times Learn where
// the work changed, else after 60 times and only if latency and errors are unharmed and nothing has doubled.
package drift
