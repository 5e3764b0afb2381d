//! Which module may use which, and in which modules some code is allowed. The table is the
//! architecture: change it only on purpose, never to make a test pass.

use crate::source_text::{self, File, Found, Root};

/// A module with all that is below it, up to the next room.
struct Room {
    name: &'static str,
    may_use: &'static [&'static str],
}

const fn room(name: &'static str, may_use: &'static [&'static str]) -> Room {
    Room { name, may_use }
}

/// Modules that every other may use. They use only the modules in their own lines of the table.
const LEAVES: &[&str] = &["clock", "crash", "error", "key", "policy", "secret", "token"];

/// Modules that only compute: in addition to their lines, they may not use [`RUNTIME`].
const PURE: &[&str] =
    &["session::machine", BOUNDED_MAP, SCHEDULE_ENTRIES, "supervisor::restart_tracker"];

const RUNTIME: &[&str] = &["ractor", "reqwest", "tokio", "tokio_stream", "tokio_util", "tracing"];

const BOUNDED_MAP: &str = "session::registry::bounded_map";

const SCHEDULE_ENTRIES: &str = "session::schedule::entries";

const TABLE: &[Room] = &[
    room("clock", &[]),
    room("crash", &[]),
    room("error", &["key"]),
    room("key", &[]),
    room("log", &["measurements", "leaves"]),
    room("measurements", &["leaves"]),
    room("metrics", &["measurements", "supervisor", "supervisor::builder", "leaves"]),
    room("policy", &["clock"]),
    room("secret", &[]),
    room("token", &["secret", "key", "clock", "policy"]),
    room("task", &["leaves"]),
    room("transport", &["leaves"]),
    room("seal", &["leaves"]),
    room("ticket", &["seal", "leaves"]),
    room("provider", &["log", "transport", "ticket", "seal", "leaves"]),
    // `store` because the processes on a store share what they know of a client.
    room("client", &["health", "provider", "store", "leaves"]),
    // `task` because a database file is worked on by a thread, and only `task` makes one.
    // `transport` because connections to a database use the same TLS.
    room("store", &["log", "measurements", "seal", "task", "transport", "leaves"]),
    room("journal", &["seal", "store", "task", "leaves"]),
    room("event", &["log", "measurements", "leaves"]),
    room("health", &["leaves"]),
    room(
        "session",
        &[
            "session::machine",
            BOUNDED_MAP,
            SCHEDULE_ENTRIES,
            "client",
            "provider",
            "store",
            "ticket",
            "seal",
            "event",
            "health",
            "journal",
            "log",
            "measurements",
            "task",
            "leaves",
        ],
    ),
    room("session::machine", &["leaves"]),
    room(BOUNDED_MAP, &["leaves"]),
    room(SCHEDULE_ENTRIES, &["leaves"]),
    room(
        "supervisor",
        &[
            "supervisor::builder",
            "supervisor::restart_tracker",
            "supervisor::scheduler",
            "session",
            "session::machine",
            "client",
            "provider",
            "store",
            "ticket",
            "seal",
            "event",
            "health",
            "journal",
            "log",
            "measurements",
            "task",
            "leaves",
        ],
    ),
    room("supervisor::builder", &["anything"]),
    room("supervisor::restart_tracker", &["leaves"]),
    room(
        "supervisor::scheduler",
        &["session", "session::machine", "client", "provider", "store", "event", "log", "leaves"],
    ),
    room(
        "middleware",
        &["supervisor", "supervisor::builder", "session", "provider", "log", "leaves"],
    ),
    room("testing", &["anything"]),
    room("guide", &["anything"]),
    room("lib", &["anything"]),
];

/// Without unit tests. Longer files hold more than one idea.
const MOST_LINES: usize = 500;

#[test]
fn modules_use_only_what_the_room_table_allows() {
    nothing_of(source_text::files().iter().flat_map(|file| forbidden_edges(TABLE, file)));
}

#[test]
fn pure_modules_use_no_runtime() {
    nothing_of(source_text::files().iter().flat_map(runtime_uses));
}

#[test]
fn only_the_task_module_and_test_doubles_spawn() {
    nothing_of(source_text::files().iter().flat_map(bare_spawns));
}

#[test]
fn no_state_is_global_to_the_process() {
    nothing_of(source_text::files().iter().flat_map(global_state));
}

#[test]
fn files_are_short_and_none_is_called_mod() {
    nothing_of(source_text::files().iter().flat_map(shape));
}

#[track_caller]
fn nothing_of(faults: impl Iterator<Item = String>) {
    let faults: Vec<_> = faults.collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn forbidden_edges(table: &[Room], file: &File) -> Vec<String> {
    let Some(from) = room_of(table, &file.module) else {
        let module = file.module.join("::");
        return vec![format!("{}: {module} has no line in the room table", file.path)];
    };
    let within = source_text::paths(&file.module, &file.text);
    let within = within.into_iter().filter(|found| found.root == Root::Crate);
    within.filter_map(|found| edge(table, from, file, &found)).collect()
}

fn edge(table: &[Room], from: &Room, file: &File, found: &Found) -> Option<String> {
    let (path, line, to) = (&file.path, found.line, found.path.join("::"));
    let fault = match room_of(table, &found.path) {
        Some(target) if allowed(from, target) => return None,
        Some(target) if target.name == "lib" && from.name != "lib" => {
            format!("crate::{to} is a re-export: name the module where it lives")
        }
        Some(_) => {
            let may_use = from.may_use.join(", ");
            format!("{} may not use crate::{to} (room table: it may use [{may_use}])", from.name)
        }
        None => format!("crate::{to} has no line in the room table"),
    };
    Some(format!("{path}:{line}: {fault}"))
}

fn allowed(from: &Room, target: &Room) -> bool {
    let may = |name| from.may_use.contains(&name);
    from.name == target.name
        || may("anything")
        || may(target.name)
        || (may("leaves") && LEAVES.contains(&target.name))
}

/// The room with the longest name that `path` begins with. What stands in the root of the crate,
/// re-exports, is of the room `lib`.
fn room_of<'t>(table: &'t [Room], path: &[String]) -> Option<&'t Room> {
    let is_root = path.first().is_none_or(|first| first.starts_with(char::is_uppercase));
    if is_root {
        return table.iter().find(|room| room.name == "lib");
    }
    let holds = |room: &&Room| {
        let parts: Vec<_> = room.name.split("::").collect();
        path.len() >= parts.len() && path.iter().zip(&parts).all(|(a, b)| a == b)
    };
    table.iter().filter(holds).max_by_key(|room| room.name.len())
}

