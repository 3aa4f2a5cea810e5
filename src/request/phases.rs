//! The phases, in Apache's order, in one place.
//!
//! Answers to `ap_process_request_internal` of `server/request.c`. Every phase can be left with `NeedThread` and is then
//! gone on with at the hook that asked for it, on a thread that may block.

use super::{Answer, Request, Step};
use crate::hooks::{Phase, RequestHook};
use crate::http::escape::{self, Unescape};
use crate::http::path::{self, Normalize};
use crate::http::status::{self, Status};
use crate::log::{Level, rerror};
use crate::modules::core;

/// Which step comes next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum At {
    #[default]
    PostRead,
    Normalize,
    PreTranslateName,
    Unescape,
    TranslateName,
    MapToStorage,
    LocationAgain,
    HeaderParser,
    Access,
    AccessChecker,
    AccessCheckerEx,
    CheckUserId,
    AuthChecker,
    TypeChecker,
    Fixups,
    Handler,
    Log,
}

/// Where a request is: the step, and the hook within it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Cursor {
    pub at: At,
    pub hook: usize,
    /// The output filters were chosen.
    pub inserted: bool,
    /// No handler was named, and one was chosen by the media type: it is named while the reply is made.
    pub by_type: bool,
}

impl Cursor {
    fn go(&mut self, at: At) {
        *self = Cursor { at, ..Cursor::default() };
    }
}

/// How the phases end, before content is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Ask the handlers.
    Serve,
    /// End with this status.
    Status(Status),
    /// The reply needs no content phase.
    Done,
    /// Go on where we are, on a thread that may block.
    NeedThread,
}

/// Runs every hook until one decides against (`RUN_ALL`).
fn run_all(r: &mut Request, phase: fn(&crate::hooks::Hooks) -> &Phase<RequestHook>) -> Step {
    let runtime = r.runtime.clone();
    let hooks = phase(&runtime.hooks);
    while let Some(hook) = hooks.get(r.cursor.hook) {
        match hook(r) {
            Step::Ok | Step::Declined => r.cursor.hook += 1,
            other => return other,
        }
    }
    Step::Ok
}

/// Runs hooks until one decides (`RUN_FIRST`).
fn run_first(r: &mut Request, phase: fn(&crate::hooks::Hooks) -> &Phase<RequestHook>) -> Step {
    let runtime = r.runtime.clone();
    let hooks = phase(&runtime.hooks);
    while let Some(hook) = hooks.get(r.cursor.hook) {
        match hook(r) {
            Step::Declined => r.cursor.hook += 1,
            other => return other,
        }
    }
    Step::Declined
}

/// `decl_die`: a phase in which somebody must say yes.
fn decl_die(r: &Request, step: Step, phase: &str) -> Outcome {
    match step {
        Step::Declined => {
            rerror!(r, Level::Crit, "core", "AH00025", "configuration error:  couldn't {phase}: {}", r.uri);
            Outcome::Status(status::INTERNAL_SERVER_ERROR)
        }
        Step::Status(code) => {
            rerror!(r, Level::Trace3, "core", "", "auth phase '{phase}' gave status {code}: {}", r.uri);
            Outcome::Status(code)
        }
        Step::NeedThread => Outcome::NeedThread,
        Step::Done | Step::Ok => {
            rerror!(r, Level::Trace3, "core", "", "auth phase '{phase}' gave status {DONE}: {}", r.uri);
            Outcome::Done
        }
    }
}

/// `DONE`, as it is logged.
const DONE: i32 = -2;

macro_rules! ends {
    ($step:expr) => {
        match $step {
            Step::Ok | Step::Declined => {}
            Step::Status(code) => return Outcome::Status(code),
            Step::NeedThread => return Outcome::NeedThread,
            Step::Done => return Outcome::Done,
        }
    };
}

impl Request {
    /// True before the first phase of a request that a client sent.
    pub(crate) fn is_fresh(&self) -> bool {
        self.cursor.at == At::PostRead && self.cursor.hook == 0 && self.is_initial()
    }

