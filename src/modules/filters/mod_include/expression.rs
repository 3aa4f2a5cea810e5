//! Conditions in the server's own language of expressions, with the page's variables: `parse_ap_expr`.

use std::borrow::Cow;
use std::net::IpAddr;

use bstr::ByteSlice;

use super::expand::{Captured, variable};
use super::page::Ssi;
use crate::expr::env::{Answer, Env, FileError, Kind, NeedThread, Provided, Provider, Severity, Stat, Value};
use crate::expr::{Backrefs, Expr, Failure, Flags, Mode, Options, Variable};
use crate::http::date::Civil;
use crate::log::{Level, rerror, shown};
use crate::request::Request;

/// The functions that know the page's variables.
static PROVIDER: Provider = Provider {
    module: "include",
    lookup: |kind, name, _| {
        let known = ["v", "reqenv", "env"].iter().position(|own| own.eq_ignore_ascii_case(name));
        known.filter(|_| kind == Kind::Function).map(|id| Ok(id as u32))
    },
};

/// Is the condition true? `Err`: it can't be told, and this was logged.
pub(super) fn holds(r: &mut Request, ssi: &mut Ssi, text: &[u8]) -> Result<bool, ()> {
    let options = Options {
        mode: Mode::Condition,
        flags: Flags::RESTRICTED,
        providers: &[&PROVIDER],
        module: "include",
        file: r.filename.to_str_lossy().into(),
        line: 0,
    };
    let expr = match Expr::parse_with(text, &options) {
        Ok(expr) => expr,
        Err(err) => {
            let text = shown(text);
            rerror!(
                r,
                Level::Error,
                "include",
                "AH01337",
                "Could not parse expr \"{text}\" in {}: {err}",
                r.filename
            );
            return Err(());
        }
    };
    let mut backrefs = match &mut ssi.captured {
        Some(Captured { source, captures: Some(captures), .. }) => {
            Backrefs::new(source.clone(), captures.clone())
        }
        _ => Backrefs::default(),
    };
    let result = expr.is_true_re(&mut PageEnv { r, ssi }, &mut backrefs);
    match result {
        Ok(holds) => {
            let captured = ssi.captured.get_or_insert_default();
            match backrefs.matched() {
                Some((source, captures)) => {
                    captured.source = source.to_vec();
                    captured.captures = Some(captures.clone());
                }
                None => captured.captures = None,
            }
            Ok(holds)
        }
        Err(Failure::Error(err)) => {
            let text = shown(text);
            rerror!(
                r,
                Level::Error,
                "include",
                "AH01338",
                "Could not evaluate expr \"{text}\" in {}: {err}",
                r.filename
            );
            Err(())
        }
        // Conditions are evaluated on a thread that may block.
        Err(Failure::NeedThread) => Err(()),
    }
}

/// The request, and the page's variables.
struct PageEnv<'a> {
    r: &'a mut Request,
    ssi: &'a Ssi,
}

impl Env for PageEnv<'_> {
    fn variable(&mut self, variable: Variable) -> Result<Value<'_>, NeedThread> {
        self.r.variable(variable)
    }
    fn request_header(&mut self, name: &[u8]) -> Value<'_> {
        self.r.request_header(name)
    }
    fn response_header(&mut self, name: &[u8]) -> Value<'_> {
        self.r.response_header(name)
    }
    fn note(&mut self, name: &[u8]) -> Value<'_> {
        self.r.note(name)
    }
    fn environment(&mut self, name: &[u8]) -> Value<'_> {
        self.r.environment(name)
    }
    fn local_time(&mut self) -> Civil {
        self.r.local_time()
    }
    fn modified_time(&mut self) -> Civil {
        self.r.modified_time()
    }
    fn client_address(&mut self) -> Option<IpAddr> {
        self.r.client_address()
    }
    fn resolve(&mut self, host: &[u8]) -> Result<Option<IpAddr>, NeedThread> {
        self.r.resolve(host)
    }
    fn subrequest_uri(&mut self, uri: &[u8]) -> Result<Option<u16>, NeedThread> {
        self.r.subrequest_uri(uri)
    }
    fn subrequest_file(&mut self, file: &[u8]) -> Result<Option<(u16, bool)>, NeedThread> {
        self.r.subrequest_file(file)
    }
    fn stat(&mut self, path: &[u8], follow: bool) -> Option<Stat> {
        self.r.stat(path, follow)
    }
    fn read_file(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        self.r.read_file(path)
    }
    fn provided(&mut self, call: &Provided, args: &[&[u8]]) -> Result<Answer, NeedThread> {
        let name = args.first().copied().unwrap_or_default();
        // `env` looks at notes first, and at the server's own environment last, as it does elsewhere.
        let is_env = call.name.starts_with(['e', 'E']);
        let mut value = None;
        if is_env {
            value = self.r.note(name).map(Cow::into_owned);
        }
        if value.is_none() {
            value = variable(self.r, self.ssi, name);
        }
        if value.is_none() && is_env {
            value = self.r.os_environment(name).map(Cow::into_owned);
        }
        Ok(Answer::Text(value.unwrap_or_default()))
    }
    fn merge_vary(&mut self, names: &[u8]) {
        self.r.merge_vary(names);
    }
    fn log(&mut self, module: &'static str, severity: Severity, message: std::fmt::Arguments<'_>) {
        self.r.log(module, severity, message);
    }
}
