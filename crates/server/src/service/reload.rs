//! What is read again while the server runs: the log's level from the file of options, users, certificates.
//!
//! A disk may be slow, and keys of passwords take their time, so a thread of its own reads. It hands over what is whole and
//! good; where something is bad, the log says what, and what was there stays.

use std::ffi::OsString;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};

use crate::config::Config;
use crate::process;
use crate::server::Server;
use crate::service::logging;
use crate::service::settings::{self, Refusal, Settings};

/// What a server's other threads have of the one that reads again. It sleeps until somebody asks.
#[derive(Debug, Default)]
pub struct Handle {
    thread: OnceLock<Thread>,
    asked: AtomicU8,
}

/// What is to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The certificates.
    Certificates = 1,
    /// Whatever there is.
    All = 2,
}

impl Handle {
    /// Asks for it. It is not waited for; whoever asks before it has begun, asks for the same.
    pub fn ask(&self, what: What) {
        self.asked.fetch_or(what as u8, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Whether there is anything that could be read again.
    #[must_use]
    pub fn is_of_use(&self) -> bool {
        self.thread.get().is_some()
    }
}

/// The options as they hold, and how they are gathered again.
#[derive(Debug)]
pub struct Options {
    typed: Vec<OsString>,
    told: String,
}

impl Options {
    /// Those of `settings`, if they come from a file. `typed` is the command line. To be called before the process goes into
    /// the background, which changes the folder.
    ///
    /// # Errors
    /// A sentence, where the file has no path.
    pub fn of(settings: &Settings, mut typed: Vec<OsString>) -> Result<Option<Self>, String> {
        let Some(file) = &settings.file else { return Ok(None) };
        let file =
            std::path::absolute(file).map_err(|error| format!("--config {}: {error}", file.display()))?;
        // The last one wins.
        typed.extend(["--config".into(), file.into()]);
        Ok(Some(Self { typed, told: settings.to_toml() }))
    }

    fn gather(&self) -> Result<Settings, String> {
        let settings =
            settings::gather(&self.typed, std::env::vars_os()).map_err(|refusal| match refusal {
                Refusal::Usage(error) => error.to_string().lines().next().unwrap_or_default().to_owned(),
                Refusal::Sentence(sentence) => sentence,
            })?;
        Config::resolve(&settings.args)?;
        Ok(settings)
    }

    /// Takes what can be taken while the server runs, and says of the rest that it cannot.
    fn read_again(&mut self) {
        let settings = match self.gather() {
            Ok(settings) => settings,
            Err(why) => return log::error!("the options stay as they were: {why}"),
        };
        for warning in &settings.warnings {
            log::warn!("{warning}");
        }
        logging::set(settings.args.verbose);
        let told = settings.to_toml();
        let late: Vec<_> = changes(&self.told, &told).filter(|name| *name != "verbose").collect();
        if !late.is_empty() {
            log::warn!("changed options hold after a restart: {}", late.join(", "));
        }
        log::info!("the options were read again");
        self.told = told;
    }
}

/// The names of options that are told in another way. Both have the same options in the same order.
fn changes<'a>(before: &'a str, now: &'a str) -> impl Iterator<Item = &'a str> {
    let different = before.lines().zip(now.lines()).filter(|(before, now)| before != now);
    different.filter_map(|(_, now)| now.trim_start_matches("# ").split(" =").next())
}

/// Starts the thread, if there is anything to be read again. It ends with the process.
///
/// # Errors
/// Where the system gives no thread.
pub fn spawn(server: &Arc<Server>, mut options: Option<Options>) -> io::Result<()> {
    if options.is_none() && server.access.is_none() && server.tls.is_none() {
        return Ok(());
    }
    let reads = Arc::clone(server);
    let thread = thread::Builder::new().name("reload".into()).spawn(move || {
        loop {
            match reads.reloads.asked.swap(0, Ordering::Acquire) {
                0 => thread::park(),
                asked => read_again(asked, &reads, options.as_mut()),
            }
        }
    })?;
    // It is set once.
    let _ = server.reloads.thread.set(thread.thread().clone());
    Ok(())
}

fn read_again(asked: u8, server: &Server, options: Option<&mut Options>) {
    if asked & What::All as u8 != 0 {
        if let Some(options) = options {
            options.read_again();
        }
        if server.access.is_some() {
            match process::load_users(server) {
                Ok(()) => log::info!("the password file was read again"),
                Err(why) => log::error!("the users stay as they were: {why}"),
            }
        }
    }
    if let Some(tls) = &server.tls {
        // The log says how it went.
        let _ = tls.reload();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_named() {
        let before = "port = 1\n# user =\nverbose = 0\ndaemon = true\n";
        let now = "port = 1\nuser = \"ann\"\nverbose = 1\ndaemon = true\n";
        assert_eq!(changes(before, now).collect::<Vec<_>>(), ["user", "verbose"]);
        assert_eq!(changes(now, before).collect::<Vec<_>>(), ["user", "verbose"]);
        assert_eq!(changes(now, now).count(), 0);
    }
}
