//! What is answered without an item: connections, settings, figures.

use std::sync::atomic::Ordering;

use crate::auth::Verdict;
use crate::figures::{StorageFigures, StorageStats};
use crate::message::{Batch, KeyHash, Op, Reply};
use crate::server::Server;
use crate::session::resp::Resp;
use crate::session::resp::commands::{self, Access, Row, Shape, TABLE, Word};
use crate::session::resp::complaint::Complaint;
use crate::session::resp::frame::Args;
use crate::session::resp::glob;
use crate::session::resp::render::{Version, Writer, item_count};
use crate::storage::counter;

/// The Redis whose commands for strings are served; clients read features off it.
const REDIS_VERSION: &str = "7.0.15";
/// The longest name that a client may give itself.
const NAME_BYTES_MAX: usize = 128;

/// What a client has said of itself.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) version: Version,
    /// 0 as long as nobody has asked for it.
    id: u64,
    rolls: u32,
    names: Option<Box<Names>>,
    /// Whether it has said who it is, where that is asked.
    is_known: bool,
    pub(super) verdict: Option<Verdict>,
}

#[derive(Debug, Default)]
struct Names {
    name: Box<[u8]>,
    library: Box<[u8]>,
    library_version: Box<[u8]>,
}

impl Client {
    /// Its number, which no other client has had.
    fn id(&mut self, server: &Server) -> u64 {
        if self.id == 0 {
            self.id = server.next_client_id();
        }
        self.id
    }

    /// A hash that nobody can tell beforehand.
    pub(super) fn roll(&mut self, server: &Server) -> KeyHash {
        self.rolls = self.rolls.wrapping_add(1);
        let (id, rolls) = (self.id(server).to_be_bytes(), self.rolls.to_be_bytes());
        let mut roll = [0; 12];
        roll.iter_mut().zip(id.into_iter().chain(rolls)).for_each(|(at, byte)| *at = byte);
        server.hash(&roll)
    }

    /// Whether `user` has this password; then the client is him.
    fn log_in(&mut self, user: &[u8], password: &[u8], server: &Server) -> bool {
        let verdict = match &server.access {
            Some(access) => access.check(user, password),
            // There is one user, and any password is his.
            None if user == DEFAULT_USER => Verdict::Accepted,
            None => Verdict::Refused,
        };
        self.verdict = Some(verdict);
        self.is_known |= verdict == Verdict::Accepted;
        verdict == Verdict::Accepted
    }

    /// Whether it would have to say who it is, and has not.
    fn is_stranger(&self, server: &Server) -> bool {
        server.access.is_some() && !self.is_known
    }

    fn names(&mut self) -> &mut Names {
        self.names.get_or_insert_default()
    }

    fn name(&self) -> &[u8] {
        self.names.as_ref().map_or(&[], |names| &names.name)
    }

    /// Says whether it may be a name.
    fn set_name(&mut self, name: &[u8]) -> bool {
        let is_name = is_name(name);
        if is_name {
            self.names().name = name.into();
        }
        is_name
    }

    fn told(&mut self, server: &Server) -> String {
        let id = self.id(server);
        let resp = if self.version == Version::Three { 3 } else { 2 };
        let names = self.names.as_ref();
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let name = text(names.map(|names| &*names.name));
        let library = text(names.map(|names| &*names.library));
        let library_version = text(names.map(|names| &*names.library_version));
        format!("id={id} name={name} db=0 flags=N resp={resp} lib-name={library} lib-ver={library_version}\n")
    }
}

