// Package calls names the system calls of this processor and says what kind of work each is.
package calls

import (
	"slices"
	"strconv"
	"strings"
)

// The names are those of the kernel's headers.
//
//go:generate go run generate.go

// Class is a kind of system call.
type Class uint8

// The classes.
const (
	File    Class = iota // files, directories, file systems, and what is read from and written to descriptors of any kind
	Network              // sockets
	Memory               // address space
	Process              // processes, threads, users, limits, scheduling
	Time                 // clocks, timers, sleeping
	Sync                 // waiting for other threads
	Signal               // signals
	Poll                 // waiting for descriptors
	Other                // what is in no class, and what this version does not know
)

// Classes are their names, in order.
var Classes = []string{"file", "network", "memory", "process", "time", "sync", "signal", "poll", "other"}

func (c Class) String() string {
	if int(c) < len(Classes) {
		return Classes[c]
	}
	return Classes[Other]
}

// members are the names of each class on any processor.
var members = [...]string{
	File: `read write open close stat fstat lstat lseek pread64 pwrite64 readv writev access dup dup2 dup3 sendfile fcntl flock fsync
		fdatasync truncate ftruncate getdents getdents64 getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink readlink
		chmod fchmod chown fchown lchown umask utime utimes mknod ustat statfs fstatfs sysfs chroot mount umount2 pivot_root
		swapon swapoff quotactl quotactl_fd readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr
		flistxattr removexattr lremovexattr fremovexattr setxattrat getxattrat listxattrat removexattrat lookup_dcookie fadvise64
		openat openat2 openat_tree mkdirat mknodat fchownat futimesat newfstatat fstatat unlinkat renameat renameat2 linkat symlinkat
		readlinkat fchmodat fchmodat2 faccessat faccessat2 splice tee vmsplice sync sync_file_range syncfs utimensat fallocate preadv
		pwritev preadv2 pwritev2 name_to_handle_at open_by_handle_at copy_file_range statx open_tree open_tree_attr move_mount fsopen
		fsconfig fsmount fspick close_range mount_setattr statmount listmount ioctl pipe pipe2 io_setup io_destroy io_submit
		io_cancel io_uring_setup io_uring_register inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_init
		fanotify_mark memfd_create memfd_secret cachestat file_getattr file_setattr landlock_create_ruleset landlock_add_rule
		landlock_restrict_self nfsservctl acct uselib`,
	Network: `socket connect accept accept4 sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown bind listen getsockname
		getpeername socketpair setsockopt getsockopt`,
	Memory: `mmap mprotect munmap brk mremap msync mincore madvise process_madvise process_mrelease mlock mlock2 munlock mlockall
		munlockall remap_file_pages mbind set_mempolicy get_mempolicy set_mempolicy_home_node migrate_pages move_pages pkey_mprotect
		pkey_alloc pkey_free process_vm_readv process_vm_writev userfaultfd shmget shmat shmctl shmdt membarrier map_shadow_stack mseal`,
	Process: `rseq_slice_yield clone clone3 fork vfork execve execveat exit exit_group wait4 waitid kcmp getpid gettid getppid getuid geteuid getgid
		getegid setuid setgid setpgid getpgrp getpgid getsid setsid setreuid setregid getgroups setgroups setresuid getresuid
		setresgid getresgid setfsuid setfsgid capget capset getrlimit setrlimit prlimit64 getrusage getpriority setpriority prctl
		arch_prctl personality sched_yield sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_get_priority_max
		sched_get_priority_min sched_rr_get_interval sched_setaffinity sched_getaffinity sched_setattr sched_getattr getcpu unshare
		setns set_tid_address set_thread_area get_thread_area set_robust_list get_robust_list rseq ptrace seccomp ioprio_set
		ioprio_get pidfd_open pidfd_getfd modify_ldt uname sysinfo vhangup`,
	Time: `gettimeofday settimeofday time times alarm getitimer setitimer nanosleep clock_nanosleep clock_gettime clock_settime
		clock_getres clock_adjtime adjtimex timer_create timer_settime timer_gettime timer_getoverrun timer_delete timerfd_create
		timerfd_settime timerfd_gettime`,
	Sync: `futex futex_waitv futex_wake futex_wait futex_requeue semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open
		mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr eventfd eventfd2 restart_syscall`,
	Signal: `rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo rt_sigsuspend
		sigaltstack signalfd signalfd4 kill tkill tgkill pause pidfd_send_signal`,
	Poll: `poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait
		epoll_pwait2 io_getevents io_pgetevents io_uring_enter`,
}

// Table is the class of each number below n; numbers without a name are [Other].
func Table(n int) []Class {
	of := map[string]Class{}
	for c, list := range members {
		for name := range strings.FieldsSeq(list) {
			of[name] = Class(c)
		}
	}
	out := slices.Repeat([]Class{Other}, n)
	for number, name := range names {
		if c, is := of[name]; is && number < n {
			out[number] = c
		}
	}
	return out
}

// Name of a number: "read", or "call 999" where this version does not know it.
func Name(number int) string {
	if number >= 0 && number < len(names) && names[number] != "" {
		return names[number]
	}
	return "call " + strconv.Itoa(number)
}
