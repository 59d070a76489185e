//! What the command line means.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::args::{Args, Refused, Unused};
use crate::auth;
use crate::limits::{
    DRAIN_MS, DRAIN_SECONDS_MAX, ITEM_BYTES_CEILING, ITEM_BYTES_FLOOR, TAIL_BYTES_COPIED,
    UNFINISHED_BYTES_MIN,
};
use crate::snapshot::file::Place;
use crate::storage::EngineConfig;
use crate::storage::engine::{Stress, Versions, WhenFull};
use crate::tls;

/// A server's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// Access mask of a Unix socket.
    pub unix_mask: u32,
    /// Connections at a time.
    pub connections_max: usize,
    /// The same of one address, where that is bounded.
    pub address_connections_max: Option<NonZeroUsize>,
    /// Connections that the system may queue.
    pub backlog: i32,
    /// I/O threads.
    pub threads: usize,
    /// Whether the only one is the storage thread.
    pub storage_serves: bool,
    /// Memory for segments, index, ghost, large values and buffers.
    pub memory_bytes_max: usize,
    /// The longest value.
    pub item_bytes_max: usize,
    /// What happens when the memory is full.
    pub when_full: WhenFull,
    /// Whether clients are told versions.
    pub versions: Versions,
    /// Whether clients may flush.
    pub flush: Flush,
    /// Where to serve HTTP.
    pub http: Vec<(SocketAddr, Security)>,
    /// Whether clients of the binary protocol may wait for changes.
    pub watch: Watch,
    /// What clients may speak.
    pub protocol: Protocol,
    /// Whether clients may end the server.
    pub shutdown: Shutdown,
    /// Who may come in, where not everybody may.
    pub auth: Option<Auth>,
    /// Whether clients may ask for all keys.
    pub dump: Dump,
    /// Whether `stats sizes` has figures.
    pub track_sizes: bool,
    /// Where a key's prefix ends, for `stats detail`.
    pub prefix_delimiter: u8,
    /// Whether prefixes are counted from the start.
    pub detail_enabled: bool,
    /// How long the server's end waits for answers to be taken.
    pub drain_ms: u64,
    /// Told in `stats settings`, and of no other effect.
    pub requests_per_event: u32,
    /// How long a connection may be idle, where that is bounded.
    pub idle_timeout_ms: Option<u64>,
    /// How often `-v` was given.
    pub verbosity: u8,
    /// Snapshots, if there are to be any.
    pub snapshot: Option<Snapshot>,
    /// Certificates, where connections come with TLS.
    pub tls: Option<tls::Options>,
    /// What concerns the process and not the server.
    pub process: Process,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On these addresses. One that cannot be had is an error.
    Tcp(Vec<(SocketAddr, Security)>),
    /// On all addresses of the machine, IPv6 where it has any.
    TcpAnywhere(u16),
    /// On a Unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// The same with the ports that the system chose, where it was to choose.
    #[must_use]
    pub fn with_ports_of(&self, bound: &[SocketAddr]) -> Self {
        match (self, bound) {
            (Self::TcpAnywhere(_), [first, ..]) => Self::TcpAnywhere(first.port()),
            (Self::Tcp(addresses), bound) => {
                let securities = addresses.iter().map(|(_, security)| *security);
                Self::Tcp(bound.iter().copied().zip(securities).collect())
            }
            _ => self.clone(),
        }
    }
}

/// Who may come in.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The password file.
    pub file: PathBuf,
    /// How far strangers are borne with.
    pub limits: auth::Limits,
    /// What SASL offers.
    pub mechanisms: auth::Mechanisms,
}

/// What an address is served with, where there is TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// TLS.
    Tls,
    /// Nothing: memcached's `notls:`.
    Clear,
}

/// Whether clients may flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// They may.
    Allowed,
    /// They get an authentication error.
    Refused,
}

/// Whether clients of the binary protocol may wait for changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// They may.
    Allowed,
    /// They are told that there is no such command.
    Refused,
}

/// What clients may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Whatever the first byte of their connection says.
    Auto,
    /// The binary protocol.
    Binary,
    /// The text protocol.
    Text,
}

/// Whether clients may end the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// They may.
    Allowed,
    /// They are told that it is not enabled.
    Refused,
}

