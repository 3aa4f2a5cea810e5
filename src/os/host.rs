//! The machine's own name.

use std::net::{IpAddr, ToSocketAddrs};

/// The machine's full name; without one its address, and `false`: `ap_get_local_host`.
pub fn full_name() -> (String, bool) {
    let name = nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_default();
    if name.contains('.') {
        return (name, true);
    }
    if let Some(full) = canonical_name(&name).filter(|full| full.contains('.')) {
        return (full, true);
    }
    let address = (name.as_str(), 0).to_socket_addrs().ok().and_then(|mut all| all.next()).map(|a| a.ip());
    (address.unwrap_or(IpAddr::from([127, 0, 0, 1])).to_string(), false)
}

/// The name that the resolver knows for an address: `apr_getnameinfo`, which leaves out the machine's own domain.
pub fn name_of(ip: IpAddr) -> Option<String> {
    let addr = socket2::SockAddr::from(std::net::SocketAddr::new(ip, 0));
    let mut name = [0 as libc::c_char; 1025];
    // SAFETY: the address is valid for the length given, and the buffer is ours with its length; nothing else is asked
    // for, so the last pointer may be null.
    let code = unsafe {
        libc::getnameinfo(
            addr.as_ptr().cast(),
            addr.len(),
            name.as_mut_ptr(),
            name.len() as libc::socklen_t,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if code != 0 {
        return None;
    }
    // SAFETY: on success the buffer holds a string that ends with a nought.
    Some(unsafe { std::ffi::CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

/// The canonical name that the resolver knows for `name`.
fn canonical_name(name: &str) -> Option<String> {
    let node = std::ffi::CString::new(name).ok()?;
    // SAFETY: `addrinfo` is plain data for which all zeroes are valid.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_flags = libc::AI_CANONNAME;
    let mut result: *mut libc::addrinfo = std::ptr::null_mut();
    // SAFETY: all pointers are to live values; `result` is set on success only.
    let code =
        unsafe { libc::getaddrinfo(node.as_ptr(), std::ptr::null(), &raw const hints, &raw mut result) };
    if code != 0 || result.is_null() {
        return None;
    }
    // SAFETY: `getaddrinfo` succeeded, so `result` is a valid list until it is freed below.
    let canonical = unsafe { (*result).ai_canonname };
    let full = if canonical.is_null() {
        None
    } else {
        // SAFETY: a C string that belongs to the list.
        Some(unsafe { std::ffi::CStr::from_ptr(canonical) }.to_string_lossy().into_owned())
    };
    // SAFETY: freed once, and nothing borrowed from it is left.
    unsafe { libc::freeaddrinfo(result) };
    full
}

/// How many processes wanted to run, over 1, 5 and 15 minutes: `ap_get_loadavg`.
pub fn load_average() -> [f64; 3] {
    let mut load = [0.0; 3];
    // SAFETY: the array has the three places that are said.
    if unsafe { libc::getloadavg(load.as_mut_ptr(), 3) } < 3 {
        return [0.0; 3];
    }
    load
}
