//! Starting programs that answer requests, as cheaply as `posix_spawn` does, and ending them.
//!
//! Answers to `apr_proc_create` and `apr_pool_note_subprocess` of APR. The new process shares this one's memory until it
//! has become the program (`CLONE_VFORK`), so that starting one costs the same in a large server. `posix_spawn` itself can
//! set no limits, and `std::process::Command` sorts the environment.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A limit for the new process: which, soft, hard.
pub type ResourceLimit = (nix::sys::resource::Resource, u64, u64);

/// What to start, and how.
pub struct Program<'a> {
    /// Its file; no search in PATH.
    pub file: &'a CStr,
    /// Its words; the first is its name.
    pub argv: &'a [CString],
    /// All of its environment, in this order.
    pub env: &'a [CString],
    /// The folder that it runs in.
    pub dir: Option<&'a CStr>,
    /// What it may use.
    pub limits: &'a [ResourceLimit],
    /// What it reads; `None`: nothing.
    pub stdin: Option<OwnedFd>,
    /// Where it writes.
    pub stdout: OwnedFd,
    /// Where it complains; `None`: where this process does.
    pub stderr: Option<OwnedFd>,
}

/// What went wrong before the program ran.
#[derive(Debug)]
pub enum SpawnError {
    /// No process.
    Fork(io::Error),
    /// Not in this folder.
    Chdir(io::Error),
    /// A limit can't be set.
    Limit(io::Error),
    /// The program can't be run.
    Exec(io::Error),
}

/// The limits on descriptors that this process was started with, before [`remember_descriptor_limit`]'s caller raised them.
static DESCRIPTORS: AtomicU64 = AtomicU64::new(0);

/// Programs get `soft` as their limit on descriptors, however far this process goes.
pub fn remember_descriptor_limit(soft: u64) {
    DESCRIPTORS.store(soft, Ordering::Relaxed);
}

/// How much stack the new process has until it is the program: a few calls of the system.
const STACK: usize = 32 * 1024;

/// What the new process needs, made before there is one: it may allocate nothing.
struct Plan {
    file: *const libc::c_char,
    argv: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    dir: *const libc::c_char,
    limits: Vec<(libc::__rlimit_resource_t, libc::rlimit)>,
    files: [RawFd; 3],
    /// Which step failed, and why.
    failed: (u8, libc::c_int),
}

