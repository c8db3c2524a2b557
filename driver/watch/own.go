package watch

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/fettle-dev/fettle/internal/procfs"
)

// instanceVariable names, in the environment of what Fettle runs, the instance that it is.
const instanceVariable = "FETTLE_INSTANCE"

// managed is what a process is to Fettle that runs it: the name of an instance, or of a part of Fettle; "" for servers of
// others. Two brains are not to judge one server.
func managed(pid int) string {
	env, err := os.ReadFile(procfs.Path(pid, "environ"))
	if err == nil {
		for kv := range bytes.SplitSeq(env, []byte{0}) {
			// One that this process has itself was inherited from further up.
			if v, is := bytes.CutPrefix(kv, []byte(instanceVariable+"=")); is && string(v) != os.Getenv(instanceVariable) {
				return string(v)
			}
		}
	}
	args, err := os.ReadFile(procfs.Path(pid, "cmdline"))
	if err != nil {
		return ""
	}
	if words := bytes.SplitN(args, []byte{0}, 3); len(words) == 3 && bytes.HasPrefix(words[1], []byte("internal-")) {
		own, err1 := os.Stat("/proc/self/exe")
		its, err2 := os.Stat(procfs.Path(pid, "exe"))
		if err1 == nil && err2 == nil && os.SameFile(own, its) {
			return "fettle " + string(words[1])
		}
	}
	return ""
}

// ownNote says which of those that match Fettle runs itself; "" where it is none.
func ownNote(names []string) string {
	if len(names) == 0 {
		return ""
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	what := strings.Join(names, ", ")
	if most := 5; len(names) > most {
		what = fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return what + ": Fettle runs that itself, and it is not watched"
}
