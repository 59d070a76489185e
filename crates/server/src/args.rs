//! The command line, as it was typed. What it means is [`config`](crate::config).
//!
//! The options are memcached's, spelled as memcached spells them, so that a unit file or a container's command line
//! keeps working when only the program's name in it changes.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};

use crate::limits::DRAIN_MS;

const AFTER_HELP: &str = "\
Environment:
  MEMCACHED_PORT_FILENAME  A file that is written when the server listens: a line for each
                           TCP address, such as `TCP INET: 11211`
  MEMCACHED_SASL_PWDB      The password file of -S, where --sasl-pwdb names none
  MEMWIRE_...              Each option by its long name: MEMWIRE_MEMORY_LIMIT=1024
  RUST_LOG                 What to log, such as `memwire::net=trace`; wins over -v

Signals:
  SIGTERM, SIGINT, SIGUSR1  Answer what has been asked for, then exit with 0
  SIGUSR1 with --snapshot   Take a snapshot instead
  SIGHUP                    Read password file, certificates and, of the file of --config, `verbose`
                            again; without any the same as the others, and with -d it is ignored";

/// A memcached server that stores what it sends.
///
/// Options are memcached's. One that has no meaning here is accepted, and a warning says so.
#[derive(Debug, Clone, Parser)]
#[command(name = "memwire", version, about, after_help = AFTER_HELP)]
#[command(disable_version_flag = true, args_override_self = true)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Args {
    #[expect(missing_docs, reason = "a doc comment here would become the command's own help text")]
    #[command(subcommand)]
    pub task: Option<Task>,
    /// Read options from this TOML file: their long names are its keys. The environment wins over it, and the command
    /// line over both.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print the options that hold, as a file for --config, and end.
    #[arg(long)]
    pub print_config: bool,

    /// TCP port; 0 or -1 for any free one.
    #[arg(short, long, default_value_t = 11211, allow_hyphen_values = true, value_name = "NUM")]
    pub port: i32,

    /// UDP port. Only 0 is served: UDP is off, as it is in memcached.
    #[arg(short = 'U', long, default_value_t = 0, allow_hyphen_values = true, value_name = "NUM")]
    pub udp_port: i32,

    /// Unix socket to listen on, instead of TCP.
    #[arg(short = 's', long, value_name = "FILE")]
    pub unix_socket: Option<PathBuf>,

    /// Access mask of the Unix socket, octal.
    #[arg(short = 'a', long, default_value = "700", value_name = "MASK")]
    pub unix_mask: String,

    /// Addresses to listen on: `host`, `host:port`, `[v6]:port`; separated by commas, or given several times.
    /// Without any, all addresses of the machine.
    #[arg(short, long, value_delimiter = ',', action = ArgAction::Append, value_name = "ADDR")]
    pub listen: Vec<String>,

    /// Memory for items, index and large values, in megabytes.
    #[arg(short, long, default_value_t = 64, value_name = "MB")]
    pub memory_limit: usize,

    /// Answer 'out of memory' when the memory is full, instead of evicting.
    #[arg(short = 'M', long)]
    pub disable_evictions: bool,

    /// The most connections at a time.
    #[arg(short, long, default_value_t = 1024, value_name = "NUM")]
    pub conn_limit: usize,

    /// The most connections at a time from one address, or from one /64 of IPv6, HTTP's among them; 0 for any number.
    #[arg(long, default_value_t = 0, value_name = "NUM")]
    pub conn_limit_per_address: usize,

    /// I/O threads besides the storage thread, of which there is one. With 0 that one serves the connections, too. Without
    /// the option, 0 on one or two cores, else one for each other core, at most 4.
    #[arg(short, long, value_name = "NUM")]
    pub threads: Option<usize>,

    /// The longest value: bytes, or a number with k, m or g behind it; 1k to 1g.
    #[arg(short = 'I', long, default_value = "1m", value_name = "SIZE")]
    pub max_item_size: String,

    /// Requests of one connection in one turn. Accepted; a turn is bounded by bytes here.
    #[arg(short = 'R', long, default_value_t = 20, value_name = "NUM")]
    pub max_reqs_per_event: u32,

    /// Connections that the system may queue before they are accepted.
    #[arg(short = 'b', long, default_value_t = 1024, value_name = "NUM")]
    pub listen_backlog: i32,

    /// Keep versions from clients: every CAS reads as 0.
    #[arg(short = 'C', long)]
    pub disable_cas: bool,

    /// Refuse to flush.
    #[arg(short = 'F', long)]
    pub disable_flush_all: bool,

    /// Protocol: auto, binary or ascii. With auto the first byte of a connection decides.
    #[arg(short = 'B', long, default_value = "auto", value_name = "NAME")]
    pub protocol: String,

    /// What ends a key's prefix in `stats detail`, which is then counted from the start.
    #[arg(short = 'D', long, value_name = "CHAR")]
    pub prefix_delimiter: Option<String>,

    /// The user to become, when started as root.
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,

    /// Run in the background.
    #[arg(short, long)]
    pub daemon: bool,

    /// At the end, wait so long for clients to take what they have asked for; 0 to 3600.
    #[arg(long, default_value_t = (DRAIN_MS / 1000) as u32, value_name = "SECONDS")]
    pub drain_timeout: u32,

    /// Write the process id to this file.
    #[arg(short = 'P', long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,

    /// Let the system write core files of any size.
    #[arg(short = 'r', long)]
    pub enable_coredumps: bool,

    /// Say more: -v what happens, -vv also peers' mistakes, -vvv requests. `RUST_LOG` wins over it.
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Let clients shut the server down with the text command `shutdown`.
    #[arg(short = 'A', long)]
    pub enable_shutdown: bool,

    /// Refuse `lru_crawler metadump`, which tells all keys.
    #[arg(short = 'X', long)]
    pub disable_dumping: bool,

    /// Serve HTTP on these addresses: metrics, health, keys, and a page. A port alone is one of the loopback interface.
    /// With -S or -Y it asks for name and password (Basic), with -Z it has TLS, but for addresses with `notls:` before them.
    #[arg(long, value_delimiter = ',', action = ArgAction::Append, value_name = "ADDR")]
    pub http: Vec<String>,

    /// Let clients wait for an item to change: opcode 0x77 in the binary protocol, `mg` with `U`, see README. HTTP's can
    /// in any case.
    #[arg(long)]
    pub watch: bool,

    /// Let in only who is in the password file: SASL in the binary protocol, the first command in text, AUTH in RESP.
    #[arg(short = 'S', long)]
    pub enable_sasl: bool,

    /// The password file of -S: a line `user:password` for each user, or one that `memwire passwd` makes.
    #[arg(long, value_name = "FILE")]
    pub sasl_pwdb: Option<PathBuf>,

    /// Let in only who is in this password file, in all protocols, as with -S.
    #[arg(short = 'Y', long, value_name = "FILE")]
    pub auth_file: Option<PathBuf>,

    /// TLS on TCP, but for addresses of -l with `notls:` before them. Certificate and key are `-o ssl_chain_cert=FILE`
    /// and `ssl_key=FILE`, or the options below; SIGHUP reads them again.
    #[arg(short = 'Z', long)]
    pub enable_ssl: bool,

    /// TLS with this certificate chain, in PEM; -o `ssl_chain_cert`.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Its private key, if not in the same file; -o `ssl_key`.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Who signs clients' certificates; -o `ssl_ca_cert`.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// Clients' certificates: none, request or require; -o `ssl_verify_mode`.
    #[arg(long, value_name = "WHETHER")]
    pub tls_verify: Option<String>,

    /// Options with a name: `track_sizes`; `idle_timeout=SECONDS`, after which a connection is closed; with -S or -Y,
    /// `sasl_mechs=NAME` (all, plain, scram-sha-256), `auth_timeout=SECONDS`, `auth_request_max=BYTES` and
    /// `auth_failures_max=NUM`; for TLS also `ssl_min_version=2|3`, `ssl_session_cache` and
    /// `ssl_handshake_timeout=SECONDS` (10); and memcached's others, which are accepted where they have no meaning here.
    #[arg(short = 'o', long, value_delimiter = ',', action = ArgAction::Append, value_name = "NAME[=VALUE]")]
    pub extended: Vec<String>,

    /// Restore all items from this file at the start, and write it on SIGUSR1 and at the end.
    #[arg(long, value_name = "FILE")]
    pub snapshot: Option<PathBuf>,

    /// Write it so often, too, within a quarter of that time: a number with s, m, h or d behind it.
    #[arg(long, value_name = "DURATION")]
    pub snapshot_every: Option<String>,

    /// When it is damaged: `refuse` to start, `skip` it, or `salvage` what stands before the damage.
    #[arg(long, default_value = "refuse", value_name = "WHAT")]
    pub snapshot_on_damage: String,

    /// Print the version.
    #[arg(short = 'V', long, action = ArgAction::Version)]
    pub version: Option<bool>,

    /// Print the license.
    #[arg(short = 'i', long)]
    pub license: bool,

    #[expect(missing_docs, reason = "a doc comment here would become the command's own help text")]
    #[command(flatten)]
    pub unused: Unused,
    #[expect(missing_docs, reason = "a doc comment here would become the command's own help text")]
    #[command(flatten)]
    pub refused: Refused,
}