/// Runs in the new process, in memory of the old one, which sleeps meanwhile.
extern "C" fn become_program(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` hands its plan over and sleeps until this process has become the program or is gone, so nobody else
    // uses it. Only calls of the system are made, which take pointers from the plan and descriptors; none takes a lock.
    unsafe {
        let plan = &mut *plan.cast::<Plan>();
        let fail = |plan: &mut Plan, step: u8| {
            plan.failed = (step, *libc::__errno_location());
            libc::_exit(127)
        };
        // A handler of this server must not run in the program's process; ignored signals stay ignored over an exec.
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=31 {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::sigaction(signal, &default, std::ptr::null_mut());
            }
        }
        for (target, &fd) in plan.files.iter().enumerate() {
            if fd >= 0 && libc::dup2(fd, target as libc::c_int) < 0 {
                fail(plan, 0);
            }
        }
        if !plan.dir.is_null() && libc::chdir(plan.dir) < 0 {
            fail(plan, 1);
        }
        for (resource, limit) in &plan.limits {
            if libc::setrlimit(*resource, limit) < 0 {
                let step = if *resource == libc::RLIMIT_NOFILE { continue } else { 2 };
                plan.failed = (step, *libc::__errno_location());
                libc::_exit(127);
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::execve(plan.file, plan.argv.as_ptr(), plan.env.as_ptr());
        fail(plan, 3);
        127
    }
}

/// A null-terminated array.
fn pointers(words: &[CString]) -> Vec<*const libc::c_char> {
    words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect()
}

/// A descriptor that is none of the first three, which the new process overwrites.
fn above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    use nix::fcntl::{FcntlArg, fcntl};
    use std::os::fd::FromRawFd;
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    let copy = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Starts a program; its number. The caller hands it to [`leave`] when it is done with it.
pub fn start(program: Program<'_>) -> Result<i32, SpawnError> {
    let Program { file, argv, env, dir, limits, stdin, stdout, stderr } = program;
    let stdin = match stdin {
        Some(stdin) => stdin,
        None => std::fs::File::open("/dev/null").map_err(SpawnError::Fork)?.into(),
    };
    let files = [Some(stdin), Some(stdout), stderr];
    let mut owned = Vec::with_capacity(3);
    let mut numbers = [-1; 3];
    for (number, fd) in numbers.iter_mut().zip(files) {
        if let Some(fd) = fd {
            let fd = above_standard(fd).map_err(SpawnError::Fork)?;
            *number = fd.as_raw_fd();
            owned.push(fd);
        }
    }
    let mut all: Vec<_> = limits
        .iter()
        .map(|&(resource, soft, hard)| {
            (resource as libc::__rlimit_resource_t, libc::rlimit { rlim_cur: soft, rlim_max: hard })
        })
        .collect();
    let descriptors = DESCRIPTORS.load(Ordering::Relaxed);
    if descriptors > 0
        && let Ok((_, hard)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
    {
        all.push((libc::RLIMIT_NOFILE, libc::rlimit { rlim_cur: descriptors, rlim_max: hard }));
    }
    let mut plan = Plan {
        file: file.as_ptr(),
        argv: pointers(argv),
        env: pointers(env),
        dir: dir.map_or(std::ptr::null(), CStr::as_ptr),
        limits: all,
        files: numbers,
        failed: (0, 0),
    };
    let mut stack: Vec<u128> = Vec::with_capacity(STACK / size_of::<u128>());
    // Until the exec, a signal would run its handler in this memory.
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))
        .map_err(|err| SpawnError::Fork(err.into()))?;
    // SAFETY: the stack is as large as said, aligned, and grows down from its end; it and the plan live until `clone` comes
    // back, which with CLONE_VFORK is when the new process has its own memory or is gone.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.capacity());
        libc::clone(
            become_program,
            top.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut plan).cast(),
        )
    };
    let forked = if pid < 0 { Err(SpawnError::Fork(io::Error::last_os_error())) } else { Ok(pid) };
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    drop(owned);
    let pid = forked?;
    if plan.failed.1 == 0 {
        return Ok(pid);
    }
    let _ = waitpid(Pid::from_raw(pid), None);
    let err = io::Error::from_raw_os_error(plan.failed.1);
    Err(match plan.failed.0 {
        0 => SpawnError::Fork(err),
        1 => SpawnError::Chdir(err),
        2 => SpawnError::Limit(err),
        _ => SpawnError::Exec(err),
    })
}

/// How long a program has between SIGTERM and SIGKILL.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked whether it is gone.
const LOOK: Duration = Duration::from_millis(20);
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// How many programs were told to end, and have not.
static ENDING: AtomicUsize = AtomicUsize::new(0);

/// What is told when a program had to be killed.
pub type Killed = Box<dyn FnOnce() + Send>;

/// A program that was told to end.
struct Ending {
    pid: Pid,
    since: Instant,
    killed: Option<Killed>,
}

/// The thread that waits for programs to end, of this process.
static UNDERTAKER: Mutex<Option<(u32, Sender<Ending>)>> = Mutex::new(None);

/// Lets a program go: it is told to end, if it runs still, and killed three seconds later (`APR_KILL_AFTER_TIMEOUT`). That
/// it leaves nothing behind is seen to by a thread of its own.
pub fn leave(pid: i32, killed: Option<Killed>) {
    let pid = Pid::from_raw(pid);
    if !matches!(waitpid(pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)) {
        return;
    }
    let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
    let ending = Ending { pid, since: Instant::now(), killed };
    let mut undertaker = UNDERTAKER.lock().unwrap_or_else(PoisonError::into_inner);
    let own = std::process::id();
    // A child of this process has none of its threads.
    if undertaker.as_ref().is_none_or(|(of, _)| *of != own) {
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("undertaker".to_owned()).stack_size(128 * 1024);
        if thread.spawn(move || bury(&receiver)).is_err() {
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
            return;
        }
        *undertaker = Some((own, sender));
    }
    if let Some((_, sender)) = undertaker.as_ref()
        && sender.send(ending).is_ok()
    {
        ENDING.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until every program that was let go has ended; for a process that ends itself.
#[allow(clippy::disallowed_methods)]
pub fn wait_for_all() {
    let own = std::process::id();
    let is_own =
        |undertaker: &Option<(u32, Sender<Ending>)>| undertaker.as_ref().is_some_and(|(of, _)| *of == own);
    if !is_own(&UNDERTAKER.lock().unwrap_or_else(PoisonError::into_inner)) {
        return;
    }
    let end = Instant::now() + PATIENCE + PATIENCE;
    while ENDING.load(Ordering::Relaxed) > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for programs to end.
fn bury(receiver: &Receiver<Ending>) {
    let mut waiting: Vec<Ending> = Vec::new();
    // Most are as good as gone.
    let mut look = FIRST_LOOK;
    loop {
        let next = match waiting.is_empty() {
            true => receiver.recv().ok(),
            false => receiver.recv_timeout(look).ok(),
        };
        look = if next.is_some() { FIRST_LOOK } else { (look * 2).min(LOOK) };
        waiting.extend(next);
        waiting.extend(receiver.try_iter());
        waiting.retain_mut(|ending| {
            if !matches!(waitpid(ending.pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)) {
                ENDING.fetch_sub(1, Ordering::Relaxed);
                return false;
            }
            if ending.since.elapsed() >= PATIENCE {
                if let Some(tell) = ending.killed.take() {
                    tell();
                }
                let _ = nix::sys::signal::kill(ending.pid, Signal::SIGKILL);
                ending.since = Instant::now();
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::fcntl::OFlag;
    use nix::sys::resource::Resource;

    use super::*;

    fn run(script: &CStr, limits: &[ResourceLimit]) -> String {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let argv = [c"sh".into(), c"-c".into(), script.into()];
        let env = [c"B=2".into(), c"A=1".into()];
        let dir = Some(c"/usr");
        let program = Program {
            file: c"/bin/sh",
            argv: &argv,
            env: &env,
            dir,
            limits,
            stdin: None,
            stdout: write,
            stderr: None,
        };
        let pid = start(program).unwrap();
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        leave(pid, None);
        text
    }

    #[test]
    fn runs_where_and_as_it_is_told() {
        assert_eq!(run(c"pwd; cat; tr '\\0' ' ' </proc/self/environ", &[]), "/usr\nB=2 A=1 ");
        assert_eq!(run(c"ulimit -t", &[(Resource::RLIMIT_CPU, 77, 99)]), "77\n");
    }

    #[test]
    fn says_why_it_does_not_run() {
        let (_read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let program = Program {
            file: c"/nowhere",
            argv: &[c"x".into()],
            env: &[],
            dir: None,
            limits: &[],
            stdin: None,
            stdout: write,
            stderr: None,
        };
        match start(program) {
            Err(SpawnError::Exec(err)) => assert_eq!(err.raw_os_error(), Some(libc::ENOENT)),
            other => panic!("{other:?}"),
        }
    }
}
