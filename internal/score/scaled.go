package score

// Scaled gives members of one pool as the judge is given them by [Run] where all columns are responses without a unit: in
// scales that are found in train. Who judges them by other means sees the same.
func Scaled(members []Member) ([]Member, error) {
	cols, err := fit(nil, members)
	if err != nil {
		return nil, err
	}
	scaled := func(rows [][]float64) [][]float64 {
		out := make([][]float64, len(rows))
		for i, row := range rows {
			out[i] = make([]float64, len(row))
			for k := range cols.list {
				c := &cols.list[k]
				out[i][c.from] = c.scale.forward(row[c.from])
			}
		}
		return out
	}
	out := make([]Member, len(members))
	for i := range members {
		m := &members[i]
		out[i] = Member{Name: m.Name, Columns: m.Columns, Train: scaled(m.Train), Test: scaled(m.Test)}
	}
	return out, nil
}
