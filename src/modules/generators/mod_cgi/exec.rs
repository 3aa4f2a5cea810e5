//! What `<!--#exec -->` of mod_include asks for: `include_cmd`, `include_cgi`, `add_ssi_vars`.

use std::io;

use super::handler::{MAGIC_TYPE, start};
use super::{Flavor, output};
use crate::body::{Body, Chunk, Content, Pull};
use crate::http::escape::{Unescape, escape_shell_cmd, unescape_url};
use crate::http::status;
use crate::log::{Level, rerror};
use crate::request::program::{self, Program};
use crate::request::variables::c_string;
use crate::request::{FileInfo, Request};

fn flavor(r: &Request) -> Option<&'static Flavor> {
    if r.runtime.has_module("mod_cgi.c") {
        return Some(&Flavor::CGI);
    }
    r.runtime.has_module("mod_cgid.c").then_some(&Flavor::CGID)
}

/// The module that runs programs for pages, as it stands in the log.
pub fn module(r: &Request) -> Option<&'static str> {
    flavor(r).map(|flavor| flavor.module)
}

/// A script's request, which gets the path and the query of the page.
pub fn script(r: &mut Request, uri: &[u8]) -> Option<Box<Request>> {
    let mut sub = r.sub_req_lookup_uri(uri).ok()?;
    let is_file = sub.finfo.as_ref().is_some_and(FileInfo::is_file);
    if sub.status != status::OK || !sub.path_info.is_empty() || sub.args.is_some() || !is_file {
        return None;
    }
    sub.path_info.clone_from(&r.path_info);
    sub.args.clone_from(&r.args);
    sub.set_content_type(MAGIC_TYPE);
    Some(sub)
}

/// What a command for the shell prints.
pub fn command(r: &mut Request, command: &[u8]) -> Option<Content> {
    let flavor = flavor(r)?;
    if !r.path_info.is_empty() {
        r.subprocess_env.set("PATH_INFO", escape_shell_cmd(&r.path_info));
        let _ = r.add_path_translated();
    }
    if let Some(args) = &r.args {
        let mut unescaped = args.to_vec();
        let _ = unescape_url(&mut unescaped, Unescape::FORBID_SLASHES);
        r.subprocess_env.set("QUERY_STRING", args);
        r.subprocess_env.set("QUERY_STRING_UNESCAPED", escape_shell_cmd(&unescaped));
    }
    let argv = [c"sh".into(), c"-c".into(), c_string(command)];
    let env = r.create_environment();
    match start(r, flavor, &c"/bin/sh".into(), &argv, &env, false) {
        Ok(script) => Some(Content::Stream(Box::new(Printed { script }))),
        Err(err) => {
            rerror!(
                r,
                Level::Error,
                flavor.module,
                "AH01227",
                err = err,
                "couldn't spawn child process: {}",
                r.filename
            );
            None
        }
    }
}

/// What a command prints, as it prints it.
struct Printed {
    script: Program,
}

impl Body for Printed {
    fn pull(&mut self, r: &mut Request) -> io::Result<Pull> {
        let mut text = Vec::new();
        match self.script.read(&mut text)? {
            program::Output::Some => Ok(Pull::Chunk(Chunk::Bytes(text.into()))),
            program::Output::End => Ok(Pull::End(None)),
            program::Output::NotYet if !self.script.is_late() => {
                Ok(Pull::Wait(self.script.wait(true, false, None)?))
            }
            program::Output::NotYet => {
                output::log_broken(r);
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    fn len(&self) -> Option<u64> {
        None
    }
}
