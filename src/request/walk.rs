//! Which sections apply to a request: the directory, file, location and `<If>` walks.
//!
//! Answers to `ap_directory_walk`, `ap_file_walk`, `ap_location_walk`, `ap_if_walk` of `server/request.c`. Matching is
//! done for every request; the merges come from [`crate::config::merge`].

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use bstr::ByteSlice;

use super::{Request, Step};
use crate::config::directive::Allowed;
use crate::config::htaccess::{Override, Trouble};
use crate::config::merge::DirConf;
use crate::config::section::{Matcher, Section};
use crate::expr::Failure;
use crate::http::status::{self, Status};
use crate::log::{Level, rerror, shown};
use crate::modules::core::options::{self, Opts};
use crate::modules::core::{self, CoreDir};
use crate::regex::Regex;

/// What a name in the file system is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link (only where links are not followed).
    Link,
    /// A device, pipe or socket.
    Other,
}

/// What `stat` says of a file: `apr_finfo_t`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileInfo {
    /// What it is.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Last change of the content, microseconds since 1970.
    pub mtime: i64,
    /// Last change of content, name or permissions, microseconds since 1970.
    pub ctime: i64,
    /// Inode number.
    pub inode: u64,
    /// Device number.
    pub device: u64,
    /// Permission bits and type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl From<&Metadata> for FileInfo {
    fn from(meta: &Metadata) -> Self {
        let kind = match meta.file_type() {
            t if t.is_file() => FileKind::File,
            t if t.is_dir() => FileKind::Dir,
            t if t.is_symlink() => FileKind::Link,
            _ => FileKind::Other,
        };
        FileInfo {
            kind,
            size: meta.size(),
            mtime: meta.mtime() * 1_000_000 + meta.mtime_nsec() / 1_000,
            ctime: meta.ctime() * 1_000_000 + meta.ctime_nsec() / 1_000,
            inode: meta.ino(),
            device: meta.dev(),
            mode: meta.mode(),
            uid: meta.uid(),
            gid: meta.gid(),
        }
    }
}

impl FileInfo {
    /// Follows links.
    pub fn stat(path: &[u8]) -> io::Result<FileInfo> {
        FileInfo::look(path, true)
    }
    /// Does not follow a link at the end.
    pub fn lstat(path: &[u8]) -> io::Result<FileInfo> {
        FileInfo::look(path, false)
    }
    fn look(path: &[u8], follow: bool) -> io::Result<FileInfo> {
        let name = Path::new(OsStr::from_bytes(path));
        let meta = if follow { std::fs::metadata(name) } else { std::fs::symlink_metadata(name) };
        let info = meta.as_ref().map(FileInfo::from);
        super::memo::saw(path, follow, info.map_err(|err| err.raw_os_error().unwrap_or(0)));
        meta.map(|meta| FileInfo::from(&meta))
    }
    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Dir
    }
    /// True for a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == FileKind::File
    }
}

/// `.` and `..` and doubled slashes resolved in the text of an absolute path.
pub fn canonical_path(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let cut = out.rfind_byte(b'/').unwrap_or(0);
                out.truncate(cut);
            }
            part => {
                out.push(b'/');
                out.extend_from_slice(part);
            }
        }
    }
    if out.is_empty() || path.last() == Some(&b'/') {
        out.push(b'/');
    }
    out
}

/// With any of these, `.htaccess` files are looked for: to ignore what is wrong in them, they must be read, too.
const IN_HTACCESS: Allowed = Allowed(31).or(Allowed::NONFATAL_OVERRIDE).or(Allowed::NONFATAL_UNKNOWN);

impl Request {
    /// The `<Location>` sections, then the `<If>` sections: `walk_location_and_if`.
    pub fn location_and_if_walk(&mut self) -> Step {
        let before = (!self.server.locations.is_empty()).then(|| self.dir.clone());
        self.location_walk();
        let step = self.if_walk();
        if step == Step::NeedThread
            && let Some(before) = before
        {
            // The walk is done again from the beginning.
            self.dir = before;
        }
        step
    }

    /// What a walk found on top of what was there before.
    fn merge_walked(&mut self, walked: Option<Arc<DirConf>>) {
        if let Some(walked) = walked {
            self.dir = self.runtime.merges.overlay(&self.dir, &walked);
        }
    }