/// Whether clients may ask for all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dump {
    /// They may.
    Allowed,
    /// They are told that it is not.
    Refused,
}

/// When snapshots are taken, and where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The file.
    pub place: Place,
    /// How often, besides when somebody asks and at the end.
    pub every: Option<Duration>,
    /// What becomes of a damaged one.
    pub on_damage: OnDamage,
}

/// What a server does that finds its snapshot damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// It does not start.
    Refuse,
    /// It starts empty.
    Skip,
    /// It starts with what stands before the damage.
    Salvage,
}

/// What concerns the process and not the server.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// The user to become.
    pub user: Option<String>,
    /// Whether to go into the background.
    pub daemon: bool,
    /// Where the process id goes.
    pub pidfile: Option<PathBuf>,
    /// Whether core files may have any size.
    pub core_dumps: bool,
}

impl Default for Config {
    /// memcached's defaults but for one I/O thread, on a free port of the loopback interface.
    fn default() -> Self {
        Self {
            listen: Listen::Tcp(vec![(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Security::Tls)]),
            unix_mask: 0o700,
            connections_max: 1024,
            address_connections_max: None,
            backlog: 1024,
            threads: 1,
            storage_serves: false,
            memory_bytes_max: 64 << 20,
            item_bytes_max: 1 << 20,
            when_full: WhenFull::Evict,
            versions: Versions::Told,
            flush: Flush::Allowed,
            http: Vec::new(),
            watch: Watch::Refused,
            protocol: Protocol::Auto,
            shutdown: Shutdown::Refused,
            auth: None,
            dump: Dump::Allowed,
            track_sizes: false,
            prefix_delimiter: b':',
            detail_enabled: false,
            drain_ms: DRAIN_MS,
            requests_per_event: 20,
            idle_timeout_ms: None,
            verbosity: 0,
            snapshot: None,
            tls: None,
            process: Process::default(),
        }
    }
}

/// A configuration, and what the operator should know about it.
#[derive(Debug)]
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    /// A sentence for each option that was accepted without effect.
    pub warnings: Vec<String>,
}

impl Config {
    /// What `args` mean.
    ///
    /// # Errors
    /// A sentence that names the option, for one that cannot be followed.
    pub fn resolve(args: &Args) -> Result<Resolved, String> {
        refuse(&args.refused)?;
        let mut warnings = unused(&args.unused);
        if args.udp_port > 0 {
            warnings.push(format!("-U {}: UDP is not served", args.udp_port));
        }
        if args.max_reqs_per_event != 20 {
            warnings.push("-R: a connection's turn is bounded by bytes, not by requests".into());
        }
        let mut tls = tls::options::Given::default();
        if args.enable_ssl {
            tls.enable();
        }
        let Extended { track_sizes, idle_timeout_ms, auth_limits, mechanisms } =
            extended(&args.extended, &mut tls, &mut warnings)?;
        let (cert, key, ca) = (&args.tls_cert, &args.tls_key, &args.tls_ca);
        tls.take_long(cert.as_ref(), key.as_ref(), ca.as_ref(), args.tls_verify.as_deref())?;
        let tls = tls.resolve()?;
        if tls.is_some() && args.unix_socket.is_some() {
            warnings.push("-s: the Unix socket is served without TLS".into());
        }
        let memory_bytes_max = memory_bytes(args.memory_limit)?;
        let threads = args.threads.unwrap_or_else(default_threads);
        let config = Self {
            listen: listen(args)?,
            unix_mask: unix_mask(&args.unix_mask)?,
            connections_max: at_least_one("-c", args.conn_limit)?,
            address_connections_max: NonZeroUsize::new(args.conn_limit_per_address),
            backlog: args.listen_backlog,
            threads: threads.max(1),
            storage_serves: threads == 0,
            memory_bytes_max,
            item_bytes_max: item_bytes(&args.max_item_size, memory_bytes_max)?,
            when_full: if args.disable_evictions { WhenFull::Refuse } else { WhenFull::Evict },
            versions: if args.disable_cas { Versions::Hidden } else { Versions::Told },
            flush: if args.disable_flush_all { Flush::Refused } else { Flush::Allowed },
            watch: watch(args)?,
            http: http(args)?,
            protocol: protocol(&args.protocol)?,
            shutdown: if args.enable_shutdown { Shutdown::Allowed } else { Shutdown::Refused },
            auth: password_file(args)?.map(|file| Auth { file, limits: auth_limits, mechanisms }),
            dump: if args.disable_dumping { Dump::Refused } else { Dump::Allowed },
            track_sizes,
            prefix_delimiter: delimiter(args.prefix_delimiter.as_deref())?,
            detail_enabled: args.prefix_delimiter.is_some(),
            drain_ms: drain_ms(args.drain_timeout)?,
            requests_per_event: args.max_reqs_per_event,
            idle_timeout_ms,
            verbosity: args.verbose,
            snapshot: snapshot(args)?,
            tls,
            process: Process {
                user: args.user.clone(),
                daemon: args.daemon,
                pidfile: args.pidfile.clone(),
                core_dumps: args.enable_coredumps,
            },
        };
        Ok(Resolved { config, warnings })
    }

