package calls

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNamesAndClasses(t *testing.T) {
	table := Table(512)
	for _, tc := range []struct {
		number int
		name   string
		class  Class
	}{
		{unix.SYS_READ, "read", File},
		{unix.SYS_OPENAT, "openat", File},
		{unix.SYS_SENDTO, "sendto", Network},
		{unix.SYS_MMAP, "mmap", Memory},
		{unix.SYS_CLONE3, "clone3", Process},
		{unix.SYS_CLOCK_NANOSLEEP, "clock_nanosleep", Time},
		{unix.SYS_FUTEX, "futex", Sync},
		{unix.SYS_TGKILL, "tgkill", Signal},
		{unix.SYS_EPOLL_PWAIT, "epoll_pwait", Poll},
		{unix.SYS_BPF, "bpf", Other},
		{511, "call 511", Other},
	} {
		if got := Name(tc.number); got != tc.name {
			t.Errorf("call %d is named %q, want %q", tc.number, got, tc.name)
		}
		if got := table[tc.number]; got != tc.class {
			t.Errorf("%s is of class %s, want %s", tc.name, got, tc.class)
		}
	}
}

// Few calls may be in no class: those that servers do not make.
func TestNothingForgotten(t *testing.T) {
	rare := strings.Fields(`_sysctl syslog reboot sethostname setdomainname iopl ioperm create_module init_module delete_module
		get_kernel_syms query_module getpmsg putpmsg afs_syscall tuxcall security vserver kexec_load kexec_file_load add_key
		request_key keyctl perf_event_open finit_module bpf getrandom lsm_get_self_attr lsm_set_self_attr lsm_list_modules
		uretprobe uprobe listns`)
	table := Table(len(names))
	for number, name := range names {
		if name != "" && table[number] == Other && !slices.Contains(rare, name) {
			t.Errorf("%s (%d) is in no class", name, number)
		}
	}
	seen := map[string]Class{}
	for c, list := range members {
		for name := range strings.FieldsSeq(list) {
			if was, is := seen[name]; is {
				t.Errorf("%s is in class %s and in %s", name, was, Class(c))
			}
			seen[name] = Class(c)
		}
	}
}