/// What can be done instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Task {
    /// Read a password from the standard input, and print a line for the password file that does not hold it.
    Passwd {
        /// The user's name.
        user: String,
    },
}

/// Options that have no meaning here. They are accepted, and a warning says why.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Accepted, without effect")]
pub struct Unused {
    /// There are no slabs that grow.
    #[arg(short = 'f', long, value_name = "FACTOR")]
    pub slab_growth_factor: Option<f64>,

    /// There are no slabs with a smallest chunk.
    #[arg(short = 'n', long, value_name = "BYTES")]
    pub slab_min_size: Option<u32>,

    /// Memory is not locked.
    #[arg(short = 'k', long)]
    pub lock_memory: bool,

    /// Large pages are left to the system.
    #[arg(short = 'L', long)]
    pub enable_largepages: bool,

    /// There is no watch to disable.
    #[arg(short = 'W', long)]
    pub disable_watch: bool,

    /// NAPI ids are not looked at.
    #[arg(short = 'N', long, value_name = "NUM")]
    pub napi_ids: Option<u32>,
}

/// Options whose absence would be a danger if they were only accepted. The server does not start with them.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Refused, because they are not served yet")]
pub struct Refused {
    /// Items in a memory file, kept over a restart.
    #[arg(short = 'e', long, value_name = "FILE")]
    pub memory_file: Option<PathBuf>,
}