    /// The engine's part.
    #[must_use]
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            memory_bytes_max: self.memory_bytes_max,
            item_bytes_max: self.item_bytes_max,
            when_full: self.when_full,
            versions: self.versions,
            track_sizes: self.track_sizes,
            prefix_delimiter: self.prefix_delimiter,
            detail_enabled: self.detail_enabled,
            newest_cas: 0,
            stress: Stress::None,
        }
    }

    /// Bytes of large values that may be on their way in at the same time.
    #[must_use]
    pub fn receiving_bytes_max(&self) -> usize {
        // What ends a value in a protocol of lines is read with it.
        (self.memory_bytes_max / 4).max(self.item_bytes_max + b"\r\n".len())
    }

    /// The same for requests whose values are not large, as far as they are not whole.
    #[must_use]
    pub fn unfinished_bytes_max(&self) -> usize {
        (self.memory_bytes_max / 8).max(UNFINISHED_BYTES_MIN)
    }

    pub(crate) fn evictions(&self) -> bool {
        self.when_full == WhenFull::Evict
    }

    pub(crate) fn cas_enabled(&self) -> bool {
        self.versions == Versions::Told
    }

    pub(crate) fn flush_enabled(&self) -> bool {
        self.flush == Flush::Allowed
    }

    pub(crate) fn auth_file_told(&self) -> String {
        self.auth.as_ref().map_or("no".into(), |auth| auth.file.display().to_string())
    }

    pub(crate) fn protocol_told(&self) -> &'static str {
        match self.protocol {
            Protocol::Auto => "auto-negotiate",
            Protocol::Binary => "binary",
            Protocol::Text => "ascii",
        }
    }

    pub(crate) fn tcp_port_told(&self) -> u16 {
        match &self.listen {
            Listen::Tcp(addresses) => addresses.first().map_or(0, |(address, _)| address.port()),
            Listen::TcpAnywhere(port) => *port,
            Listen::Unix(_) => 0,
        }
    }

    pub(crate) fn listen_told(&self) -> String {
        match &self.listen {
            Listen::Tcp(addresses) => {
                let hosts: Vec<_> = addresses.iter().map(|(address, _)| address.ip().to_string()).collect();
                hosts.join(",")
            }
            Listen::TcpAnywhere(_) | Listen::Unix(_) => "NULL".into(),
        }
    }

    pub(crate) fn unix_socket_told(&self) -> String {
        match &self.listen {
            Listen::Unix(path) => path.display().to_string(),
            _ => "NULL".into(),
        }
    }
}

fn snapshot(args: &Args) -> Result<Option<Snapshot>, String> {
    let Some(path) = &args.snapshot else {
        return match &args.snapshot_every {
            None => Ok(None),
            Some(every) => Err(format!("--snapshot-every {every}: --snapshot <FILE> says where")),
        };
    };
    // Going into the background changes the folder.
    let path =
        std::path::absolute(path).map_err(|error| format!("--snapshot {}: {error}", path.display()))?;
    let every = args.snapshot_every.as_deref().map(duration).transpose();
    let on_damage = match args.snapshot_on_damage.as_str() {
        "refuse" => OnDamage::Refuse,
        "skip" => OnDamage::Skip,
        "salvage" => OnDamage::Salvage,
        other => return Err(format!("--snapshot-on-damage {other}: it is refuse, skip or salvage")),
    };
    let every = every.map_err(|why| format!("--snapshot-every {why}"))?;
    Ok(Some(Snapshot { place: Place::new(path), every, on_damage }))
}

