// Package drift judges frames: how far each instance is from its learnt behaviour and from its peers, whether its
// workload changed, the instance itself did, or something that it depends on, and which columns and categories say so.
//
// # What is compared
//
// The columns of a row are transformed ([ft.Transform]) and whitened by one packed Cholesky factor in the order
// intake, load, dependencies, other responses, slow responses, so that the innovation of a response column is what it
// deviates from its expectation given the work and the responses before it. The factor's covariance belongs to the group
// (the instances of one specialization), the location to the instance. Intake stands before load, so that responses are
// explained by the work that was really done; a change of intake alone is evidence for nothing. [ft.Dependencies] stand
// before the other responses, which are widened by how far the dependencies are from what is usual.
//
//   - self, response: the innovations, each passed through the median of the last seven values, so that up to three
//     wild ones leave no trace, then smoothed over 10 and 40 values, and divided by their own healthy scale. The quadratic
//     form of each of the three spans, less its healthy mean, is the squared deviation.
//   - peers, response: the same of that part of an innovation which neither the instance's own usual nor the
//     leave-one-out median of its peers covers. It is never larger than what self sees, so self must agree, and a
//     healthy instance beside one sick peer has none.
//   - self, load: the present offered load and its mean of 40 rows against the last two minutes, and against the learnt
//     location, in scales that follow the healthy extremes: waves are no bell curves.
//   - each category set: the G-test of the last 4 and 20 readings' counts against the set's own reference, divided by
//     the over-dispersion learnt from healthy windows. A Load set tells of the work. A Response set tells of the
//     instance; it must be strange in four readings (two of a slow set), and its peers are asked by how its shares moved
//     beyond the middle of theirs. A set without counts in a frame is neither judged nor trained by it.
//   - slope: growth of an unbounded response over minima of 8, 64 and 512 rows, and of days, by Theil-Sen, with the work removed,
//     beyond the growth of peers of like age; growth that slows down is warming up and does not count.
//   - pool: the column-wise median of the members' deviations.
//
// All spans are in rows, multiples of [Config.Interval], or in readings of a slow column or set.
//
// # Hours and days
//
// What takes longer is seen by the streams: three ways to look at a row, which is the mean of the frames of a minute where frames
// come faster. They are the level less what the time of day explains, the deviation from a mean of three hours, and the difference
// from the row before. Each has a factor of its own, of the group, and a location, of the instance, and gives the quadratic form of
// the responses' innovations given the work, clipped, divided by its healthy median. The sum of the three is smoothed over 3 to 300
// rows; how far the mean of these smoothed sums is above its healthy median ranks rows ([Scores]). Alarms are by those over 3 to 30
// rows, since what takes hours to fade would hold them, and by a level that is adopted once it has lasted for half a day.
//
// The level's location and scatter stay as they were when its learning ended, after a week or [Config.Learn]: an anchor. The other two
// go on learning with a half-life of a week, strange rows in inverse proportion to their strangeness. The season is 48 half hours
// of the day, the group's, with a slope within 0 and 1 of each column of each instance. Judged is after two days, or after Learn where
// that has [LongLeast] rows; a new life of a group that is known, after two hours. Means of frames begin ten minutes after its start.
//
// Where frames are a minute apart or more, the parts above that look at seconds (load, self, peers) count only until the
// streams do. The streams' own peers channel is by how much a score exceeds the middle of the others'.
//
// Growth is watched over days too: see slope.
//
// # Slow, late and missing columns
//
// A response column whose [ft.Dimension.Every] is longer than the interval has a reading where its value differs from
// the last one, or stayed the same for two of its intervals. It trains once a reading, its innovations move on once a
// reading, and in between it counts in the forms as the last reading left it; peers are asked for their last readings. It
// is compared given the work alone, since it has too few readings for a regression on all other columns. It stands
// last, so that no other column waits for it.
//
// Every column counts only after 10 values of the instance's own (3 readings of a slow one that the group knows; at
// once for a fast one that the group knows), and each has its own count of values where it came later than the others.
// So a fresh instance is judged after a few rows by its fast columns, and a column that joins is no drift. What is
// missing now is conditioned out; what cannot be measured of an instance never counts, nor teaches its group.
//
// # Thresholds and levels
//
// Each part has a threshold by alarm runs ([stat.Runs]); a score is the deviation divided by it. Score 1 is Low; the
// other levels stand where the tail's scale says that healthy time crosses at 1/3, 1/10 and 1/100 of the rate. The
// tolerated rate is split evenly over the parts; the streams add a share of their own. Their levels rise by a power law, since sums
// of squares of what is heavy-tailed have such a tail. A level falls when a lower one would do for five rows, and to Low as
// soon as the score is below 0.6 for two.
//
// # Cause
//
// Routes above 0.6 of their threshold, load above its threshold or above its learnt range explain a response: workload
// changed. So do routes from 0.4 on that began to stir within 30 rows of the response. Dependencies that carry the drift,
// and that the peers which make calls see too, or that have no such peers: dependency changed. A response without
// that: instance changed, which with three or more members needs the peers channel too; else it is at most Low, cause
// unknown. What most members show alike is the pool's verdict, for load, routes, response and answers each by itself;
// then their self thresholds rise and only the peers channel, with the load relative to that of the peers, can call one
// of them ill. A response that outlasts the change of work or dependency which brought it about stays with that cause
// for a while. Without load columns and route counts the peers decide; an instance that has neither stays at cause
// unknown. The work of a pool of one is the pool's.
//
// # Learning
//
// The first baseline takes [Config.Learn]. A new life of a known group starts from the group's location and category
// references and is judged after 10 rows, with a variance that falls with its age. Rows under an action train nothing;
// while an instance or the pool drifts, the profile is frozen and a candidate is learnt beside it, which is adopted after
// 10 times Learn where the work changed, else after 60 times and only if latency and errors are unharmed and nothing has
// doubled. The reference of a set that stirs, from 0.4 of its threshold on, learns at a twentieth of the rate. In groups of
// more than 32 instances these take turns at teaching the scatter, and above 64 only each second, third, ... is asked
// where the middle of the peers is looked for.
//
// # Checkpoints
//
// [Judge.AppendBinary] keeps everything: a judge that restores a checkpoint goes on bit by bit as the one that wrote it.
package drift