fn is_name(name: &[u8]) -> bool {
    name.len() <= NAME_BYTES_MAX && name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Answers one of these commands.
pub(super) fn answer(
    resp: &mut Resp,
    word: Word,
    op: &Op,
    reply: &Reply,
    batch: &Batch,
    server: &Server,
    writer: &mut Writer<'_>,
) {
    let args = Args::of(batch.input.filled(), op.starts_at);
    match (word, reply) {
        (Word::Ping, _) if args.len() > 2 => writer.complaint_about(Complaint::Arity, b"ping"),
        (Word::Ping, _) if args.len() == 2 => writer.bulk(args.get(1)),
        (Word::Ping, _) => writer.simple("PONG"),
        (Word::Echo, _) => writer.bulk(args.get(1)),
        (Word::Quit, _) => writer.ok(),
        (Word::Reset, _) => {
            resp.client.version = Version::Two;
            resp.client.names = None;
            writer.simple("RESET");
        }
        (Word::Select, _) => match counter::parse_exact(args.get(1)) {
            Some(0) => writer.ok(),
            Some(_) => writer.error("ERR DB index is out of range"),
            None => writer.complaint_about(Complaint::NoInteger, b""),
        },
        (Word::Auth, _) => auth(&mut resp.client, &args, server, writer),
        (Word::Hello, _) => hello(&mut resp.client, &args, server, writer),
        (Word::Client, _) => client(&mut resp.client, &args, server, writer),
        (Word::Command, _) => command(&args, writer),
        (Word::Config, reply) => config(&args, reply, server, writer),
        (Word::Info, Reply::Stats(stats)) => info(&args, stats, server, writer),
        _ => writer.error("ERR there is no answer"),
    }
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you \
                           sure your configuration is correct?";
const NO_AUTH: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                       <user> <pass> option can be used to authenticate the client and select the RESP protocol version \
                       at the same time";
/// Whose password AUTH means that names nobody.
const DEFAULT_USER: &[u8] = b"default";

/// AUTH [user] password.
fn auth(client: &mut Client, args: &Args<'_>, server: &Server, writer: &mut Writer<'_>) {
    let (user, password) = match args.len() {
        2 if server.access.is_none() => return writer.error(NO_PASSWORD),
        2 => (DEFAULT_USER, args.get(1)),
        3 => (args.get(1), args.get(2)),
        _ => return writer.complaint_about(Complaint::Syntax, b""),
    };
    if client.log_in(user, password, server) { writer.ok() } else { writer.error(WRONG_PASSWORD) }
}

/// HELLO version, and any of: AUTH user password, SETNAME name.
fn hello(client: &mut Client, args: &Args<'_>, server: &Server, writer: &mut Writer<'_>) {
    let version = match (args.len(), counter::parse_exact(args.get(1))) {
        (1, _) => client.version,
        (_, Some(2)) => Version::Two,
        (_, Some(3)) => Version::Three,
        (_, Some(_)) => return writer.error("NOPROTO unsupported protocol version"),
        (_, None) => return writer.error("ERR Protocol version is not an integer or out of range"),
    };
    let mut at = 2_usize;
    let mut name = None;
    while at < args.len() {
        let left = args.len().saturating_sub(at);
        if args.is(at, "auth") && left > 2 {
            let (user, password) = (args.get(at.saturating_add(1)), args.get(at.saturating_add(2)));
            if !client.log_in(user, password, server) {
                return writer.error(WRONG_PASSWORD);
            }
            at = at.saturating_add(3);
        } else if args.is(at, "setname") && left > 1 {
            name = Some(args.get(at.saturating_add(1)));
            at = at.saturating_add(2);
        } else {
            let option = String::from_utf8_lossy(args.get(at));
            return writer.error(&format!("ERR Syntax error in HELLO option '{option}'"));
        }
    }
    if client.is_stranger(server) {
        return writer.error(NO_AUTH);
    }
    if let Some(name) = name
        && !client.set_name(name)
    {
        return writer.error(NO_NAME);
    }
    client.version = version;
    writer.version = version;
    let id = i64::try_from(client.id(server)).unwrap_or(i64::MAX);
    writer.map(7);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        writer.bulk(name.as_bytes());
        writer.bulk(value.as_bytes());
    }
    writer.bulk(b"proto");
    writer.integer(if version == Version::Three { 3 } else { 2 });
    writer.bulk(b"id");
    writer.integer(id);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        writer.bulk(name.as_bytes());
        writer.bulk(value.as_bytes());
    }
    writer.bulk(b"modules");
    writer.array(0);
}

const NO_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

fn client(client: &mut Client, args: &Args<'_>, server: &Server, writer: &mut Writer<'_>) {
    let is = |name, count| args.is(1, name) && args.len() == count;
    let is_switch = args.is(2, "on") || args.is(2, "off");
    if is("setname", 3) {
        if client.set_name(args.get(2)) { writer.ok() } else { writer.error(NO_NAME) }
    } else if is("getname", 2) {
        match client.name() {
            [] => writer.null(),
            name => writer.bulk(name),
        }
    } else if is("setinfo", 4) {
        set_info(client, args, writer);
    } else if is("id", 2) {
        writer.integer(i64::try_from(client.id(server)).unwrap_or(i64::MAX));
    } else if is("info", 2) {
        let told = client.told(server);
        writer.text(&told);
    } else if is("no-evict", 3) || is("no-touch", 3) {
        if is_switch { writer.ok() } else { writer.complaint_about(Complaint::Syntax, b"") }
    } else {
        let known = ["setname", "getname", "setinfo", "id", "info", "no-evict", "no-touch"];
        unknown_subcommand(args, &known, writer);
    }
}

