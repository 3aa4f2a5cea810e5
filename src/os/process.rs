//! Processes: fork, signals, users, going to the background.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup};

/// The kernel's number of this thread, as `%T` in the error log.
pub fn thread_id() -> i64 {
    i64::from(nix::unistd::gettid().as_raw())
}

/// The C library's number of this thread, as `%{tid}P` in access logs and `%T` without `g` in error logs.
pub fn pthread_id() -> u64 {
    // SAFETY: `pthread_self` takes nothing and can't fail.
    unsafe { libc::pthread_self() }
}

/// How a program is named: [`start`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandType {
    /// By its words, the first one the program's file (`APR_PROGRAM_ENV`).
    Program,
    /// By a line for `/bin/sh` (`APR_SHELLCMD_ENV`).
    Shell,
}

/// What a program is started with instead of what this process has.
pub struct Streams {
    /// What it reads.
    pub stdin: OwnedFd,
    /// What it prints goes nowhere.
    pub mute: bool,
    /// Where its complaints go; `None`: where its output goes.
    pub stderr: Option<OwnedFd>,
}

/// Starts a program in `dir`, with the environment of this process; its number. The caller reaps it: the master does that
/// for all its children.
#[allow(clippy::disallowed_methods)]
pub fn start(words: &[String], how: CommandType, dir: &Path, streams: Streams) -> io::Result<i32> {
    let mut command = match how {
        CommandType::Program => {
            let (program, arguments) = words.split_first().ok_or(io::ErrorKind::NotFound)?;
            // Without a search in PATH: a bare name is a file in `dir`.
            let file = if program.starts_with('/') { program.into() } else { dir.join(program) };
            let mut command = Command::new(file);
            std::os::unix::process::CommandExt::arg0(&mut command, program);
            command.args(arguments);
            command
        }
        CommandType::Shell => {
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(words.join(" "));
            command
        }
    };
    let stdout = if streams.mute {
        OwnedFd::from(OpenOptions::new().write(true).open("/dev/null")?)
    } else {
        dup(io::stdout().as_fd())?
    };
    let stderr = match streams.stderr {
        Some(stderr) => stderr,
        None => stdout.try_clone()?,
    };
    let child = command.current_dir(dir).stdin(streams.stdin).stdout(stdout).stderr(stderr).spawn()?;
    i32::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Who ends what [`start_filter`] started: this process, or the one that went on in the background.
static IN_CHARGE: AtomicU32 = AtomicU32::new(0);

/// Whether this process ends the programs that [`start_filter`] started; its children don't, nor does who waits at the
/// console.
pub fn in_charge() -> bool {
    IN_CHARGE.load(Ordering::Relaxed) == std::process::id()
}

/// Starts a program in `dir` that reads lines and answers them, as another user and group where these are named; its number,
/// what it reads from and what it writes to. It complains to `stderr`, or where this process does. The caller reaps it, as for [`start`].
#[allow(clippy::disallowed_methods)]
pub fn start_filter(
    words: &[String],
    dir: &Path,
    user: Option<&str>,
    group: Option<&str>,
    stderr: Option<OwnedFd>,
) -> io::Result<(i32, File, File)> {
    use std::os::unix::process::CommandExt;
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(stderr) = stderr {
        command.stderr(stderr);
    }
    if let Some(name) = user {
        let user = nix::unistd::User::from_name(name)?.ok_or(io::ErrorKind::NotFound)?;
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    if let Some(name) = group {
        let group = nix::unistd::Group::from_name(name)?.ok_or(io::ErrorKind::NotFound)?;
        command.gid(group.gid.as_raw());
    }
    let mut child = command.spawn()?;
    IN_CHARGE.store(std::process::id(), Ordering::Relaxed);
    let pid = i32::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidData)?;
    let pipes = child.stdin.take().zip(child.stdout.take()).ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((pid, File::from(OwnedFd::from(pipes.0)), File::from(OwnedFd::from(pipes.1))))
}

/// The first bytes, `most` of them, that a program prints, which is looked for in PATH and started in `dir`; then it ends. Only where
/// waiting for it is allowed.
#[allow(clippy::disallowed_methods)]
pub fn output_of(words: &[&[u8]], dir: &Path, most: usize) -> io::Result<Vec<u8>> {
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    let mut words = words.iter().map(|word| std::ffi::OsStr::from_bytes(word));
    let program = words.next().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(program);
    command.args(words).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // What came before an error counts.
        let _ = stdout.take(most as u64).read_to_end(&mut output);
    }
    // The pipe is closed: it gets SIGPIPE if it has more to say.
    end_program(i32::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidData)?);
    Ok(output)
}

/// Ends a program that this process started: `APR_KILL_AFTER_TIMEOUT`, three seconds after SIGTERM.
#[allow(clippy::disallowed_methods)]
pub fn end_program(pid: i32) {
    let pid = Pid::from_raw(pid);
    if nix::sys::signal::kill(pid, Signal::SIGTERM).is_err() {
        return;
    }
    for _ in 0..600 {
        // Somebody else may have reaped it, which is an error here.
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(std::time::Duration::from_millis(5)),
            _ => return,
        }
    }
    let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}

