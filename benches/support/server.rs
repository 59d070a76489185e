//! Servers that the generator starts: on loopback, on a port that the system chooses, and stopped whatever happens.

use std::env;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::unistd::geteuid;
use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(5);

/// The name of the server that is compared with the others.
pub(crate) const MEMWIRE: &str = "memwire";

/// Where redis serves without TLS; its options turn that off where there is TLS.
const REDIS_CLEAR_PORT: &str = "--port";

/// How a server is started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// In reports.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Besides those that all servers of its kind get.
    pub(crate) options: Vec<String>,
    pub(crate) kind: Kind,
}

/// How a server is told where to listen, and what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// memcached, or what takes its options.
    Memcached,
    Redis,
    /// What the generator is itself, when it is told to serve.
    Floor,
}

impl Program {
    /// The `memwire` of this build.
    pub(crate) fn memwire() -> Self {
        Self {
            name: MEMWIRE.to_owned(),
            path: PathBuf::from(env!("CARGO_BIN_EXE_memwire")),
            options: Vec::new(),
            kind: Kind::Memcached,
        }
    }

    /// The memcached of this machine, `None` where there is none.
    pub(crate) fn memcached(threads: u32) -> Option<Self> {
        let name = format!("memcached -t {threads}");
        let program =
            Self { name, path: installed("memcached")?, options: Vec::new(), kind: Kind::Memcached };
        Some(program.with(&["-t", &threads.to_string()]))
    }

    /// The redis of this machine, which keeps nothing on disk; `None` where there is none.
    pub(crate) fn redis() -> Option<Self> {
        let name = "redis".to_owned();
        Some(Self { name, path: installed("redis-server")?, options: Vec::new(), kind: Kind::Redis })
    }

    /// The same with more options.
    pub(crate) fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// The same with its memory limit.
    pub(crate) fn with_memory(self, mib: u64) -> Self {
        match self.kind {
            Kind::Floor => self,
            Kind::Memcached => self.with(&["-m", &mib.to_string()]),
            Kind::Redis => self.with(&["--maxmemory", &format!("{mib}mb")]),
        }
    }

    /// Whether it was built with TLS, as far as can be seen: Debian's redis is, some memcached are not.
    pub(crate) fn has_tls(&self) -> bool {
        match self.kind {
            Kind::Memcached => {
                let help = Command::new(&self.path).arg("-h").output();
                help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--enable-ssl"))
            }
            Kind::Redis => true,
            Kind::Floor => false,
        }
    }

    /// The same with TLS instead of clear connections.
    pub(crate) fn with_tls(self, chain: &Path, key: &Path) -> Self {
        let (chain, key) = (chain.to_string_lossy(), key.to_string_lossy());
        match self.kind {
            Kind::Floor => self,
            Kind::Memcached => self.with(&["-Z", "-o", &format!("ssl_chain_cert={chain},ssl_key={key}")]),
            Kind::Redis => {
                let files = ["--tls-cert-file", &chain, "--tls-key-file", &key, "--tls-ca-cert-file", &chain];
                self.with(&files).with(&["--tls-auth-clients", "no", REDIS_CLEAR_PORT, "0"])
            }
        }
    }

    /// What it says of itself.
    pub(crate) fn version(&self) -> Option<String> {
        let option = match self.kind {
            Kind::Memcached => "-V",
            Kind::Redis => "--version",
            Kind::Floor => return Some("stores nothing".to_owned()),
        };
        let output = Command::new(&self.path).arg(option).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().next().map(str::to_owned)
    }

    /// The command without the program's own options, and the port where the system does not choose it.
    fn command(&self, folder: &Path) -> io::Result<(Command, Option<u16>)> {
        let mut command = Command::new(&self.path);
        match self.kind {
            Kind::Floor => {
                command.env("MEMCACHED_PORT_FILENAME", folder.join("port"));
                Ok((command, None))
            }
            Kind::Memcached => {
                command.args(["-l", "127.0.0.1", "-p", "-1", "-U", "0", "-c", "1024"]);
                if geteuid().is_root() {
                    command.args(["-u", "root"]);
                }
                command.env("MEMCACHED_PORT_FILENAME", folder.join("port"));
                Ok((command, None))
            }
            Kind::Redis => {
                // It does not choose a port. One that was free a moment ago is free, or redis ends and says so.
                let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
                let has_tls = self.options.iter().any(|option| option == REDIS_CLEAR_PORT);
                let name = if has_tls { "--tls-port" } else { REDIS_CLEAR_PORT };
                command.args(["--bind", "127.0.0.1", name, &port.to_string()]);
                command.args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"]).arg(folder);
                command.arg("--logfile").arg(folder.join("log"));
                Ok((command, Some(port)))
            }
        }
    }
}

/// Where the system finds this program.
fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// Holds the file that the server writes its port to, and what it says on standard error.
    folder: TempDir,
}

impl Server {
    /// Starts `program` and waits until it listens.
    ///
    /// # Errors
    /// Where it does not start, ends at once, or names no port in time.
    pub(crate) fn start(program: &Program) -> Result<Self, String> {
        Self::start_within(program, START_TIMEOUT)
    }

