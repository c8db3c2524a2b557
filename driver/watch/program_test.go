package watch

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestWhatAProgramIsCalled(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"/usr/sbin/nginx|-g|daemon off;", "nginx"},
		{"nginx: master process /usr/sbin/nginx -g daemon off;", "nginx"},
		{"gunicorn: master [app:app]", "gunicorn"},
		{"/usr/bin/redis-server *:6379", "redis-server"},
		{"/usr/bin/python3|/usr/bin/gunicorn|--workers|2|app:app", "python3 gunicorn"},
		{"python3.11|-m|http.server|8000", "python3.11 -m http.server"},
		{"python3|-W|ignore|/srv/app.py|--token=secret", "python3 app.py"},
		{"python3|-c|print(1)", "python3"},
		{"node|--max-old-space-size=512|/srv/shop.js|--port|80", "node shop.js"},
		{"node|--require|./trace.js|shop.js", "node shop.js"},
		{"java|-Xmx1g|-cp|/srv/lib/*|com.example.Main|x", "java com.example.Main"},
		{"/usr/bin/java|-jar|/srv/shop.jar", "java -jar shop.jar"},
		{"-bash", "bash"},
		{"sh|-c|secret", "sh"},
		{"python3", "python3"},
		{"", ""},
	} {
		var args []string
		if c.line != "" {
			args = strings.Split(c.line, "|")
		}
		if got := nameOf(args); got != c.want {
			t.Errorf("%q is called %q, want %q", c.line, got, c.want)
		}
	}
}

func TestProgramsAreToldApart(t *testing.T) {
	a, b := server(t, "one"), server(t, "two --port 81")
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	pa, pb, pc := programOf(a.Process.Pid), programOf(b.Process.Pid), programOf(c.Process.Pid)
	if pa != pb {
		t.Errorf("%+v and %+v are one program", pa, pb)
	}
	if pa.id == pc.id {
		t.Errorf("%+v and %+v are two programs", pa, pc)
	}
	if name, id := Program(os.Getpid()); name == "" || id == "" {
		t.Error("this program has no name")
	}
}

func TestListenersAreRead(t *testing.T) {
	for _, c := range []struct {
		line string
		at   string
		node uint64
		ok   bool
	}{
		{"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0", "127.0.0.1:8080", 4242, true},
		{"   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 7 1", "[::1]:80", 7, true},
		{"   2: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4243 1", "", 0, false},
		{"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", "", 0, false},
	} {
		at, node, ok := parseListener(c.line)
		if ok != c.ok || ok && (at.String() != c.at || node != c.node) {
			t.Errorf("%q: %s, %d, %t", c.line, at, node, ok)
		}
	}
}

func FuzzParseListener(f *testing.F) {
	f.Add("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0")
	f.Add("0: zz:zz a 0A 0 0 0 0 0 0")
	f.Fuzz(func(t *testing.T, line string) {
		at, _, ok := parseListener(line)
		if ok && (!at.IsValid() || at == netip.AddrPort{}) {
			t.Errorf("%q gives %s", line, at)
		}
	})
}

func FuzzParseMounts(f *testing.F) {
	f.Add([]byte("cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, h := range parseMounts(b) {
			if h.controllers == nil && !h.systemd {
				t.Errorf("%q: %+v", b, h)
			}
		}
	})
}