fn runtime_uses(file: &File) -> Vec<String> {
    let module = file.module.join("::");
    let is_in = |pure: &&&str| {
        module.strip_prefix(**pure).is_some_and(|below| below.is_empty() || below.starts_with("::"))
    };
    if !PURE.iter().any(|pure| is_in(&pure)) {
        return Vec::new();
    }
    source_text::paths(&file.module, &file.text)
        .iter()
        .filter(|found| found.root == Root::Elsewhere)
        .filter(|found| found.path.first().is_some_and(|first| RUNTIME.contains(&first.as_str())))
        .map(|found| {
            let used = found.path.join("::");
            format!("{}:{}: {used} in a module that must be pure", file.path, found.line)
        })
        .collect()
}

fn bare_spawns(file: &File) -> Vec<String> {
    if matches!(file.module.first().map(String::as_str), Some("task" | "testing")) {
        return Vec::new();
    }
    let spawns = |found: &&Found| {
        let path: Vec<_> = found.path.iter().map(String::as_str).collect();
        let path = path.strip_prefix(&["std"]).or(path.strip_prefix(&["tokio"])).unwrap_or(&path);
        let elsewhere = found.root == Root::Elsewhere;
        elsewhere && matches!(path, ["spawn"] | ["task" | "thread", "spawn" | "spawn_blocking"])
    };
    source_text::paths(&file.module, &file.text)
        .iter()
        .filter(spawns)
        .map(|found| format!("{}:{}: spawns; only src/task.rs may", file.path, found.line))
        .collect()
}

fn global_state(file: &File) -> Vec<String> {
    let blanked = source_text::blank(&file.text);
    let tokens = source_text::tokens(&blanked);
    let shared = |text: &str| {
        ["Mutex", "RwLock", "OnceLock", "OnceCell", "LazyLock", "LazyCell"].contains(&text)
            || text.starts_with("Atomic")
    };
    let statics = tokens.iter().enumerate().filter(|(_, token)| token.text == "static");
    let shared_statics = statics.filter(|(at, _)| {
        let declaration = tokens[*at..].iter().take_while(|token| !"=;".contains(token.text));
        declaration.into_iter().any(|token| shared(token.text))
    });
    let calls = tokens.windows(2).filter(|pair| pair[1].text == "!").map(|pair| &pair[0]);
    let thread_locals = calls.filter(|token| token.text == "thread_local");
    shared_statics
        .map(|(_, token)| token)
        .chain(thread_locals)
        .map(|token| format!("{}:{}: state outside the supervisor", file.path, token.line))
        .collect()
}

