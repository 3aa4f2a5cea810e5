//! The driver `sqlite3`: a connection with its prepared statements.
//!
//! Answers to `dbd/apr_dbd_sqlite3.c` and to `apr_dbd_prepare` of APR-util: parameters stand as `%s`, `%d` and the like in the SQL
//! and are bound as text.

use std::collections::HashMap;
use std::time::Duration;

use httpd_conf::to_bytes;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Error, Statement, ToSql};

/// How long others may hold the lock: `MAX_RETRY_COUNT` times `MAX_RETRY_SLEEP`.
const BUSY: Duration = Duration::from_millis(1500);

/// A connection.
pub struct Connection {
    sqlite: rusqlite::Connection,
    /// SQL with SQLite's parameters, by label.
    prepared: HashMap<String, String>,
}

/// What a query gave.
#[derive(Default, Debug, PartialEq)]
pub struct Found {
    /// The names of the columns.
    pub names: Vec<String>,
    /// The rows; NULL is `None`.
    pub rows: Vec<Vec<Option<Vec<u8>>>>,
}

impl Found {
    /// The first column of each row.
    pub fn first_column(self) -> impl Iterator<Item = Option<Vec<u8>>> {
        self.rows.into_iter().map(|row| row.into_iter().next().flatten())
    }
}

/// A parameter as it came: text that need not be UTF-8.
struct Text<'t>(&'t [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

impl Connection {
    /// Opens the file that `DBDParams` names; it is made where there is none. Errors are SQLite's texts.
    pub(super) fn open(params: &str) -> Result<Connection, String> {
        let path = to_bytes(params);
        let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&path);
        let sqlite = rusqlite::Connection::open(path).map_err(|error| {
            // The crate adds the path.
            let text = words(error);
            text.strip_suffix(&format!(": {params}")).map(str::to_owned).unwrap_or(text)
        })?;
        sqlite.busy_timeout(BUSY).map_err(words)?;
        Ok(Connection { sqlite, prepared: HashMap::new() })
    }

    /// Names a query. That it can be run is found out now.
    pub(super) fn prepare(&mut self, label: &str, query: &str) -> Result<(), String> {
        let sql = parameters(query);
        self.prepared.insert(label.to_owned(), sql.clone());
        self.sqlite.set_prepared_statement_cache_capacity(self.prepared.len().max(16));
        self.sqlite.prepare_cached(&sql).map(drop).map_err(words)
    }

    /// Runs statements that give nothing.
    pub(super) fn run(&self, sql: &str) -> Result<(), String> {
        self.sqlite.execute_batch(sql).map_err(words)
    }

    /// True when a query is called so.
    pub fn has(&self, label: &str) -> bool {
        self.prepared.contains_key(label)
    }

    /// Runs the query `label`, which gives rows: `apr_dbd_pvselect`.
    pub fn select(&self, label: &str, arguments: &[&[u8]]) -> Result<Found, String> {
        self.with(label, arguments, |statement| {
            let names = statement.column_names().into_iter().map(str::to_owned).collect::<Vec<_>>();
            let mut all = Vec::new();
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                let values = (0..names.len()).map(|index| self.as_text(row.get_ref(index)?));
                all.push(values.collect::<rusqlite::Result<_>>()?);
            }
            Ok(Found { names, rows: all })
        })
    }

    /// Runs the query `label`, which changes rows, and says how many: `apr_dbd_pvquery`.
    pub fn query(&self, label: &str, arguments: &[&[u8]]) -> Result<u64, String> {
        self.with(label, arguments, |statement| {
            statement.raw_query().next()?;
            Ok(self.sqlite.changes())
        })
    }

    /// Lets `run` have the statement with its parameters. Those that nothing was given for are NULL.
    fn with<T>(
        &self,
        label: &str,
        arguments: &[&[u8]],
        run: impl FnOnce(&mut Statement) -> rusqlite::Result<T>,
    ) -> Result<T, String> {
        let sql = self.prepared.get(label).map_or("", String::as_str);
        let mut statement = self.sqlite.prepare_cached(sql).map_err(words)?;
        let count = statement.parameter_count();
        for (index, argument) in arguments.iter().take(count).enumerate() {
            statement.raw_bind_parameter(index + 1, Text(argument)).map_err(words)?;
        }
        run(&mut statement).map_err(words)
    }

    /// A value as SQLite writes it.
    fn as_text(&self, value: ValueRef) -> rusqlite::Result<Option<Vec<u8>>> {
        Ok(match value {
            ValueRef::Null => None,
            ValueRef::Integer(number) => Some(number.to_string().into_bytes()),
            ValueRef::Real(number) => {
                let text: String =
                    self.sqlite.query_row("SELECT CAST(?1 AS TEXT)", [number], |row| row.get(0))?;
                Some(text.into_bytes())
            }
            ValueRef::Text(text) | ValueRef::Blob(text) => Some(text.to_vec()),
        })
    }
}

