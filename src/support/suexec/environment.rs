//! The environment of scripts: `PATH`, and what a server says to a script, of what suexec was called with.

use std::ffi::CString;

use super::built;

/// As many words as a script gets at most.
const AP_ENVBUF: usize = 256;

/// What the words begin with that are let through: `safe_env_lst`.
const SAFE: [&str; 50] = [
    // Any name that begins with this.
    "HTTP_",
    "SSL_",
    // This name.
    "AUTH_TYPE=",
    "CONTENT_LENGTH=",
    "CONTENT_TYPE=",
    "CONTEXT_DOCUMENT_ROOT=",
    "CONTEXT_PREFIX=",
    "DATE_GMT=",
    "DATE_LOCAL=",
    "DOCUMENT_ARGS=",
    "DOCUMENT_NAME=",
    "DOCUMENT_PATH_INFO=",
    "DOCUMENT_ROOT=",
    "DOCUMENT_URI=",
    "GATEWAY_INTERFACE=",
    "HTTPS=",
    "LAST_MODIFIED=",
    "PATH_INFO=",
    "PATH_TRANSLATED=",
    "QUERY_STRING=",
    "QUERY_STRING_UNESCAPED=",
    "REMOTE_ADDR=",
    "REMOTE_HOST=",
    "REMOTE_IDENT=",
    "REMOTE_PORT=",
    "REMOTE_USER=",
    "REDIRECT_ERROR_NOTES=",
    "REDIRECT_HANDLER=",
    "REDIRECT_QUERY_STRING=",
    "REDIRECT_REMOTE_USER=",
    "REDIRECT_SCRIPT_FILENAME=",
    "REDIRECT_STATUS=",
    "REDIRECT_URL=",
    "REQUEST_METHOD=",
    "REQUEST_SCHEME=",
    "REQUEST_URI=",
    "SCRIPT_FILENAME=",
    "SCRIPT_NAME=",
    "SCRIPT_URI=",
    "SCRIPT_URL=",
    "SERVER_ADDR=",
    "SERVER_ADMIN=",
    "SERVER_NAME=",
    "SERVER_PORT=",
    "SERVER_PROTOCOL=",
    "SERVER_SIGNATURE=",
    "SERVER_SOFTWARE=",
    "UNIQUE_ID=",
    "USER_NAME=",
    "TZ=",
];

/// What is left of `given`, in its order: `clean_env`.
pub fn clean(given: Vec<CString>) -> Vec<CString> {
    // A zero byte in a value of the build is none that can be given to a program at all.
    let path = CString::new(format!("PATH={}", built::AP_SAFE_PATH)).ok();
    let is_safe = |word: &CString| SAFE.iter().any(|safe| word.as_bytes().starts_with(safe.as_bytes()));
    // The last place is the null pointer's, the first is taken by PATH.
    path.into_iter().chain(given.into_iter().filter(is_safe).take(AP_ENVBUF - 2)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(given: &[&str]) -> Vec<String> {
        let given = given.iter().map(|word| CString::new(*word).unwrap()).collect();
        clean(given).into_iter().skip(1).map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn only_what_a_server_says_is_let_through() {
        let given = [
            "LD_PRELOAD=/x",
            "PATH=/evil",
            "HTTP_X=1",
            "HTTP_X=2",
            "HTTP_NO_VALUE",
            "http_x=1",
            "HTTPS=on",
            "HTTPSX=1",
            "TZ=UTC",
            "BASH_ENV=/x",
            "REMOTE_USER=",
            "REMOTE_USERS=1",
            "XHTTP_=1",
            "SSL_CIPHER=x",
            "",
        ];
        let left =
            ["HTTP_X=1", "HTTP_X=2", "HTTP_NO_VALUE", "HTTPS=on", "TZ=UTC", "REMOTE_USER=", "SSL_CIPHER=x"];
        assert_eq!(cleaned(&given), left);
    }

    #[test]
    fn there_is_a_most() {
        let many: Vec<String> = (0..300).map(|number| format!("HTTP_{number}=x")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let left = cleaned(&many);
        assert_eq!((left.len(), left.last().map(String::as_str)), (254, Some("HTTP_253=x")));
    }

    #[test]
    fn the_path_is_ours() {
        let all = clean(vec![c"PATH=/evil".into()]);
        assert_eq!(all, [CString::new(format!("PATH={}", built::AP_SAFE_PATH)).unwrap()]);
    }
}
