package bpf

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Program names one of the programs.
type Program string

// The programs.
const (
	Sent     Program = probesProgSockSent
	Received Program = probesProgSockReceived
	Ready    Program = probesProgSockReady
	State    Program = probesProgSockState
	Forked   Program = probesProgTaskForked
	Exited   Program = probesProgTaskExited
	Executed Program = probesProgTaskExecuted
	Entered  Program = probesProgCallEntered
	Tallied  Program = probesProgConnsTallied
	Passed   Program = probesProgFilesPassed
)

// Programs are all of them.
var Programs = []Program{Forked, Exited, Executed, State, Tallied, Passed, Sent, Received, Ready, Entered}

// onDemand are those that are attached while somebody asks for it: they run in the time of others, at each message or system call.
var onDemand = map[Program]bool{Sent: true, Received: true, Ready: true, Entered: true}

// since is the Linux version that a tracepoint came with, as far as it is newer than tracing programs are.
var since = map[Program]string{Sent: "6.3", Received: "6.3", Ready: "6.3"}

// Set is the loaded programs and their maps. It is safe for concurrent use.
type Set struct {
	maps    probesMaps
	chunk   *ebpf.MapSpec
	calls   *ebpf.MapSpec
	waiting map[Program]*ebpf.Program // those on demand
	missing map[Program]string
	news    *ringbuf.Reader
	tallied *link.Iter
	passed  *ebpf.Program
	control control

	mu         sync.Mutex
	detached   bool
	closed     bool
	links      []link.Link
	demanded   map[Program]link.Link // of Sent, Received and Ready
	chunks     []*chunk
	callChunks []*chunk
}

// Open loads all programs and attaches them, except for those that run at each message or system call: see [Set.Demand] and
// [Set.CountCalls]. It fails when none can be loaded at all; the error says in plain words what is missing, and is
// [os.ErrPermission] where that is a right.
func Open() (*Set, error) {
	if err := permitted(); err != nil {
		return nil, err
	}
	// Kernels before 5.11 count maps as locked memory; newer ones need no limit, and a failure shows in the maps.
	_ = rlimit.RemoveMemlock()
	types := btf.NewCache() // some megabytes, for now only
	kernel, err := types.Kernel()
	if err != nil {
		return nil, fmt.Errorf("the kernel does not describe its types (CONFIG_DEBUG_INFO_BTF): %w", err)
	}
	spec, err := loadProbes()
	if err != nil {
		return nil, fmt.Errorf("read the eBPF programs: %w", err)
	}
	s := &Set{
		chunk: spec.Maps[probesMapSlotsChunk].Copy(), calls: spec.Maps[probesMapCallsChunk].Copy(),
		waiting: map[Program]*ebpf.Program{}, missing: map[Program]string{}, demanded: map[Program]link.Link{},
	}
	if err := s.load(spec, kernel, types); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Set) load(spec *ebpf.CollectionSpec, kernel *btf.Spec, types *btf.Cache) error {
	delete(spec.Maps, probesMapSlotsChunk)
	delete(spec.Maps, probesMapCallsChunk)
	programs := spec.Programs
	spec.Programs = nil
	maps, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Cache: types})
	if err != nil {
		return plain(err)
	}
	s.maps = probesMaps{
		Calls: maps.DetachMap(probesMapCalls), Conns: maps.DetachMap(probesMapConns), Heirs: maps.DetachMap(probesMapHeirs),
		Members: maps.DetachMap(probesMapMembers), Slots: maps.DetachMap(probesMapSlots),
		Controls: maps.DetachMap(probesMapControls), News: maps.DetachMap(probesMapNews),
	}
	maps.Close()
	if s.news, err = ringbuf.NewReader(s.maps.News); err != nil {
		return fmt.Errorf("wait for the eBPF programs: %w", err)
	}
	if err := s.control.open(s.maps.Controls); err != nil {
		return err
	}
	o := ebpf.CollectionOptions{Cache: types, MapReplacements: map[string]*ebpf.Map{
		probesMapCalls: s.maps.Calls, probesMapConns: s.maps.Conns, probesMapHeirs: s.maps.Heirs,
		probesMapMembers: s.maps.Members, probesMapSlots: s.maps.Slots,
		probesMapControls: s.maps.Controls, probesMapNews: s.maps.News,
	}}
	for _, name := range Programs {
		p := programs[string(name)]
		if s.missing[name] = lacks(kernel, name, p); s.missing[name] != "" {
			continue
		}
		spec.Programs = map[string]*ebpf.ProgramSpec{string(name): p}
		if err := s.one(name, spec, o); err != nil {
			s.missing[name] = plain(err).Error()
		}
	}
	if len(s.links) == 0 && len(s.waiting) == 0 {
		return errors.New(s.missing[Sent])
	}
	return nil
}