/// A number of seconds, or with a unit behind it.
fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 60 * 60), ('d', 24 * 60 * 60)];
    let unit = UNITS.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)));
    let (digits, seconds) = unit.unwrap_or((text, 1));
    match digits.parse::<u32>() {
        Ok(number) if number > 0 => Ok(Duration::from_secs(u64::from(number) * seconds)),
        _ => Err(format!("{text}: a duration is a number from 1 on, with s, m, h or d behind it")),
    }
}

fn protocol(name: &str) -> Result<Protocol, String> {
    match name {
        "auto" | "auto-negotiate" => Ok(Protocol::Auto),
        "binary" => Ok(Protocol::Binary),
        "ascii" => Ok(Protocol::Text),
        _ => Err(format!("-B {name}: no such protocol (auto, binary, ascii)")),
    }
}

fn refuse(refused: &Refused) -> Result<(), String> {
    let options = [(
        refused.memory_file.is_some(),
        "-e: a memory file is not served; items would be lost over a restart",
    )];
    options.iter().find(|(given, _)| *given).map_or(Ok(()), |(_, why)| Err((*why).into()))
}

fn unused(unused: &Unused) -> Vec<String> {
    let options = [
        (unused.slab_growth_factor.is_some(), "-f: there are no slabs; memory is a log of segments"),
        (unused.slab_min_size.is_some(), "-n: there are no slabs; memory is a log of segments"),
        (unused.lock_memory, "-k: memory is not locked"),
        (unused.enable_largepages, "-L: large pages are left to the system"),
        (unused.disable_watch, "-W: there is no watch command"),
        (unused.napi_ids.is_some(), "-N: NAPI ids are not looked at"),
    ];
    options.iter().filter(|(given, _)| *given).map(|(_, why)| (*why).into()).collect()
}

/// memcached's options with a name that are accepted here. Most tune parts that this server does not have.
const EXTENDED_UNUSED: &[&str] = &[
    "hash_algorithm",
    "hashpower",
    "hot_lru_pct",
    "hot_max_factor",
    "drop_privileges",
    "relaxed_privileges",
    "inline_ascii_resp",
    "lru_crawler",
    "lru_crawler_sleep",
    "lru_crawler_tocrawl",
    "lru_maintainer",
    "maxconns_fast",
    "modern",
    "no_hashexpand",
    "read_buf_mem_limit",
    "resp_obj_mem_limit",
    "slab_automove",
    "slab_automove_freeratio",
    "slab_automove_ratio",
    "slab_automove_window",
    "slab_chunk_max",
    "slab_reassign",
    "slab_sizes",
    "chunked_items",
    "sock_cookie_id",
    "tail_repair_time",
    "temporary_ttl",
    "warm_lru_pct",
    "warm_max_factor",
    "watcher_logbuf_size",
    "worker_logbuf_size",
];

/// What the options with a name say.
#[derive(Debug, Default)]
struct Extended {
    track_sizes: bool,
    idle_timeout_ms: Option<u64>,
    auth_limits: auth::Limits,
    mechanisms: auth::Mechanisms,
}

