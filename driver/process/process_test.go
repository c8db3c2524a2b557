package process_test

import (
	"os"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/driver/process"
)

func TestSmoke(t *testing.T) {
	d, err := process.New(process.Options{StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p := ft.Pool{Name: "web", Image: ft.Image{Command: []string{"/proc/self/exe", "app", "serve"}}}
	p.Image.Command[0], _ = exe()
	p.Defaults()
	t0 := time.Now()
	in, err := d.Start(t.Context(), &p, ft.Ref{ID: "web-1", Generation: 1}, ft.Work{})
	t.Log(time.Since(t0), in, err)
	t.Log(d.Knobs(&p, in))
	for _, f := range d.Facts() {
		t.Logf("%+v", f)
	}
	in, err = d.FullReset(t.Context(), &p, in.Ref)
	t.Log(in, err)
	t0 = time.Now()
	t.Log(d.Stop(t.Context(), in.Ref, time.Second), time.Since(t0))
}

func exe() (string, error) { return os.Executable() }