    fn location_walk(&mut self) {
        let server = self.server.clone();
        if server.locations.is_empty() {
            return;
        }
        let runtime = self.runtime.clone();
        // Without MergeSlashes, plain and shell-pattern sections are compared with merged slashes all the same.
        let merged = (!server.resolved.merge_slashes && self.uri.contains_str("//")).then(|| {
            let mut uri = self.uri.to_vec();
            uri.dedup_by(|next, before| *next == b'/' && *before == b'/');
            uri
        });
        let mut walked = None;
        for section in &server.locations {
            let matched = match &section.matcher {
                Matcher::Regex(regex) => {
                    let uri = std::mem::take(&mut self.uri);
                    let matched = self.match_section(regex, &uri);
                    self.uri = uri;
                    matched
                }
                _ => section.matches_location(merged.as_ref().unwrap_or(&self.uri)),
            };
            if matched {
                walked = Some(runtime.merges.join(walked, section));
            }
        }
        self.located = walked.is_some();
        self.merge_walked(walked);
    }

    /// Tries a section's regular expression; its named groups become `MATCH_NAME` variables.
    pub(crate) fn match_section(&mut self, regex: &Regex, text: &[u8]) -> bool {
        if regex.names().next().is_none() {
            return regex.is_match(text);
        }
        let Some(captures) = regex.captures(text) else { return false };
        for (index, name) in regex.names() {
            if captures.get(index).is_some() {
                let value = captures.text(text, index);
                self.subprocess_env.set(format!("MATCH_{}", name.to_uppercase()), value);
            }
        }
        true
    }

    /// The `<If>`, `<ElseIf>`, `<Else>` sections of the configuration so far, then those within the ones that matched.
    fn if_walk(&mut self) -> Step {
        let mut within: Option<Arc<DirConf>> = None;
        let mut merged: Option<Arc<DirConf>> = None;
        loop {
            let conf = within.as_ref().unwrap_or(&self.dir).get(&core::DIR);
            let sections = match &conf.sec_if {
                Some(sections) if !sections.is_empty() => sections.clone(),
                _ => break,
            };
            within = match self.if_branches(&sections) {
                Ok(Some(walked)) => Some(walked),
                Ok(None) => break,
                Err(step) => return step,
            };
            if let Some(walked) = &within {
                merged = Some(self.runtime.merges.overlay(merged.as_ref().unwrap_or(&self.dir), walked));
            }
        }
        if let Some(merged) = merged {
            self.dir = merged;
        }
        Step::Ok
    }

    fn if_branches(&mut self, sections: &[Arc<Section>]) -> Result<Option<Arc<DirConf>>, Step> {
        let runtime = self.runtime.clone();
        let mut walked = None;
        let mut taken = false;
        for section in sections {
            let condition = match &section.matcher {
                Matcher::If(expr) => {
                    taken = false;
                    Some(expr)
                }
                Matcher::ElseIf(expr) => Some(expr),
                _ => None,
            };
            if taken {
                continue;
            }
            taken = match condition.map(|expr| expr.is_true(self)) {
                None => true,
                Some(Ok(holds)) => holds,
                Some(Err(Failure::NeedThread)) => return Err(Step::NeedThread),
                Some(Err(Failure::Error(error))) => {
                    let error = shown(error.as_ref());
                    rerror!(
                        self,
                        Level::Error,
                        "core",
                        "AH00039",
                        "Failed to evaluate <If > condition: {error}"
                    );
                    false
                }
            };
            if taken {
                walked = Some(runtime.merges.join(walked, section));
            }
        }
        Ok(walked)
    }

    /// The `<Files>` sections of the configuration so far, by the file's name without its folder.
    pub fn file_walk(&mut self) -> Step {
        let sections = match &self.dir(&core::DIR).sec_file {
            Some(sections) if !sections.is_empty() => sections.clone(),
            _ => return Step::Ok,
        };
        let runtime = self.runtime.clone();
        let cut = self.filename.rfind_byte(b'/').map_or(0, |at| at + 1);
        let filename = std::mem::take(&mut self.filename);
        let name = &filename[cut..];
        let mut walked = None;
        for section in sections.iter() {
            let matched = match &section.matcher {
                Matcher::Regex(regex) => self.match_section(regex, name),
                _ => section.matches_file(name),
            };
            if matched {
                walked = Some(runtime.merges.join(walked, section));
            }
        }
        self.filename = filename;
        self.merge_walked(walked);
        Step::Ok
    }