fn extended(
    options: &[String],
    tls: &mut tls::options::Given,
    warnings: &mut Vec<String>,
) -> Result<Extended, String> {
    let mut extended = Extended::default();
    let limits = &mut extended.auth_limits;
    for option in options.iter().filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let bare = name.strip_prefix("no_").unwrap_or(name);
        if name == "track_sizes" {
            extended.track_sizes = true;
        } else if name == "sasl_mechs" {
            extended.mechanisms = match value.to_ascii_lowercase().as_str() {
                "all" => auth::Mechanisms::All,
                "plain" => auth::Mechanisms::Plain,
                "scram-sha-256" => auth::Mechanisms::Scram,
                _ => return Err(format!("-o sasl_mechs={value}: all, plain or scram-sha-256")),
            };
        } else if name == "auth_timeout" {
            limits.timeout_ms = 1000 * number(name, value, 1..=3600)?;
        } else if name == "auth_request_max" {
            limits.request_bytes_max = number(name, value, 256..=TAIL_BYTES_COPIED)?;
        } else if name == "auth_failures_max" {
            limits.failures_max = number(name, value, 1..=100)?;
        } else if name == "idle_timeout" {
            let seconds: u64 = number(name, value, 0..=86_400 * 365)?;
            extended.idle_timeout_ms = Some(1000 * seconds).filter(|timeout| *timeout > 0);
        } else if name.starts_with("ssl_") {
            tls.take(name, value, warnings)?;
        } else if name.starts_with("ext_") {
            return Err(format!("-o {name}: there is no external storage"));
        } else if EXTENDED_UNUSED.contains(&name) || EXTENDED_UNUSED.contains(&bare) {
            warnings.push(format!("-o {name}: has no meaning here"));
        } else {
            return Err(format!("-o {name}: unknown option{}", did_you_mean(bare)));
        }
    }
    Ok(extended)
}

fn number<T>(name: &str, value: &str, allowed: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let number = value.parse().ok().filter(|number| allowed.contains(number));
    number.ok_or_else(|| format!("-o {name}={value}: a number from {} to {}", allowed.start(), allowed.end()))
}

/// The password file, where there is to be one. There is one for all protocols: none of them is a way round it.
fn password_file(args: &Args) -> Result<Option<PathBuf>, String> {
    let file = match (&args.auth_file, &args.sasl_pwdb) {
        (Some(_), Some(_)) => return Err("--sasl-pwdb: -Y names the password file already".into()),
        (None, Some(_)) if !args.enable_sasl => {
            return Err("--sasl-pwdb: asks nobody for a password without -S".into());
        }
        (None, None) if args.enable_sasl => {
            return Err("-S: needs a password file: --sasl-pwdb, MEMCACHED_SASL_PWDB or -Y".into());
        }
        (file, other) => file.as_ref().or(other.as_ref()),
    };
    // In the background the process stands in another folder.
    let absolute =
        |file: &PathBuf| std::path::absolute(file).map_err(|error| format!("{}: {error}", file.display()));
    file.map(absolute).transpose()
}

fn did_you_mean(name: &str) -> String {
    let shared = |other: &str| name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let served = [
        "track_sizes",
        "idle_timeout",
        "sasl_mechs",
        "auth_timeout",
        "auth_request_max",
        "auth_failures_max",
    ];
    let nearest = EXTENDED_UNUSED.iter().chain(&served).max_by_key(|other| shared(other));
    match nearest {
        Some(nearest) if shared(nearest) >= 3 => format!("; did you mean {nearest}?"),
        _ => String::new(),
    }
}

fn listen(args: &Args) -> Result<Listen, String> {
    if let Some(path) = &args.unix_socket {
        return Ok(Listen::Unix(path.clone()));
    }
    let port = match args.port {
        -1 => 0,
        port => u16::try_from(port).map_err(|_| format!("-p {port}: a port is 0 to 65535, or -1"))?,
    };
    let hosts: Vec<_> = args.listen.iter().filter(|host| !host.is_empty()).collect();
    if hosts.is_empty() || hosts == ["*"] {
        return Ok(Listen::TcpAnywhere(port));
    }
    let mut addresses = Vec::new();
    for host in hosts {
        let (bare, security) = security(host);
        let resolved = resolve_host(bare, port).map_err(|why| format!("-l {host}: {why}"))?;
        addresses.extend(resolved.into_iter().map(|address| (address, security)));
    }
    Ok(Listen::Tcp(addresses))
}

/// `host`, `host:port`, `v6`, `[v6]`, `[v6]:port`.
fn resolve_host(host: &str, default_port: u16) -> Result<Vec<SocketAddr>, String> {
    if host == "*" {
        return Ok(vec![
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, default_port)),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, default_port)),
        ]);
    }
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, default_port)]);
    }
    let resolved = match host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => host.to_socket_addrs(),
        Some((_, port)) => return Err(format!("{port:?} is no port")),
        None => (host, default_port).to_socket_addrs(),
    };
    let addresses: Vec<_> = resolved.map_err(|error| error.to_string())?.collect();
    if addresses.is_empty() { Err("has no address".into()) } else { Ok(addresses) }
}

