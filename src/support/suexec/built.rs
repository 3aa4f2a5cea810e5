//! What is settled when suexec is built: nothing that a caller gives, and no file, can change it.
//!
//! The values are those of Debian's `suexec-pristine`. A build has others by variables of the environment that are called as
//! Apache's constants are: `AP_DOC_ROOT=/srv/www cargo build --release --bin suexec`.

/// Scripts lie below this folder.
pub const AP_DOC_ROOT: &str = text(option_env!("AP_DOC_ROOT"), "/var/www");
/// The smallest number of a group that scripts run as.
pub const AP_GID_MIN: u32 = number(option_env!("AP_GID_MIN"), 100, 10);
/// Who may call: the `User` of the server.
pub const AP_HTTPD_USER: &str = text(option_env!("AP_HTTPD_USER"), "www-data");
/// The log.
pub const AP_LOG_EXEC: &str = text(option_env!("AP_LOG_EXEC"), "/var/log/apache2/suexec.log");
/// The scripts' `PATH`.
pub const AP_SAFE_PATH: &str = text(option_env!("AP_SAFE_PATH"), "/usr/local/bin:/usr/bin:/bin");
/// The scripts' umask; `None`: the server's.
pub const AP_SUEXEC_UMASK: Option<u32> = match option_env!("AP_SUEXEC_UMASK") {
    None => None,
    digits => Some(number(digits, 0, 8)),
};
/// The smallest number of a user that scripts run as.
pub const AP_UID_MIN: u32 = number(option_env!("AP_UID_MIN"), 100, 10);
/// Scripts of `~user` lie below this folder of the user's.
pub const AP_USERDIR_SUFFIX: &str = text(option_env!("AP_USERDIR_SUFFIX"), "public_html");

const fn text(said: Option<&'static str>, debian: &'static str) -> &'static str {
    match said {
        Some(said) if !said.is_empty() => said,
        _ => debian,
    }
}

/// What is no number, or none that fits, ends the build.
const fn number(said: Option<&'static str>, debian: u32, radix: u32) -> u32 {
    match said {
        None => debian,
        Some(digits) => match u32::from_str_radix(digits, radix) {
            Ok(number) => number,
            Err(_) => panic!("AP_GID_MIN, AP_UID_MIN: a number; AP_SUEXEC_UMASK: octal"),
        },
    }
}

/// What `-V` shows.
pub fn shown() -> String {
    let umask = AP_SUEXEC_UMASK.map(|mask| format!(" -D AP_SUEXEC_UMASK={mask:03o}\n")).unwrap_or_default();
    format!(
        " -D AP_DOC_ROOT=\"{AP_DOC_ROOT}\"\n \
         -D AP_GID_MIN={AP_GID_MIN}\n \
         -D AP_HTTPD_USER=\"{AP_HTTPD_USER}\"\n \
         -D AP_LOG_EXEC=\"{AP_LOG_EXEC}\"\n \
         -D AP_SAFE_PATH=\"{AP_SAFE_PATH}\"\n\
         {umask} \
         -D AP_UID_MIN={AP_UID_MIN}\n \
         -D AP_USERDIR_SUFFIX=\"{AP_USERDIR_SUFFIX}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_may_say_other_values() {
        assert_eq!((text(None, "a"), text(Some(""), "a"), text(Some("b"), "a")), ("a", "a", "b"));
        assert_eq!((number(None, 7, 8), number(Some("500"), 7, 10), number(Some("077"), 7, 8)), (7, 500, 63));
    }

    #[test]
    fn one_line_for_each() {
        let text = shown();
        assert!(text.lines().all(|line| line.starts_with(" -D AP_")), "{text}");
        assert!(text.contains(&format!(" -D AP_SAFE_PATH=\"{AP_SAFE_PATH}\"\n")));
        assert!(text.ends_with(&format!(
            " -D AP_UID_MIN={AP_UID_MIN}\n -D AP_USERDIR_SUFFIX=\"{AP_USERDIR_SUFFIX}\"\n"
        )));
    }
}
