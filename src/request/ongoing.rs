//! What a request is busy with while it waits: a script that runs, a backend that was asked.
//!
//! In Apache a handler keeps this on its stack, and its thread sleeps. Here a handler that must wait leaves it with the
//! request ([`Request::ongoing`]) and answers [`Answer::Wait`]; from then on it is asked in place of the handlers, each time
//! that the descriptor is ready or the time is over, until it answers something else. What is left over when the reply is
//! out (a script's last words) can be left there once more, and is asked again before the request is logged.
//!
//! It is dropped with the request, also when the client goes away: dropping it must end what it stands for.

use super::{Answer, Request};

/// What a request is busy with.
pub trait Ongoing: Send {
    /// Goes on as far as it can. It looks itself whether the time it had is over.
    fn go_on(&mut self, r: &mut Request) -> Answer;
}

impl Request {
    /// Lets what the request is busy with go on; `None`: nothing is.
    pub(crate) fn go_on(&mut self) -> Option<Answer> {
        let mut ongoing = self.ongoing.take()?;
        let answer = ongoing.go_on(self);
        if matches!(answer, Answer::Wait(_) | Answer::NeedThread) {
            self.ongoing = Some(ongoing);
        }
        Some(answer)
    }

    /// Begins what may have to wait: what a handler answers.
    pub fn begin_ongoing(&mut self, ongoing: impl Ongoing + 'static) -> Answer {
        self.ongoing = Some(Box::new(ongoing));
        self.go_on().unwrap_or(Answer::Declined)
    }
}