fn watch(args: &Args) -> Result<Watch, String> {
    match (args.watch, args.disable_cas) {
        (true, true) => Err("--watch: clients wait by an item's version, and -C hides it".into()),
        (true, false) => Ok(Watch::Allowed),
        (false, _) => Ok(Watch::Refused),
    }
}

/// memcached's way to say that an address has no TLS, where the others have.
fn security(address: &str) -> (&str, Security) {
    match address.strip_prefix("notls:") {
        Some(bare) => (bare, Security::Clear),
        None => (address, Security::Tls),
    }
}

fn http(args: &Args) -> Result<Vec<(SocketAddr, Security)>, String> {
    let addresses = args.http.iter().map(|address| {
        let (bare, security) = security(address);
        Ok((http_address(bare)?, security))
    });
    addresses.collect()
}

fn http_address(address: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = address.parse::<u16>() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    if !address.contains(':') || address.parse::<IpAddr>().is_ok() {
        return Err(format!("--http {address}: a port is missing, as in 127.0.0.1:8080"));
    }
    let mut addresses = address.to_socket_addrs().map_err(|error| format!("--http {address}: {error}"))?;
    addresses.next().ok_or_else(|| format!("--http {address}: has no address"))
}

fn unix_mask(mask: &str) -> Result<u32, String> {
    match u32::from_str_radix(mask, 8) {
        Ok(mask) if mask <= 0o777 => Ok(mask),
        _ => Err(format!("-a {mask}: an access mask is octal, 0 to 777")),
    }
}

fn memory_bytes(megabytes: usize) -> Result<usize, String> {
    match megabytes.checked_mul(1 << 20) {
        Some(bytes) if bytes > 0 && bytes < 1 << 43 => Ok(bytes),
        _ => Err(format!("-m {megabytes}: a memory limit is 1 to {} megabytes", (1_u64 << 23) - 1)),
    }
}

fn item_bytes(size: &str, memory_bytes_max: usize) -> Result<usize, String> {
    let (digits, unit) = match size.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G']) {
        digits if digits.len() + 1 < size.len() => return Err(format!("-I {size}: not a size")),
        digits => match size[digits.len()..].to_ascii_lowercase().as_str() {
            "k" => (digits, 1 << 10),
            "m" => (digits, 1 << 20),
            "g" => (digits, 1 << 30),
            _ => (digits, 1),
        },
    };
    let bytes = digits
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("-I {size}: a size is a number, with k, m or g behind it or not"))?;
    if !(ITEM_BYTES_FLOOR..=ITEM_BYTES_CEILING).contains(&bytes) {
        return Err(format!("-I {size}: the longest value can be 1k to 1024m"));
    }
    if bytes > memory_bytes_max / 2 {
        return Err(format!("-I {size}: the longest value can be half of the memory limit (-m), not more"));
    }
    Ok(bytes)
}

fn delimiter(given: Option<&str>) -> Result<u8, String> {
    match given.unwrap_or(":").as_bytes() {
        [delimiter] => Ok(*delimiter),
        _ => Err(format!("-D {}: a delimiter is one byte", given.unwrap_or_default())),
    }
}

fn drain_ms(seconds: u32) -> Result<u64, String> {
    if seconds > DRAIN_SECONDS_MAX {
        return Err(format!("--drain-timeout {seconds}: the most is {DRAIN_SECONDS_MAX}"));
    }
    Ok(u64::from(seconds) * 1000)
}

fn at_least_one(option: &str, number: usize) -> Result<usize, String> {
    if number == 0 { Err(format!("{option} 0: must be at least 1")) } else { Ok(number) }
}