    /// The `<Directory>` sections and `.htaccess` files from the root down to the file; finds out what the file is and
    /// what of the name is `path_info`.
    pub fn directory_walk(&mut self) -> Step {
        if self.filename.first() != Some(&b'/') {
            rerror!(
                self,
                Level::Info,
                "core",
                "AH00030",
                "Module bug?  Request filename path {} is invalid or or not absolute for uri {}",
                self.filename,
                self.uri
            );
            return Step::Ok;
        }
        if self.filename.contains_str("//") || self.filename.contains_str("/.") {
            self.filename = canonical_path(&self.filename).into();
        }
        if self.finfo.is_none_or(|f| f.kind == FileKind::Link) {
            self.finfo = FileInfo::stat(&self.filename)
                .ok()
                .filter(|f| f.is_dir() || self.filename.last() != Some(&b'/'));
        }
        let server = self.server.clone();
        let plain = server.directories.iter().position(|s| s.is_regex()).unwrap_or(server.directories.len());
        let mut walked = None;
        let step = self.walk_components(&server.directories[..plain], &mut walked);
        if step != Step::Ok {
            // The error is answered by the server's own settings.
            return step;
        }
        let runtime = self.runtime.clone();
        for section in &server.directories[plain..] {
            if let Matcher::Regex(regex) = &section.matcher {
                let filename = std::mem::take(&mut self.filename);
                let matched = self.match_section(regex, &filename);
                self.filename = filename;
                if matched {
                    walked = Some(runtime.merges.join(walked, section));
                }
            }
        }
        self.merge_walked(walked);
        Step::Ok
    }

    fn walk_components(&mut self, sections: &[Arc<Section>], walked: &mut Option<Arc<DirConf>>) -> Step {
        let runtime = self.runtime.clone();
        let server = self.server.clone();
        let access_names = server.conf.get(&core::SERVER).access_names();
        let path = std::mem::take(&mut self.filename);
        let mut in_force = InForce::new(self.dir(&core::DIR));
        let known = self.finfo;
        let is_file = known.is_some_and(|f| f.is_file());
        // `end`: up to where the path has been walked; a directory's name without its slash, but for the root.
        let mut end = 1;
        let mut depth = 0;
        let mut next = 0;
        let mut last: Option<FileInfo> = None;
        let mut outcome = Step::Ok;
        // The folder whose `.htaccess` is wrong is the file name then, with a slash.
        let mut failed_at_file = false;
        loop {
            let dir = &path[..end];
            while let Some(section) = sections.get(next) {
                if section.components > depth {
                    break;
                }
                if section.components == depth && section.matches_directory(dir) {
                    in_force.merge(section.conf.get(&core::DIR));
                    *walked = Some(runtime.merges.join(walked.take(), section));
                }
                next += 1;
            }
            let allowed = &in_force.allowed;
            if allowed.classes.any(IN_HTACCESS) || allowed.list.as_ref().is_some_and(|l| !l.is_empty()) {
                match self.htaccess(dir, access_names, allowed) {
                    Ok(Some(section)) => {
                        in_force.merge(section.conf.get(&core::DIR));
                        *walked = Some(runtime.merges.join(walked.take(), &section));
                    }
                    Ok(None) => {}
                    Err(code) => {
                        outcome = Step::Status(code);
                        failed_at_file = true;
                        break;
                    }
                }
            }
            // The next component.
            let from = if end == 1 { 1 } else { end + 1 };
            if from >= path.len() {
                // A directory's name that ends in a slash keeps it.
                end = path.len();
                break;
            }
            end = path[from..].find_byte(b'/').map_or(path.len(), |at| from + at);
            let opts = in_force.opts.in_force();
            let links = opts & (options::FOLLOW_SYMLINKS | options::SYMLINKS_IF_OWNER);
            if known.is_some() && links == options::FOLLOW_SYMLINKS {
                if end == path.len() && is_file {
                    break;
                }
                depth += 1;
                continue;
            }
            match self.look_at(&path[..end], opts) {
                Ok(Some(info)) if info.is_dir() => {
                    last = Some(info);
                    depth += 1;
                }
                Ok(info) => {
                    last = info;
                    break;
                }
                Err(code) => {
                    outcome = Step::Status(code);
                    break;
                }
            }
        }
        if known.is_none_or(|f| f.kind == FileKind::Link) {
            self.finfo = last.filter(|_| outcome == Step::Ok);
        }
        if end < path.len() {
            let rest = &path[end..];
            let mut info: Vec<u8> = rest.to_vec();
            info.extend_from_slice(&self.path_info);
            self.path_info = info.into();
        }
        self.filename = path;
        self.filename.truncate(end);
        if failed_at_file && self.filename.last() != Some(&b'/') {
            self.filename.push(b'/');
        }
        outcome
    }

