//! A request within the page: what it gives is passed on as it comes (`ap_run_sub_req`).

use std::io;

use super::{NESTED, PARENT};
use crate::body::{Content, Pull};
use crate::http::status::{self, Status};
use crate::request::phases::Outcome;
use crate::request::{Answer, Request};

/// An included request.
pub(super) struct Included {
    sub: Box<Request>,
    stage: Stage,
}

enum Stage {
    /// Its handler is asked.
    Handler,
    /// It was redirected: its phases are to be run.
    Phases,
    Content(Content),
    /// What its handler has left to do.
    Rest,
}

/// What an included request gives next.
pub(super) enum Given {
    Pull(Pull),
    /// All was given.
    End,
    /// It gave nothing but this status.
    Failed(Status),
}

impl Included {
    /// Of a request that was looked up with success.
    pub(super) fn new(r: &Request, mut sub: Box<Request>) -> Included {
        sub.notes.set(PARENT, r.finfo.map_or(0, |file| file.mtime).to_string());
        Included { sub, stage: Stage::Handler }
    }

    /// Where a redirect leads that it answered.
    pub(super) fn location(&self) -> Option<Vec<u8>> {
        self.sub.headers_out.get("Location").map(<[u8]>::to_vec)
    }

    /// The next piece. A page that is included works with the variables of the one that includes it.
    pub(super) fn pull(&mut self, r: &mut Request) -> io::Result<Given> {
        self.sub.lane = r.lane;
        loop {
            match &mut self.stage {
                Stage::Handler => {
                    let answer = self.sub.invoke_handler();
                    match self.answered(answer) {
                        Ok(()) => {}
                        Err(given) => return Ok(given),
                    }
                }
                Stage::Phases => match self.sub.process_request_internal() {
                    Outcome::Serve => self.stage = Stage::Handler,
                    Outcome::Done => match self.sub.responder {
                        Some(responder) => {
                            let answer = responder(&mut self.sub);
                            match self.answered(answer) {
                                Ok(()) => {}
                                Err(given) => return Ok(given),
                            }
                        }
                        None => return Ok(Given::End),
                    },
                    Outcome::Status(code) => return Ok(Given::Failed(code)),
                    Outcome::NeedThread => return Ok(Given::Pull(Pull::NeedThread)),
                },
                Stage::Content(content) => {
                    let nested = self.sub.notes.contains(NESTED);
                    if nested {
                        std::mem::swap(&mut r.subprocess_env, &mut self.sub.subprocess_env);
                    }
                    let pulled = content.pull(&mut self.sub);
                    if nested {
                        std::mem::swap(&mut r.subprocess_env, &mut self.sub.subprocess_env);
                    }
                    match pulled? {
                        Pull::End(_) => self.stage = Stage::Rest,
                        pull => return Ok(Given::Pull(pull)),
                    }
                }
                Stage::Rest => {
                    return Ok(match self.sub.go_on() {
                        Some(Answer::Wait(wait)) => Given::Pull(Pull::Wait(wait)),
                        Some(Answer::NeedThread) => Given::Pull(Pull::NeedThread),
                        _ => Given::End,
                    });
                }
            }
        }
    }

    fn answered(&mut self, answer: Answer) -> Result<(), Given> {
        let sub = &mut self.sub;
        match answer {
            Answer::Body(content) => {
                let content = sub.apply_output_filters(content);
                if let Some(code) = sub.error_bucket.take() {
                    return Err(Given::Failed(code));
                }
                self.stage = Stage::Content(content);
            }
            Answer::Status(code) if status::is_success(code) => self.stage = Stage::Rest,
            Answer::Status(code) => return Err(Given::Failed(code)),
            Answer::Declined => return Err(Given::Failed(status::INTERNAL_SERVER_ERROR)),
            Answer::NeedThread => return Err(Given::Pull(Pull::NeedThread)),
            Answer::Wait(wait) => return Err(Given::Pull(Pull::Wait(wait))),
            Answer::Redirect(_) | Answer::RedirectHandler(_) if sub.recursion_limit_exceeded() => {
                return Err(Given::Failed(status::INTERNAL_SERVER_ERROR));
            }
            Answer::Redirect(uri) => {
                sub.internal_redirect(&uri);
                self.stage = Stage::Phases;
            }
            Answer::RedirectHandler(uri) => {
                let media_type = sub.content_type.clone();
                sub.internal_redirect(&uri);
                sub.content_type = media_type;
                self.stage = Stage::Phases;
            }
        }
        Ok(())
    }
}