    /// The same where it has so long to begin to listen.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(crate) fn start_within(program: &Program, timeout: Duration) -> Result<Self, String> {
        let failed = |what: String| format!("{} does not start: {what}", program.name);
        let folder =
            tempfile::tempdir().map_err(|error| failed(format!("no folder for its port: {error}")))?;
        let log = File::create(folder.path().join("log"))
            .map_err(|error| failed(format!("no file for its log: {error}")))?;
        let (mut command, chosen) =
            program.command(folder.path()).map_err(|error| failed(format!("no port for it: {error}")))?;
        command.args(&program.options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|error| failed(error.to_string()))?;
        // From here on the child is stopped on every way out.
        let mut server = Self { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), folder };
        let begin = Instant::now();
        while begin.elapsed() < timeout {
            let port = match chosen {
                None => port_in(&server.folder.path().join("port")),
                Some(port) => server.is_ready().then_some(port),
            };
            if let Some(port) = port {
                server.address.set_port(port);
                return Ok(server);
            }
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(failed(server.last_words(status)));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(failed(format!("no port after {} s", timeout.as_secs())))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether redis has said that it listens. Its port would not tell: it could be somebody else's.
    fn is_ready(&self) -> bool {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.contains("Ready to accept connections")
    }

    /// Why it ended: its own last line, or the status.
    fn last_words(&self, status: ExitStatus) -> String {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        match text.lines().rfind(|line| !line.trim().is_empty()) {
            Some(line) => format!("{line} ({status})"),
            None => status.to_string(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing to save, and memcached takes half a second to end when it is asked. A child that has not been
        // waited for keeps its id, so this reaches no other process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port in the line `TCP INET: 12345`, once it is whole.
fn port_in(file: &Path) -> Option<u16> {
    let text = fs::read_to_string(file).ok()?;
    let (line, _) = text.split_once("TCP INET: ").and_then(|(_, behind)| behind.split_once('\n'))?;
    line.trim().parse().ok()
}

/// Processor time that a process has used in all its threads: to the nanosecond where the system counts so, of the threads
/// that are there; to the hundredth of a second otherwise.
///
/// # Errors
/// Where there is no such process.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration, String> {
    if let Some(nanoseconds) = scheduled_ns(pid) {
        return Ok(Duration::from_nanos(nanoseconds));
    }
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    ticks_in(&text)
        .map(|ticks| Duration::from_millis(ticks * 10))
        .ok_or_else(|| format!("cannot understand {path}"))
}

/// The first figure of each thread's `schedstat`, summed up: nanoseconds on a processor
/// (`Documentation/scheduler/sched-stats.rst`).
fn scheduled_ns(pid: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let times = threads.map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    // Where the figures are missing, or are not counted, there is no sum.
    times.sum::<Option<u64>>().filter(|&sum| sum > 0)
}

/// The sum of utime and stime, in hundredths of a second (`proc_pid_stat(5)`: fields 14 and 15; the name in field 2 may
/// hold anything, a closing parenthesis too).
pub(crate) fn ticks_in(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let (user, system) = (fields.next()?, fields.next()?);
    Some(user.parse::<u64>().ok()? + system.parse::<u64>().ok()?)
}

/// Processor time that everything on this machine has used, and what its host took away.
///
/// # Errors
/// Where `/proc/stat` cannot be read.
pub(crate) fn machine_cpu_time() -> Result<Duration, String> {
    let text =
        fs::read_to_string("/proc/stat").map_err(|error| format!("cannot read /proc/stat: {error}"))?;
    busy_ticks_in(&text)
        .map(|ticks| Duration::from_millis(ticks * 10))
        .ok_or_else(|| "cannot understand /proc/stat".to_owned())
}

/// The first line, which is the sum of all CPUs: user, nice, system, idle, iowait, irq, softirq, steal, in hundredths
/// of a second (`proc_stat(5)`). Idle time and waiting are left out, and guests are part of user.
pub(crate) fn busy_ticks_in(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: Vec<u64> = fields.take(8).map(|field| field.parse().ok()).collect::<Option<_>>()?;
    match ticks[..] {
        [user, nice, system, _idle, _iowait, irq, softirq, steal] => {
            Some(user + nice + system + irq + softirq + steal)
        }
        _ => None,
    }
}

/// Processor time that the generator itself has used.
///
/// # Errors
/// As getrusage(2), which has none here.
pub(crate) fn own_cpu_time() -> Result<Duration, String> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(|error| format!("getrusage: {error}"))?;
    let duration = |time: TimeVal| {
        Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
    };
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

/// The CPUs that this process may use, as a list like `0-3,5`.
///
/// # Errors
/// Where the system does not say (`proc_pid_status(5)`).
pub(crate) fn allowed_cpus() -> Result<String, String> {
    let path = "/proc/self/status";
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(|list| list.trim().to_owned()).ok_or_else(|| format!("cannot understand {path}"))
}

/// Keeps this process, and every thread and server that it starts from here on, on these cores, a list like `0-3,5`.
///
/// # Errors
/// Where `taskset` (util-linux) is missing or refuses.
pub(crate) fn pin_to(cpus: &str) -> Result<(), String> {
    let pid = std::process::id().to_string();
    let output = Command::new("taskset").args(["-c", "-p", cpus, &pid]).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "taskset cannot pin to CPU {cpus}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err("pinning needs taskset, which is in util-linux".to_owned())
        }
        Err(error) => Err(format!("cannot run taskset: {error}")),
    }
}