/// One for each core that the storage thread leaves, and not more than memcached has. On one core or two it serves the
/// connections better alone: clients want a core, too.
fn default_threads() -> usize {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        0..=2 => 0,
        cores => (cores - 1).min(4),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn resolve(args: &[&str]) -> Result<Resolved, String> {
        Config::resolve(
            &Args::try_parse_from([&["memwire"], args].concat()).map_err(|error| error.to_string())?,
        )
    }

    #[test]
    fn the_debian_unit_files_options_are_understood() {
        let resolved = resolve(&[
            "-m",
            "64",
            "-p",
            "11211",
            "-u",
            "memcache",
            "-l",
            "127.0.0.1",
            "-P",
            "/run/memcached.pid",
        ])
        .unwrap();
        assert!(resolved.warnings.is_empty());
        let config = resolved.config;
        assert_eq!(config.listen, Listen::Tcp(vec![("127.0.0.1:11211".parse().unwrap(), Security::Tls)]));
        assert_eq!((config.memory_bytes_max, config.process.user.as_deref()), (64 << 20, Some("memcache")));
    }

    #[test]
    fn addresses_are_read_in_every_form() {
        let listen = |hosts: &[&str]| {
            let args: Vec<_> = hosts.iter().flat_map(|host| ["-l", host]).collect();
            resolve(&args).unwrap().config.listen
        };
        let listens = |addresses: &[&str], security| {
            Listen::Tcp(addresses.iter().map(|address| (address.parse().unwrap(), security)).collect())
        };
        let tcp = |addresses: &[&str]| listens(addresses, Security::Tls);
        assert_eq!(listen(&["127.0.0.1,127.0.0.2:7"]), tcp(&["127.0.0.1:11211", "127.0.0.2:7"]));
        assert_eq!(listen(&["::1", "[::1]:8", "[::1]"]), tcp(&["[::1]:11211", "[::1]:8", "[::1]:11211"]));
        assert_eq!(listen(&["notls:127.0.0.1:9"]), listens(&["127.0.0.1:9"], Security::Clear));
        assert_eq!(listen(&[]), Listen::TcpAnywhere(11211));
        assert!(resolve(&["-l", "127.0.0.1:http"]).unwrap_err().starts_with("-l 127.0.0.1:http"));
    }

    #[test]
    fn http_is_off_unless_it_has_an_address_and_a_port_alone_is_of_the_loopback_interface() {
        let http = |args: &[&str]| resolve(args).map(|resolved| resolved.config.http);
        let address = |address: &str| Ok(vec![(address.parse().unwrap(), Security::Tls)]);
        assert_eq!(http(&[]), Ok(vec![]));
        let clear = ("127.0.0.1:8080".parse().unwrap(), Security::Clear);
        let both = [address("[::1]:80").unwrap(), vec![clear]].concat();
        assert_eq!(http(&["--http", "[::1]:80,notls:8080"]), Ok(both));
        assert_eq!(http(&["--http", "8080"]), address("127.0.0.1:8080"));
        assert_eq!(http(&["--http", "0.0.0.0:80"]), address("0.0.0.0:80"));
        assert_eq!(http(&["--http", "[::1]:80"]), address("[::1]:80"));
        for bad in ["", "127.0.0.1", "::1", "localhost", "65536"] {
            assert!(http(&["--http", bad]).unwrap_err().contains("a port is missing"), "{bad}");
        }
        assert!(http(&["--http", "127.0.0.1:http"]).unwrap_err().starts_with("--http 127.0.0.1:http"));
    }

    #[test]
    fn any_free_port_is_0_or_minus_1() {
        assert_eq!(resolve(&["-p", "-1"]).unwrap().config.listen, Listen::TcpAnywhere(0));
        assert_eq!(resolve(&["-p", "0"]).unwrap().config.listen, Listen::TcpAnywhere(0));
        assert!(resolve(&["-p", "65536"]).unwrap_err().contains("-p 65536"));
    }

    #[test]
    fn sizes_have_units_and_bounds() {
        let item =
            |size: &str| resolve(&["-m", "4096", "-I", size]).map(|resolved| resolved.config.item_bytes_max);
        assert_eq!(item("2048"), Ok(2048));
        assert_eq!(item("1k"), Ok(1024));
        assert_eq!(item("1024M"), Ok(1 << 30));
        assert_eq!(item("1g"), Ok(1 << 30));
        for bad in ["1025m", "2g", "1023", "km", "5mm", "x", ""] {
            assert!(item(bad).unwrap_err().contains("-I"), "{bad}");
        }
        assert!(resolve(&["-m", "64", "-I", "33m"]).unwrap_err().contains("half of the memory limit"));
        assert!(resolve(&["-m", "0"]).unwrap_err().contains("-m 0"));
    }

    #[test]
    fn snapshots_are_taken_when_and_where_they_are_asked_for() {
        assert_eq!(resolve(&[]).unwrap().config.snapshot, None);
        let snapshot = |args: &[&str]| {
            resolve(&[&["--snapshot", "/s"], args].concat()).map(|r| r.config.snapshot.unwrap())
        };
        let plain = snapshot(&[]).unwrap();
        assert_eq!((plain.every, plain.on_damage), (None, OnDamage::Refuse));
        assert_eq!(plain.place.damaged(), PathBuf::from("/s.damaged"));
        for (text, seconds) in [("90", 90), ("1s", 1), ("15m", 900), ("2h", 7200), ("1d", 86400)] {
            let every = snapshot(&["--snapshot-every", text, "--snapshot-on-damage", "skip"]).unwrap().every;
            assert_eq!(every, Some(Duration::from_secs(seconds)));
        }
        for bad in ["", "0", "m", "1w", "-1", "1.5h", "99999999999"] {
            assert!(
                snapshot(&[&format!("--snapshot-every={bad}")]).unwrap_err().contains("--snapshot-every"),
                "{bad}"
            );
        }
        assert!(snapshot(&["--snapshot-on-damage", "ignore"]).unwrap_err().contains("on-damage ignore"));
        assert!(resolve(&["--snapshot-every", "1m"]).unwrap_err().contains("--snapshot <FILE>"));
    }

    #[test]
    fn options_without_meaning_are_accepted_with_a_warning() {
        let resolved =
            resolve(&["-f", "1.1", "-k", "-o", "modern,no_lru_crawler,hashpower=20", "-R", "200"]).unwrap();
        assert_eq!(resolved.warnings.len(), 6);
        assert!(resolve(&["-o", "track_sizes"]).unwrap().config.track_sizes);
    }

    #[test]
    fn options_that_protect_are_never_ignored() {
        assert!(resolve(&["-e", "file"]).unwrap_err().contains("not served"));
        assert!(resolve(&["-Z"]).is_err(), "TLS without a certificate");
        assert!(resolve(&["-S"]).is_err(), "users without a file");
    }

    #[test]
    fn where_users_are_asked_for_there_is_one_file_of_them() {
        let auth = |args: &[&str]| resolve(args).map(|resolved| resolved.config.auth);
        assert!(auth(&[]).unwrap().is_none());
        for args in [&["-S", "--sasl-pwdb", "/f"][..], &["-Y", "/f"], &["-S", "-Y", "/f"]] {
            let auth = auth(args).unwrap().unwrap();
            assert_eq!((auth.file.to_str(), auth.limits), (Some("/f"), auth::Limits::default()), "{args:?}");
        }
        for args in [&["-S"][..], &["--sasl-pwdb", "/f"], &["-S", "--sasl-pwdb", "/f", "-Y", "/f"]] {
            assert!(auth(args).is_err(), "{args:?}");
        }
        assert!(auth(&["-Y", "f"]).unwrap().unwrap().file.is_absolute());
    }

    #[test]
    fn how_far_strangers_are_borne_with_can_be_told() {
        let limits = |option: &str| {
            resolve(&["-Y", "/f", "-o", option]).map(|resolved| resolved.config.auth.unwrap().limits)
        };
        let told = limits("auth_timeout=2,auth_request_max=512,auth_failures_max=9").unwrap();
        assert_eq!(told, auth::Limits { timeout_ms: 2000, request_bytes_max: 512, failures_max: 9 });
        for bad in ["auth_timeout", "auth_timeout=0", "auth_request_max=5000", "auth_failures_max=x"] {
            assert!(limits(bad).unwrap_err().starts_with("-o auth_"), "{bad}");
        }
    }

    #[test]
    fn an_unknown_option_is_an_error_with_a_hint() {
        assert!(resolve(&["--memory-limits", "5"]).unwrap_err().contains("--memory-limit"));
        let error = resolve(&["-o", "hashpow=20"]).unwrap_err();
        assert_eq!(error, "-o hashpow: unknown option; did you mean hashpower?");
    }
}