fn shape(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    let named_mod = file.path.ends_with("/mod.rs");
    let long = (lines > MOST_LINES)
        .then(|| format!("{}: {lines} lines, more than {MOST_LINES}", file.path));
    named_mod
        .then(|| format!("{}: call it by its module", file.path))
        .into_iter()
        .chain(long)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), module: source_text::module(path), text: text.to_owned() }
    }

    #[test]
    fn a_forbidden_edge_is_reported_with_file_line_and_rule() {
        let faults = forbidden_edges(TABLE, &file("src/event.rs", "\nuse crate::store::Store;"));
        let [fault] = &faults[..] else { panic!("{faults:?}") };
        let expected = "src/event.rs:2: event may not use crate::store::Store \
                        (room table: it may use [log, measurements, leaves])";
        assert_eq!(fault, expected);
    }

    #[test]
    fn a_forbidden_edge_is_seen_in_every_way_to_write_it() {
        for text in [
            "use super::flight::Flight;",
            "use crate::{error::Error, session::{flight}};",
            "fn f() { crate::session::single_flight::new(); }",
            "fn f(_: &super::Flight) {}",
            "mod inner { use super::super::slot; }",
        ] {
            let faults = forbidden_edges(TABLE, &file("src/session/machine.rs", text));
            assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        }
    }

    #[test]
    fn allowed_edges_and_mere_mentions_pass() {
        let text = "//! [`crate::session::slot`]\nuse crate::error::Error;\n\
                    use self::inner::X;\nconst A: &str = \"crate::session::slot\";";
        assert_eq!(forbidden_edges(TABLE, &file("src/session/machine.rs", text)), [""; 0]);
        let text = "use super::machine::State;\nuse crate::provider::Provider;";
        assert_eq!(forbidden_edges(TABLE, &file("src/session/slot.rs", text)), [""; 0]);
    }

    #[test]
    fn a_leaf_may_use_only_what_its_own_line_says() {
        let faults = forbidden_edges(TABLE, &file("src/key.rs", "use crate::secret::Secret;"));
        assert_eq!(faults.len(), 1);
        let faults = forbidden_edges(TABLE, &file("src/error.rs", "use crate::key::Tenant;"));
        assert_eq!(faults, [""; 0]);
    }

    #[test]
    fn modules_outside_the_table_and_re_exports_are_faults() {
        let faults = forbidden_edges(TABLE, &file("src/cache.rs", ""));
        assert_eq!(faults, ["src/cache.rs: cache has no line in the room table"]);
        let faults = forbidden_edges(TABLE, &file("src/task.rs", "use crate::cache::X;"));
        assert_eq!(faults, ["src/task.rs:1: crate::cache::X has no line in the room table"]);
        let faults = forbidden_edges(TABLE, &file("src/error.rs", "use crate::SessionKey;"));
        assert!(faults[0].contains("is a re-export"), "{faults:?}");
    }

    #[test]
    fn a_pure_module_with_a_runtime_is_a_fault() {
        for text in ["use tokio::sync::Notify;", "fn f() { tracing::info!() }", "use ractor;"] {
            assert_eq!(runtime_uses(&file("src/session/machine.rs", text)).len(), 1, "{text}");
            assert_eq!(runtime_uses(&file("src/session/machine/wake.rs", text)).len(), 1, "{text}");
            assert_eq!(runtime_uses(&file("src/session/slot.rs", text)), [""; 0]);
        }
    }

    #[test]
    fn a_bare_spawn_is_a_fault_except_where_tasks_are_made() {
        for text in [
            "fn f() { tokio::spawn(g()); }",
            "use tokio::{select, task::spawn};",
            "use tokio::task;\nfn f() { task::spawn(g()) }",
            "fn f() { std::thread::spawn(g) }",
        ] {
            assert_eq!(bare_spawns(&file("src/session/exchange.rs", text)).len(), 1, "{text}");
            assert_eq!(bare_spawns(&file("src/task.rs", text)), [""; 0]);
            assert_eq!(bare_spawns(&file("src/testing/server.rs", text)), [""; 0]);
        }
        let ours = "use crate::task;\nfn f() { crate::task::spawn(g()); tracker.spawn(g()); }";
        assert_eq!(bare_spawns(&file("src/session/exchange.rs", ours)), [""; 0]);
    }

    #[test]
    fn a_shared_static_is_a_fault_and_a_constant_one_is_not() {
        for text in [
            "static A: Mutex<u8> = Mutex::new(0);",
            "pub(crate) static A:\n  std::sync::OnceLock<u8> = f();",
            "static N: AtomicU64 = AtomicU64::new(0);",
            "thread_local! { static A: Cell<u8> = f(); }",
        ] {
            assert_eq!(global_state(&file("src/a.rs", text)).len(), 1, "{text}");
        }
        let text = "static A: &str = \"Mutex\";\nfn f(a: &'static Mutex<u8>) {}\nmod thread_local;";
        assert_eq!(global_state(&file("src/a.rs", text)), [""; 0]);
    }

    #[test]
    fn long_files_and_files_called_mod_are_faults() {
        assert_eq!(shape(&file("src/a.rs", &"\n".repeat(MOST_LINES))), [""; 0]);
        assert_eq!(shape(&file("src/a.rs", &"\n".repeat(MOST_LINES + 1))).len(), 1);
        assert_eq!(shape(&file("src/a/mod.rs", "")).len(), 1);
    }
}