    /// Runs the phases from where the request is: `ap_process_request_internal`.
    pub fn process_request_internal(&mut self) -> Outcome {
        let r = self;
        let file_request = r.is_subrequest && !r.filename.is_empty();
        loop {
            match r.cursor.at {
                At::PostRead => {
                    if !r.is_subrequest {
                        ends!(run_all(r, |h| &h.post_read_request));
                        // `ap_post_read_request`: another scheme is for proxies, of which nobody has made it one by now.
                        if r.foreign_scheme && r.proxyreq.is_none() {
                            return Outcome::Status(status::BAD_REQUEST);
                        }
                        if r.prev.is_none() {
                            r.log_headers();
                        }
                    }
                    r.cursor.go(At::Normalize);
                }
                At::Normalize => {
                    let flags = r.normalize_flags(file_request);
                    if !path::normalize(&mut r.raw_path, flags) {
                        r.uri.clone_from(&r.raw_path);
                        rerror!(r, Level::Error, "core", "AH10244", "invalid URI path ({})", r.unparsed_uri);
                        return Outcome::Status(status::BAD_REQUEST);
                    }
                    if file_request || r.runtime.hooks.pre_translate_name.is_empty() {
                        r.cursor.go(At::Unescape);
                        continue;
                    }
                    // What a client asks a proxy for keeps its whole URL.
                    if r.proxyreq.is_none() {
                        r.uri.clone_from(&r.raw_path);
                    }
                    ends!(r.location_and_if_walk());
                    r.cursor.go(At::PreTranslateName);
                }
                At::PreTranslateName => {
                    let step = run_first(r, |h| &h.pre_translate_name);
                    if step == Step::NeedThread {
                        return Outcome::NeedThread;
                    }
                    if let Step::Status(code) = step
                        && status::is_error(code)
                    {
                        return Outcome::Status(code);
                    }
                    r.dir = r.server.lookup_defaults.clone();
                    if step == Step::Done {
                        // The URI is translated as it is.
                        r.cursor.go(At::TranslateName);
                        ends!(r.location_and_if_walk());
                    } else {
                        r.cursor.go(At::Unescape);
                    }
                }
                At::Unescape => {
                    if let Err(code) = r.unescape(file_request) {
                        return Outcome::Status(code);
                    }
                    r.cursor.go(if file_request { At::MapToStorage } else { At::TranslateName });
                    if !file_request {
                        ends!(r.location_and_if_walk());
                    }
                }
                At::TranslateName => {
                    let step = run_first(r, |h| &h.translate_name);
                    if step != Step::Ok {
                        return decl_die(r, step, "translate");
                    }
                    r.dir = r.server.lookup_defaults.clone();
                    r.cursor.go(At::MapToStorage);
                }
                At::MapToStorage => {
                    match run_first(r, |h| &h.map_to_storage) {
                        Step::Ok | Step::Declined => {}
                        Step::Status(code) => return Outcome::Status(code),
                        Step::Done => return Outcome::Done,
                        Step::NeedThread => return Outcome::NeedThread,
                    }
                    r.cursor.go(At::LocationAgain);
                }
                At::LocationAgain => {
                    ends!(r.location_and_if_walk());
                    r.cursor.go(At::HeaderParser);
                }
                At::HeaderParser => {
                    if !r.is_subrequest {
                        ends!(run_all(r, |h| &h.header_parser));
                    }
                    r.cursor.go(At::Access);
                }
                At::Access => {
                    // The same file's folder is known from before; what is not there, and locations, are looked at anew.
                    let again = r.runtime.hooks.is_access_per_uri() && (r.located || r.finfo.is_none());
                    let inherited = r.origin.as_ref().filter(|o| !again && o.dir.id == r.dir.id).cloned();
                    match inherited {
                        Some(origin) => {
                            r.user = origin.user.clone();
                            r.auth_type = origin.auth_type.clone();
                            r.cursor.go(At::TypeChecker);
                        }
                        None => r.cursor.go(At::AccessChecker),
                    }
                }
                At::AccessChecker => {
                    let any = crate::modules::aaa::satisfies_any(r);
                    match run_all(r, |h| &h.access_checker) {
                        Step::NeedThread => return Outcome::NeedThread,
                        Step::Ok if any => {
                            rerror!(
                                r,
                                Level::Trace3,
                                "core",
                                "",
                                "request authorized without authentication by access_checker hook and 'Satisfy any': {}",
                                r.uri
                            );
                            r.cursor.go(At::TypeChecker);
                        }
                        Step::Ok => r.cursor.go(At::AccessCheckerEx),
                        _ if any => r.cursor.go(At::AccessCheckerEx),
                        other => return decl_die(r, other, "check access (with Satisfy All)"),
                    }
                }
                At::AccessCheckerEx => match run_first(r, |h| &h.access_checker_ex) {
                    Step::Declined => r.cursor.go(At::CheckUserId),
                    Step::Ok => {
                        rerror!(
                            r,
                            Level::Trace3,
                            "core",
                            "",
                            "request authorized without authentication by access_checker_ex hook: {}",
                            r.uri
                        );
                        r.cursor.go(At::TypeChecker);
                    }
                    other => return decl_die(r, other, "check access"),
                },
                At::CheckUserId => {
                    let step = run_first(r, |h| &h.check_user_id);
                    if step != Step::Ok {
                        return decl_die(r, step, "check user");
                    }
                    if r.user.is_none() {
                        let number =
                            if crate::modules::aaa::satisfies_any(r) { "AH00028" } else { "AH00027" };
                        rerror!(
                            r,
                            Level::Error,
                            "core",
                            number,
                            "No authentication done but request not allowed without authentication for {}. Authentication not configured?",
                            r.uri
                        );
                        return decl_die(r, Step::Status(status::INTERNAL_SERVER_ERROR), "check user");
                    }
                    r.cursor.go(At::AuthChecker);
                }
                At::AuthChecker => {
                    let step = run_first(r, |h| &h.auth_checker);
                    if step != Step::Ok {
                        return decl_die(r, step, "check authorization");
                    }
                    r.cursor.go(At::TypeChecker);
                }
                At::TypeChecker => {
                    let step = run_first(r, |h| &h.type_checker);
                    if step != Step::Ok {
                        return decl_die(r, step, "find types");
                    }
                    r.cursor.go(At::Fixups);
                }
                At::Fixups => {
                    let step = run_all(r, |h| &h.fixups);
                    if let Step::Status(_) | Step::Done = step {
                        let code = if let Step::Status(code) = step { i32::from(code) } else { DONE };
                        rerror!(r, Level::Trace3, "core", "", "fixups hook gave {code}: {}", r.uri);
                    }
                    ends!(step);
                    r.cursor.go(At::Handler);
                    return Outcome::Serve;
                }
                At::Handler | At::Log => return Outcome::Serve,
            }
        }
    }