/// SQLite's own words for what is wrong.
fn words(error: Error) -> String {
    match error {
        Error::SqliteFailure(_, Some(text)) => text,
        Error::SqlInputError { msg, .. } => msg,
        Error::SqliteFailure(error, None) => error.to_string(),
        error => error.to_string(),
    }
}

/// `%s` and the like become `?`, `%%` becomes `%`.
fn parameters(query: &str) -> String {
    let mut sql = String::with_capacity(query.len());
    let mut rest = query;
    while let Some(at) = rest.find('%') {
        sql.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let first = behind.bytes().next().unwrap_or_default();
        let len = match first {
            b'%' => 1,
            b'h' | b'l' => {
                let sizes = behind.bytes().take(2).take_while(|&c| c == first).count();
                let number = behind.as_bytes().get(sizes).is_some_and(u8::is_ascii_alphabetic);
                sizes + usize::from(number)
            }
            b'p' if behind.as_bytes().get(1) == Some(&b'D') => {
                2 + usize::from(behind.as_bytes().get(2).is_some_and(u8::is_ascii_alphabetic))
            }
            c => usize::from(c.is_ascii_alphabetic()),
        };
        sql.push(if first.is_ascii_alphabetic() { '?' } else { '%' });
        rest = behind.get(len..).unwrap_or_default();
    }
    sql + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_apr() {
        let sql = |query| parameters(query);
        assert_eq!(sql("SELECT p FROM u WHERE n = %s AND i=%d"), "SELECT p FROM u WHERE n = ? AND i=?");
        assert_eq!(sql("a %lld %hhu %hd %pDt b"), "a ? ? ? ? b");
        assert_eq!(sql("LIKE 'a%' OR 'b%%'"), "LIKE 'a%' OR 'b%'");
        assert_eq!(sql("%"), "%");
    }

    #[test]
    fn rows_as_text() {
        let mut connection = Connection::open(":memory:").unwrap();
        connection.run("CREATE TABLE t(a, b); INSERT INTO t VALUES ('x', 1.5), (NULL, 2)").unwrap();
        connection.prepare("all", "SELECT a, b FROM t WHERE %s = 'y'").unwrap();
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let found = connection.select("all", &[b"y", b"more"]).unwrap();
        assert_eq!(found.names, ["a", "b"]);
        assert_eq!(found.rows, [[text("x"), text("1.5")], [None, text("2")]]);
        assert_eq!(connection.select("all", &[]).unwrap().rows.len(), 0);
        connection.prepare("set", "UPDATE t SET a = %s").unwrap();
        assert_eq!(connection.query("set", &[b"z"]), Ok(2));
        assert!(connection.has("set") && !connection.has("other"));
        assert_eq!(connection.prepare("bad", "SELEC"), Err("near \"SELEC\": syntax error".to_owned()));
    }
}
