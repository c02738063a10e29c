//! Methods and their answers (RFC 7047, section 4.1; ovsdb-server(7), section 4.1).

use std::time::Instant;

use ovsdb::ErrorKind;
use quantumnet_model::Database;
use serde_json::{Value, json};

use super::{REPLY_REST, Reason, Session, World, reply_head};
use crate::{
    ovsdb::{database, json, monitor::Form, transact::fault::Fault},
    store::ResumeToken,
};

/// A request: its id, method and parameters.
type Request<'a> = (Value, &'a str, Vec<Value>);

/// The result of a method that answers at once.
type Answer = Result<Value, Value>;

impl Session {
    pub(super) fn request(
        &mut self,
        now: Instant,
        world: &World<'_>,
        (id, method, params): Request<'_>,
        octets: usize,
    ) {
        let answer = match method {
            "echo" => Ok(params.into()),
            "transact" => match self.known_database(world, method, &params) {
                Ok(database) => {
                    return self.transact(now, database, id, params.into_iter().skip(1).collect(), octets);
                }
                Err(fault) => Err(fault.to_json()),
            },
            "monitor" => return self.begin_monitor(world, Form::Update, id, &params),
            "monitor_cond" => return self.begin_monitor(world, Form::Update2, id, &params),
            "monitor_cond_since" => return self.begin_monitor(world, Form::Update3, id, &params),
            "monitor_cond_change" => self.change_monitor(&params),
            "monitor_cancel" => self.cancel_monitor(&params),
            "get_schema" => match self.known_database(world, method, &params) {
                Ok(database) => {
                    self.send(reply_head(&id));
                    self.send(database::schema(database).clone());
                    return self.send(REPLY_REST);
                }
                Err(fault) => Err(fault.to_json()),
            },
            "list_dbs" => Ok(json!([self.database.name(), Database::Server.name()])),
            "lock" | "steal" => self.lock(method, params),
            "unlock" => self.unlock(params),
            "set_db_change_aware" => match params.as_slice() {
                [Value::Bool(aware)] => {
                    self.aware = *aware;
                    Ok(json!({}))
                }
                _ => Err(syntax(params, "set_db_change_aware: true or false parameter expected")),
            },
            "get_server_id" => Ok(self.server_id.to_string().into()),
            "convert" => Err(match params.len() {
                2 => Fault::new(ErrorKind::NotAllowed, CONVERT).to_json(),
                _ => syntax(params, "array expected"),
            }),
            // Clients compare the string, to do with less.
            _ => Err("unknown method".into()),
        };
        match answer {
            Ok(result) => self.reply(&id, |out| json::value(out, &result)),
            Err(error) => self.refuse(id, error),
        }
    }

    /// The database that the parameters begin with.
    pub(super) fn known_database(
        &self,
        world: &World<'_>,
        method: &str,
        params: &[Value],
    ) -> Result<Database, Fault> {
        let Some(Value::String(name)) = params.first() else {
            let details = format!("{method} request params must begin with <db-name>");
            return Err(Fault::syntax(&params.to_vec().into(), details));
        };
        let known = [self.database, Database::Server].into_iter().find(|known| known.name() == name);
        let Some(database) = known else {
            let details = format!("{method} request specifies unknown database {name}");
            return Err(Fault::at(&params.to_vec().into(), ErrorKind::UnknownDatabase, details));
        };
        if database != Database::Server && ResumeToken::of(&world.store.state()).is_none() {
            let details = format!(
                "{method} request specifies database {name} which is not yet available because it has not \
                 completed joining its cluster"
            );
            return Err(Fault::unknown("database not available", details));
        }
        Ok(database)
    }

    fn lock(&mut self, method: &str, params: Vec<Value>) -> Answer {
        let Some(name) = lock_name(&params) else {
            return Err(syntax(params, format!("{method} request params must be <id>")));
        };
        if self.locks_asked.contains(name) {
            let details = format!("must issue \"unlock\" before new \"{method}\"");
            return Err(syntax(params, details));
        }
        if self.locks_asked.len() >= self.limits.locks_max {
            self.close(Reason::TooMany { what: "locks", max: self.limits.locks_max });
        }
        self.locks_asked.insert(name.to_owned());
        let locked = if method == "steal" {
            self.locks.steal(name);
            true
        } else {
            self.locks.lock(name)
        };
        Ok(json!({ "locked": locked }))
    }

    fn unlock(&mut self, params: Vec<Value>) -> Answer {
        let Some(name) = lock_name(&params) else {
            return Err(syntax(params, "unlock request params must be <id>"));
        };
        if !self.locks_asked.remove(name) {
            return Err(syntax(params, "unlock: \"unlock\" without \"lock\" or \"steal\""));
        }
        self.locks.unlock(name);
        Ok(json!({}))
    }
}

/// A syntax error in the parameters.
pub(super) fn syntax(params: Vec<Value>, details: impl Into<String>) -> Value {
    Fault::syntax(&params.into(), details).to_json()
}

/// The only parameter, if it is an `<id>` (RFC 7047, section 3.1).
fn lock_name(params: &[Value]) -> Option<&str> {
    let [Value::String(name)] = params else { return None };
    let mut characters = name.chars();
    let first = characters.next()?;
    let starts = first.is_ascii_alphabetic() || first == '_';
    (starts && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')).then_some(name)
}

const CONVERT: &str = "the schema belongs to the controller's version and changes with the program only";
