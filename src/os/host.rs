//! Names of machines: our own, and those that the resolver knows for an address.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

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

/// The name that the resolver knows for `ip`, if any; blocks: `apr_getnameinfo`.
pub fn name_of(ip: IpAddr) -> Option<String> {
    let address = socket2::SockAddr::from(SocketAddr::new(ip.to_canonical(), 0));
    let mut name = [0u8; libc::NI_MAXHOST as usize];
    // SAFETY: `address` holds an address of the length it names, `name` has the room it is said to have, no service
    // is asked for; the result ends with a NUL on success.
    let code = unsafe {
        libc::getnameinfo(
            address.as_ptr().cast(),
            address.len(),
            name.as_mut_ptr().cast(),
            name.len() as libc::socklen_t,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if code != 0 {
        return None;
    }
    let name = std::ffi::CStr::from_bytes_until_nul(&name).ok()?;
    Some(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_name() {
        // RFC 5737: for documentation only, in nobody's DNS.
        assert_eq!(name_of(IpAddr::from([192, 0, 2, 1])), None);
    }
}