    /// One component of a path that can't be taken on trust: `None` when nothing has that name.
    fn look_at(&mut self, path: &[u8], opts: u16) -> Result<Option<FileInfo>, u16> {
        let shown = shown(path);
        let info = match FileInfo::lstat(path) {
            Ok(info) => info,
            Err(err) => {
                return match err.raw_os_error() {
                    Some(libc::ENOENT | libc::ENOTDIR) => Ok(None),
                    Some(libc::EACCES) => {
                        rerror!(
                            self,
                            Level::Error,
                            "core",
                            "AH00035",
                            err = err,
                            "access to {} denied (filesystem path '{shown}') because search permissions are missing on a component of the path",
                            self.uri
                        );
                        Err(status::FORBIDDEN)
                    }
                    _ => {
                        rerror!(
                            self,
                            Level::Error,
                            "core",
                            "AH00036",
                            err = err,
                            "access to {} failed (filesystem path '{shown}')",
                            self.uri
                        );
                        Err(status::FORBIDDEN)
                    }
                };
            }
        };
        let info = if info.kind == FileKind::Link {
            match resolve_symlink(path, &info, opts) {
                Some(target) => target,
                None => {
                    // The folder was walked for the main request already.
                    let number = if self.is_subrequest { "AH00032" } else { "AH00037" };
                    rerror!(
                        self,
                        Level::Error,
                        "core",
                        number,
                        "Symbolic link not allowed or link target not accessible: {shown}"
                    );
                    return Err(status::FORBIDDEN);
                }
            }
        } else {
            info
        };
        if info.kind == FileKind::Other {
            rerror!(
                self,
                Level::Error,
                "core",
                "AH00038",
                "Forbidden: {shown} doesn't point to a file or directory"
            );
            return Err(status::FORBIDDEN);
        }
        Ok(Some(info))
    }

    fn htaccess(
        &mut self,
        dir: &[u8],
        names: &[String],
        allowed: &Override,
    ) -> Result<Option<Arc<Section>>, Status> {
        let runtime = self.runtime.clone();
        match runtime.htaccess.look(&runtime, self.server.index, dir, names, allowed) {
            Ok(found) => Ok(found),
            Err(Trouble::Syntax(text)) => {
                rerror!(self, Level::Alert, "core", "", "{text}");
                Err(status::INTERNAL_SERVER_ERROR)
            }
            Err(Trouble::Denied(file, err)) => {
                rerror!(
                    self,
                    Level::Crit,
                    "core",
                    "AH00529",
                    err = err,
                    "{file} pcfg_openfile: unable to check htaccess file, ensure it is readable and that '{}/' is executable",
                    dir.as_bstr()
                );
                self.notes
                    .set("error-notes", "Server unable to read htaccess file, denying access to be safe");
                Err(status::FORBIDDEN)
            }
        }
    }
}

/// The settings that a directory walk itself goes by, while the sections are still to be merged: `core_opts_t`.
struct InForce {
    opts: Opts,
    allowed: Override,
}

impl InForce {
    fn new(conf: &CoreDir) -> InForce {
        InForce { opts: conf.opts, allowed: conf.override_in_force() }
    }

    /// `core_opts_merge`
    fn merge(&mut self, conf: &CoreDir) {
        self.opts = self.opts.merge(&conf.opts);
        if conf.overrides.is_some() {
            let said = conf.override_in_force();
            let options = conf.override_opts.unwrap_or(self.allowed.options);
            self.allowed = Override { list: said.list.or(self.allowed.list.take()), options, ..said };
        } else if conf.override_list.is_some() {
            self.allowed.list.clone_from(&conf.override_list);
        }
    }
}

/// What a link points to, where `Options` lets it be followed.
fn resolve_symlink(path: &[u8], link: &FileInfo, opts: u16) -> Option<FileInfo> {
    if opts & (options::FOLLOW_SYMLINKS | options::SYMLINKS_IF_OWNER) == 0 {
        return None;
    }
    let target = FileInfo::stat(path).ok()?;
    if opts & options::SYMLINKS_IF_OWNER != 0 && target.uid != link.uid {
        return None;
    }
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical() {
        assert_eq!(canonical_path(b"/a//b/./c/../d"), b"/a/b/d");
        assert_eq!(canonical_path(b"/a/"), b"/a/");
        assert_eq!(canonical_path(b"/.."), b"/");
    }
}