fn set_info(client: &mut Client, args: &Args<'_>, writer: &mut Writer<'_>) {
    let value = args.get(3);
    let option = if args.is(2, "lib-name") { "lib-name" } else { "lib-ver" };
    if !args.is(2, option) {
        let option = String::from_utf8_lossy(args.get(2));
        return writer.error(&format!("ERR Unrecognized option '{option}'"));
    }
    if !is_name(value) {
        return writer.error(&format!("ERR {option} cannot contain spaces, newlines or special characters."));
    }
    match option {
        "lib-name" => client.names().library = value.into(),
        _ => client.names().library_version = value.into(),
    }
    writer.ok();
}

/// One of these has the wrong number of arguments, and any other is unknown.
fn unknown_subcommand(args: &Args<'_>, known: &[&str], writer: &mut Writer<'_>) {
    let command = String::from_utf8_lossy(args.get(0)).to_ascii_lowercase();
    let told = if let Some(name) = known.iter().find(|name| args.is(1, name)) {
        format!("ERR wrong number of arguments for '{command}|{name}' command")
    } else {
        let name = String::from_utf8_lossy(args.get(1).get(..128).unwrap_or(args.get(1)));
        let command = command.to_ascii_uppercase();
        format!("ERR unknown subcommand '{name}'. Try {command} HELP.")
    };
    writer.error(&told);
}

fn command(args: &Args<'_>, writer: &mut Writer<'_>) {
    let named = || args.from(2).map(|name| commands::find(name).map(|(_, row)| row));
    let all = || u32::try_from(TABLE.len()).unwrap_or(u32::MAX);
    if args.len() == 1 || args.is(1, "info") && args.len() == 2 {
        writer.array(all());
        for row in TABLE {
            command_info(row, writer);
        }
    } else if args.is(1, "info") {
        writer.array(u32::try_from(args.from(2).count()).unwrap_or(0));
        for row in named() {
            match row {
                Some(row) => command_info(row, writer),
                None => writer.null(),
            }
        }
    } else if args.is(1, "count") && args.len() == 2 {
        writer.integer(i64::from(all()));
    } else if args.is(1, "list") && args.len() == 2 {
        writer.array(all());
        for row in TABLE {
            writer.bulk(row.name.as_bytes());
        }
    } else if args.is(1, "docs") {
        let is_asked = |row: &&Row| args.len() == 2 || named().flatten().any(|asked| asked == *row);
        writer.map(TABLE.iter().filter(is_asked).count());
        for row in TABLE.iter().filter(is_asked) {
            command_docs(row, writer);
        }
    } else {
        unknown_subcommand(args, &["count", "list"], writer);
    }
}

fn command_info(row: &Row, writer: &mut Writer<'_>) {
    let (first, last, step) = match row.shape {
        Shape::Plain => (0, 0, 0),
        Shape::Key | Shape::Value(_) => (1, 1, 1),
        Shape::Keys => (1, -1, 1),
        Shape::Pairs | Shape::AllPairs => (1, -1, 2),
    };
    let (flag, category) = match row.access {
        Access::Read => ("readonly", "@read"),
        Access::Write => ("write", "@write"),
        Access::Admin => ("fast", "@connection"),
    };
    writer.array(10);
    writer.bulk(row.name.as_bytes());
    writer.integer(i64::from(row.arity));
    writer.set(1);
    writer.simple(flag);
    for number in [first, last, step] {
        writer.integer(number);
    }
    writer.set(1);
    writer.simple(category);
    for _ in ["tips", "key specifications", "subcommands"] {
        writer.array(0);
    }
}

fn command_docs(row: &Row, writer: &mut Writer<'_>) {
    let group = match (row.access, row.shape) {
        (Access::Admin, _) => "connection",
        (_, Shape::Plain) => "server",
        _ => "string",
    };
    writer.bulk(row.name.as_bytes());
    writer.map(2);
    for (name, value) in [("summary", "As in Redis."), ("group", group)] {
        writer.bulk(name.as_bytes());
        writer.bulk(value.as_bytes());
    }
}

fn config(args: &Args<'_>, reply: &Reply, server: &Server, writer: &mut Writer<'_>) {
    if args.is(1, "resetstat") && args.len() == 2 {
        if let Reply::Stats(_) = reply {
            server.counters.reset();
        }
        return writer.ok();
    }
    if !args.is(1, "get") || args.len() < 3 {
        return unknown_subcommand(args, &["get", "resetstat"], writer);
    }
    let settings = settings(server);
    let is_asked = |setting: &&(&str, String)| {
        args.from(2).any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), setting.0.as_bytes()))
    };
    writer.map(settings.iter().filter(is_asked).count());
    for (name, value) in settings.iter().filter(is_asked) {
        writer.bulk(name.as_bytes());
        writer.bulk(value.as_bytes());
    }
}