// lacks says why the kernel has no tracepoint for a program; empty where it has it, or needs none.
func lacks(kernel *btf.Spec, name Program, p *ebpf.ProgramSpec) string {
	if p.AttachType == ebpf.AttachTraceIter {
		return ""
	}
	tracepoint := p.AttachTo
	var t *btf.Typedef
	if kernel.TypeByName("btf_trace_"+tracepoint, &t) == nil {
		return ""
	}
	if v := since[name]; v != "" {
		return "this kernel has no tracepoint " + tracepoint + ": Linux " + v + " and newer have it"
	}
	return "this kernel has no tracepoint " + tracepoint
}

// one loads and attaches the one program that is in spec.
func (s *Set) one(name Program, spec *ebpf.CollectionSpec, o ebpf.CollectionOptions) error {
	c, err := ebpf.NewCollectionWithOptions(spec, o)
	if err != nil {
		return err
	}
	defer c.Close()
	p := c.DetachProgram(string(name))
	switch {
	case onDemand[name]:
		s.waiting[name] = p
		return nil
	case name == Tallied:
		s.tallied, err = link.AttachIter(link.IterOptions{Program: p, Map: s.maps.Conns})
	case name == Passed:
		s.passed = p
		return nil
	default:
		var l link.Link
		if l, err = link.AttachTracing(link.TracingOptions{Program: p}); err == nil {
			s.links = append(s.links, l)
		}
	}
	return errors.Join(err, p.Close())
}

// permitted tells without trying whether the process has the rights: what the kernel says to one that has not is often
// something else. CAP_SYS_ADMIN is both, see capabilities(7).
func permitted() error {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&h, &sets[0]); err != nil {
		return nil //nolint:nilerr // not known: loading will tell
	}
	has := func(c int) bool { return sets[c/32].Effective>>(c%32)&1 != 0 }
	if has(unix.CAP_SYS_ADMIN) || has(unix.CAP_BPF) && has(unix.CAP_PERFMON) {
		return nil
	}
	return errRights
}

// refusal is an [os.ErrPermission] in plain words.
type refusal string

const errRights refusal = "needs CAP_BPF and CAP_PERFMON, or root"

func (r refusal) Error() string { return string(r) }

// Is makes it an [os.ErrPermission].
func (r refusal) Is(target error) bool { return target == os.ErrPermission }

// plain says in plain words why the kernel refused.
func plain(err error) error {
	var v *ebpf.VerifierError
	switch {
	case errors.Is(err, os.ErrPermission) && lockdown() != "":
		return refusal("the kernel's lockdown mode " + lockdown() + " forbids it")
	case errors.Is(err, os.ErrPermission):
		return errRights
	case errors.As(err, &v):
		return fmt.Errorf("this kernel refuses the program: %w", err)
	default:
		return err
	}
}

// lockdown is the kernel's lockdown mode where that forbids to look into the kernel, see kernel_lockdown(7).
func lockdown() string {
	b, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil || !strings.Contains(string(b), "[confidentiality]") {
		return ""
	}
	return "confidentiality"
}

// Missing says why a program does not run; empty when it does.
func (s *Set) Missing(p Program) string { return s.missing[p] }

// CountCalls attaches [Entered] until stop is called. While it is, each system call on the machine takes longer.
func (s *Set) CountCalls() (stop func() error, err error) {
	if s.waiting[Entered] == nil {
		return nil, errors.New(s.missing[Entered])
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: s.waiting[Entered]})
	if err != nil {
		return nil, fmt.Errorf("count system calls: %w", plain(err))
	}
	return l.Close, nil
}

// Detach ends all programs; what was counted stays readable until Close.
func (s *Set) Detach() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.detach(); err != nil {
		return fmt.Errorf("detach eBPF programs: %w", err)
	}
	return nil
}

func (s *Set) detach() error {
	s.detached = true
	var errs []error
	for _, l := range s.links {
		errs = append(errs, l.Close())
	}
	for _, l := range s.demanded {
		errs = append(errs, l.Close())
	}
	s.links = nil
	clear(s.demanded)
	return errors.Join(errs...)
}

// Close detaches and unloads all. Rows that were handed out must not be read any more.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	errs := []error{s.detach(), s.control.close()}
	if s.news != nil {
		errs = append(errs, s.news.Close())
	}
	if s.tallied != nil {
		errs = append(errs, s.tallied.Close())
	}
	for _, c := range append(s.chunks, s.callChunks...) {
		errs = append(errs, c.close())
	}
	m := &s.maps
	for _, x := range []*ebpf.Map{m.Calls, m.Conns, m.Heirs, m.Members, m.Slots, m.Controls, m.News} {
		if x != nil {
			errs = append(errs, x.Close())
		}
	}
	if s.passed != nil {
		errs = append(errs, s.passed.Close())
	}
	for _, p := range s.waiting {
		errs = append(errs, p.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("unload eBPF programs: %w", err)
	}
	return nil
}