/// Starts a program by its file, without a search in PATH, with the files and the environment of this process.
#[allow(clippy::disallowed_methods)]
pub fn spawn(program: &Path, arguments: &[OsString]) -> io::Result<Child> {
    // A bare name is a file in the current folder, as for `execve`.
    let file = if program.is_absolute() { program.to_owned() } else { Path::new(".").join(program) };
    let mut command = Command::new(file);
    std::os::unix::process::CommandExt::arg0(&mut command, program);
    command.args(arguments).spawn()
}

/// Makes a copy of this process. The master calls it while it has one thread only, so the child may go on with
/// anything that needs locks.
pub fn fork() -> io::Result<ForkResult> {
    // SAFETY: the caller's process has a single thread (see above), so no lock can be held by a thread that is
    // missing in the child.
    unsafe { nix::unistd::fork() }.map_err(Into::into)
}

/// Puts these signals back to what the system does by default; in a child, before it sets its own.
pub fn default_signals(signals: &[Signal]) {
    set_signals(signals, SigHandler::SigDfl);
}

/// Ignores these signals.
pub fn ignore_signals(signals: &[Signal]) {
    set_signals(signals, SigHandler::SigIgn);
}

/// A bit for each signal of [`interrupt_on`] that came.
static MARKS: AtomicU64 = AtomicU64::new(0);

/// True once this signal came; [`interrupt_on`] must have been asked for it.
pub fn was_interrupted(signal: Signal) -> bool {
    MARKS.load(Ordering::Relaxed) & (1 << signal as i32) != 0
}

/// Lets a signal interrupt the call that the process sleeps in, and leave a mark for a process that was awake.
pub fn interrupt_on(signal: Signal) {
    extern "C" fn mark(signal: libc::c_int) {
        MARKS.fetch_or(1 << (signal & 63), Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(mark), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler changes an atomic, which a signal handler may do.
    let _ = unsafe { sigaction(signal, &action) };
}

fn set_signals(signals: &[Signal], to: SigHandler) {
    for &signal in signals {
        let action = SigAction::new(to, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action and ignoring run no code of ours.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// Ends this process at once, without running anything that the parent registered.
pub fn exit_child(code: i32) -> ! {
    // SAFETY: `_exit` takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends this process.
#[allow(clippy::disallowed_methods)]
pub fn exit(code: i32) -> ! {
    std::process::exit(code)
}

/// Lets this process get `signal` when its parent ends. A change of the user forgets it. False: the parent is gone already.
pub fn signal_on_parents_end(signal: Signal, parent: Pid) -> bool {
    nix::sys::prctl::set_pdeathsig(signal).is_err() || nix::unistd::getppid() == parent
}

/// Lets this process have as many descriptors as it may.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Programs may look at every descriptor that they could have, or keep them in sets of a fixed size.
        super::spawn::remember_descriptor_limit(soft);
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Lets the allocator give free memory back to the system when it is more than this, in bytes.
pub fn keep_free_memory(bytes: i32) {
    // Where the C library has no such number, it decides for itself.
    #[cfg(target_env = "gnu")]
    // SAFETY: it changes a number of the allocator under its own lock.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, bytes);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = bytes;
}

/// How many descriptors this process may have.
pub fn descriptor_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

/// Goes to the background: a new session, no terminal, `/` as the folder. The parent gets `true` and must end; without
/// `forks` (`NO_DETACH`) this very process goes on.
pub fn daemonize(forks: bool) -> io::Result<bool> {
    nix::unistd::chdir("/")?;
    if forks && let ForkResult::Parent { .. } = fork()? {
        IN_CHARGE.store(0, Ordering::Relaxed);
        return Ok(true);
    }
    IN_CHARGE.store(std::process::id(), Ordering::Relaxed);
    // Without a fork it may be the leader of its session already.
    if let Err(err) = nix::unistd::setsid()
        && forks
    {
        return Err(err.into());
    }
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(null.as_fd())?;
    nix::unistd::dup2_stdout(null.as_fd())?;
    Ok(false)
}

/// Lets standard error go to `file`, so that what libraries and children print is in the error log.
pub fn put_in_place_of_stderr(file: BorrowedFd) -> io::Result<()> {
    Ok(nix::unistd::dup2_stderr(file)?)
}

/// Sends a signal.
pub fn kill(pid: i32, signal: Signal) -> io::Result<()> {
    Ok(nix::sys::signal::kill(Pid::from_raw(pid), signal)?)
}

/// True while there is a process of this number that we may send signals to.
pub fn is_ours_to_signal(pid: i32) -> bool {
    nix::sys::signal::kill(Pid::from_raw(pid), None).is_ok()
}

/// True while a process of this number exists, whoever owns it.
pub fn exists(pid: i32) -> bool {
    !matches!(nix::sys::signal::kill(Pid::from_raw(pid), None), Err(nix::errno::Errno::ESRCH))
}

/// A file without a name, which is gone when it is closed.
pub fn temporary_file() -> std::io::Result<std::fs::File> {
    let (fd, path) = nix::unistd::mkstemp(&std::env::temp_dir().join("httpd.tmp.XXXXXX"))?;
    _ = std::fs::remove_file(path);
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(std::fs::File::from(fd))
}