    /// Asks the handlers for content: `ap_invoke_handler`.
    pub fn invoke_handler(&mut self) -> Answer {
        let r = self;
        if let Some(answer) = r.go_on() {
            return answer;
        }
        let runtime = r.runtime.clone();
        // A handler that must wait is asked again.
        if !std::mem::replace(&mut r.cursor.inserted, true) {
            for hook in runtime.hooks.insert_filter.iter() {
                hook(r);
            }
            if r.handler.is_none() {
                // Handlers were once chosen by media type; the type without parameters still names one.
                let media_type = r.content_type.as_deref().unwrap_or("");
                let bare = media_type.split(';').next().unwrap_or("").trim_end();
                if crate::modules::names_handler(bare) {
                    r.handler = Some(bare.to_owned().into());
                } else {
                    r.cursor.by_type = true;
                }
            }
        }
        while let Some(handler) = runtime.hooks.handler.get(r.cursor.hook) {
            match handler(r) {
                Answer::Declined => r.cursor.hook += 1,
                status @ Answer::Status(_) => {
                    r.cursor.by_type = false;
                    return status;
                }
                other => return other,
            }
        }
        if let Some(handler) = r.handler.clone()
            && !handler.contains('/')
        {
            rerror!(r, Level::Warn, "core", "AH01628", "handler \"{handler}\" not found for: {}", r.filename);
        }
        Answer::Status(status::INTERNAL_SERVER_ERROR)
    }

    /// The handler's name where none was given: the media type without parameters.
    pub(crate) fn handler_by_type(&self) -> Option<&str> {
        self.content_type.as_deref()?.split(';').next().map(str::trim_end)
    }

    /// Runs the log phase.
    pub fn log_transaction(&mut self) -> Step {
        if self.cursor.at != At::Log {
            self.cursor.go(At::Log);
        }
        let runtime = self.runtime.clone();
        while let Some(hook) = runtime.hooks.log_transaction.get(self.cursor.hook) {
            if hook(self) == Step::NeedThread {
                return Step::NeedThread;
            }
            self.cursor.hook += 1;
        }
        Step::Ok
    }

    fn normalize_flags(&self, file_request: bool) -> Normalize {
        Normalize {
            allow_relative: file_request,
            not_above_root: true,
            decode_unreserved: true,
            merge_slashes: self.server.resolved.merge_slashes,
        }
    }

    /// Decodes the path as `AllowEncodedSlashes` says.
    fn unescape(&mut self, file_request: bool) -> Result<(), Status> {
        use core::EncodedSlashes;
        let slashes = self.dir(&core::DIR).allow_encoded_slashes.unwrap_or(EncodedSlashes::Off);
        let how = match slashes {
            EncodedSlashes::Off => Unescape { forbid: b"/", reserved: b"", keep_unreserved: true },
            EncodedSlashes::NoDecode => Unescape { forbid: b"", reserved: b"/", keep_unreserved: true },
            EncodedSlashes::On => Unescape { forbid: b"", reserved: b"", keep_unreserved: true },
        };
        let decoded = escape::unescape_url(&mut self.raw_path, how);
        if let Err(code) = decoded {
            // As it lies there when the request is given up, so it is logged.
            self.uri.clone_from(&self.raw_path);
            if code == status::NOT_FOUND && slashes == EncodedSlashes::Off {
                rerror!(
                    self,
                    Level::Info,
                    "core",
                    "AH00026",
                    "found %2f (encoded '/') in URI path ({}), returning 404",
                    self.unparsed_uri
                );
            }
            return Err(code);
        }
        if slashes == EncodedSlashes::On {
            let flags = Normalize { decode_unreserved: false, ..self.normalize_flags(file_request) };
            path::normalize(&mut self.raw_path, flags);
        }
        self.uri.clear();
        self.uri.extend_from_slice(&self.raw_path);
        Ok(())
    }
}