/// What clients ask for, in Redis's names.
fn settings(server: &Server) -> Vec<(&'static str, String)> {
    let config = &server.config;
    vec![
        ("appendonly", "no".into()),
        ("databases", "1".into()),
        ("io-threads", config.threads.to_string()),
        ("maxclients", config.connections_max.to_string()),
        ("maxmemory", config.memory_bytes_max.to_string()),
        ("maxmemory-policy", policy(server).into()),
        ("port", config.tcp_port_told().to_string()),
        ("proto-max-bulk-len", config.item_bytes_max.to_string()),
        ("requirepass", String::new()),
        ("save", String::new()),
        ("timeout", "0".into()),
    ]
}

/// The nearest that Redis has.
fn policy(server: &Server) -> &'static str {
    if server.config.evictions() { "allkeys-lfu" } else { "noeviction" }
}

fn info(args: &Args<'_>, stats: &StorageStats, server: &Server, writer: &mut Writer<'_>) {
    let StorageStats::Figures(figures) = stats else {
        return writer.text("");
    };
    let is_asked = |section: &str| {
        let is_all = |at| ["all", "everything", "default"].iter().any(|all| args.is(at, all));
        args.len() == 1 || (1..args.len()).any(|at| args.is(at, section) || is_all(at))
    };
    let mut told = String::new();
    for (section, lines) in sections(figures, item_count(stats), server) {
        if !is_asked(section) {
            continue;
        }
        if !told.is_empty() {
            told.push_str("\r\n");
        }
        told.push_str("# ");
        let (first, rest) = section.split_at_checked(1).unwrap_or_default();
        told.push_str(&first.to_ascii_uppercase());
        told.push_str(rest);
        told.push_str("\r\n");
        for (name, value) in lines {
            told.push_str(name);
            told.push(':');
            told.push_str(&value);
            told.push_str("\r\n");
        }
    }
    writer.text(&told);
}

type Lines = Vec<(&'static str, String)>;

fn sections(figures: &StorageFigures, item_count: i64, server: &Server) -> Vec<(&'static str, Lines)> {
    let (config, counters) = (&server.config, &figures.counters);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed).to_string();
    let segments = figures.resident_segments.saturating_mul(figures.segment_bytes);
    let used = [figures.index_bytes, figures.ghost_bytes, server.meter.bytes()]
        .into_iter()
        .fold(segments, usize::saturating_add);
    let commands = [
        counters.cmd_get,
        counters.cmd_set,
        counters.cmd_touch,
        counters.delete_hits,
        counters.delete_misses,
        counters.incr_hits,
        counters.incr_misses,
        counters.decr_hits,
        counters.decr_misses,
    ];
    let uptime = server.clock.uptime();
    let keyspace = match item_count {
        0 => Vec::new(),
        count => vec![("db0", format!("keys={count},expires=0,avg_ttl=0"))],
    };
    let no = || String::from("0");
    vec![
        (
            "server",
            vec![
                ("redis_version", REDIS_VERSION.into()),
                ("redis_mode", "standalone".into()),
                ("memwire_version", env!("CARGO_PKG_VERSION").into()),
                ("os", std::env::consts::OS.into()),
                ("arch_bits", usize::BITS.to_string()),
                ("process_id", std::process::id().to_string()),
                ("tcp_port", config.tcp_port_told().to_string()),
                ("uptime_in_seconds", uptime.to_string()),
                ("uptime_in_days", uptime.checked_div(86_400).unwrap_or(0).to_string()),
            ],
        ),
        (
            "clients",
            vec![
                ("connected_clients", count(&server.counters.curr_connections)),
                ("maxclients", config.connections_max.to_string()),
                ("blocked_clients", no()),
            ],
        ),
        (
            "memory",
            vec![
                ("used_memory", used.to_string()),
                ("used_memory_dataset", figures.item_bytes.to_string()),
                ("maxmemory", config.memory_bytes_max.to_string()),
                ("maxmemory_policy", policy(server).into()),
            ],
        ),
        ("persistence", vec![("loading", no()), ("rdb_bgsave_in_progress", no()), ("aof_enabled", no())]),
        (
            "stats",
            vec![
                ("total_connections_received", count(&server.counters.total_connections)),
                ("total_commands_processed", commands.into_iter().fold(0, u64::saturating_add).to_string()),
                ("total_net_input_bytes", count(&server.counters.bytes_read)),
                ("total_net_output_bytes", count(&server.counters.bytes_written)),
                ("rejected_connections", count(&server.counters.rejected_connections)),
                ("expired_keys", counters.reclaimed.to_string()),
                ("evicted_keys", counters.evictions.to_string()),
                ("keyspace_hits", counters.get_hits.to_string()),
                ("keyspace_misses", counters.get_misses.to_string()),
            ],
        ),
        ("replication", vec![("role", "master".into()), ("connected_slaves", no())]),
        ("keyspace", keyspace),
    ]
}
