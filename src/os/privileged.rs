//! What a program needs that runs with more rights than its caller: an environment that the caller didn't make, and to
//! become another program. Both are for processes with one thread, at their begin and at their end.

use std::ffi::{CStr, CString, c_char};
use std::io;

use nix::sys::signal::Signal;

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// Takes the environment away from the process, as the words that its caller gave. What the C library does from now on
/// depends on none of them.
pub fn take_environment() -> Vec<CString> {
    let mut words = Vec::new();
    // SAFETY: the process has one thread (see above), so nobody changes the array; it ends with a null pointer, its words
    // are C strings, and they are copied before the array is left.
    unsafe {
        let mut next = environ;
        while !next.is_null() && !(*next).is_null() {
            words.push(CStr::from_ptr(*next).to_owned());
            next = next.add(1);
        }
    }
    set_environment(Vec::new());
    words
}

/// Gives the process these words as its environment, in this order, for as long as it lives.
pub fn set_environment(words: Vec<CString>) {
    let mut array: Vec<*mut c_char> = words.into_iter().map(CString::into_raw).collect();
    array.push(std::ptr::null_mut());
    // SAFETY: the process has one thread (see above). Array and words are never freed.
    unsafe { environ = array.leak().as_mut_ptr() };
}

/// Becomes the program `file`, with this environment. Comes back only if that fails.
#[allow(clippy::disallowed_methods)]
pub fn become_program(file: &CStr, words: &[CString]) -> io::Error {
    // It was ignored before `main`, which would outlive the exec.
    super::process::default_signals(&[Signal::SIGPIPE]);
    match nix::unistd::execv(file, words) {
        Ok(never) => match never {},
        Err(err) => err.into(),
    }
}
