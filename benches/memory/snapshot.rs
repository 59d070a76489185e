//! GETs without and while a snapshot is written, what memory that takes, and how long a restart is.
//!
//! memwire alone: nobody else here has a snapshot that is written beside the work. GETs are an open loop over all keys, as
//! in `latency`: at rest, beside a thread that computes half of the time, and while a snapshot is written, over and over
//! with the same server. The thread has nothing to do with it: it shows what this machine makes of one more that works, and
//! that no snapshot can be blamed for. The restart is timed from the start of the process until the first GET of a restored
//! item is answered.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::contents::{Contents, Sizes};
use crate::items::KEY_BYTES;
use crate::lanes::{Lanes, Request};
use crate::latency::Gets;
use crate::overhead::store_all;
use crate::probe::{Sampler, figure, rss_bytes};
use crate::random::Random;
use crate::server::{Program, Server, cpu_time};
use crate::syntax::Protocol;
use crate::table::{Table, median};
use crate::{Args, Bench, LANES, TURN};

const VALUE_BYTES: usize = 100;
/// Of an item in the file: header and extras, key, value.
const ITEM_BYTES: u64 = 32 + KEY_BYTES as u64 + VALUE_BYTES as u64;
/// Longer than any snapshot of this size takes, and any restart.
const PATIENCE: Duration = Duration::from_mins(10);
/// The server is asked this often whether it is done; at rest as well.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A turn of a thread that computes, and its rest.
const COMPUTES: Duration = Duration::from_micros(150);
/// Items that are read back.
const SAMPLE: usize = 20_000;

pub(crate) fn run(bench: &mut Bench, args: &Args) -> Result<(), String> {
    let folder = args.folder.as_deref().unwrap_or(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let folder =
        tempfile::tempdir_in(folder).map_err(|error| format!("no folder for a snapshot: {error}"))?;
    let file = folder.path().join("snapshot");
    let (mib, pairs) = (u64::from(args.snapshot), args.pairs.unwrap_or(3));
    let items = u32::try_from((mib << 20) / ITEM_BYTES).map_err(|error| error.to_string())?;
    let options: Vec<&str> = bench.memwire_options.iter().map(String::as_str).collect();
    let snapshot = ["--snapshot", file.to_str().ok_or("the folder's name is no text")?];
    let program = Program::memwire().with_memory(mib * 2 + 64).with(&snapshot).with(&options);
    let contents = Contents::new(&[Sizes::Exactly(VALUE_BYTES)]);
    println!(
        "{items} items with values of {VALUE_BYTES} B, a snapshot of {mib} MiB; {} GETs a second over all keys on {LANES} \
         connections; us, medians of {pairs} runs\n",
        args.gets
    );
    let house = House { program: &program, contents: &contents, items, per_second: u64::from(args.gets) };
    let Phases { rest, beside, written } = house.write(bench, pairs)?;
    print(&[
        ("at rest", &rest),
        ("beside a thread that computes", &beside),
        ("while a snapshot is written", &written),
    ]);
    let middle =
        |figure: &dyn Fn(&Phase) -> f64| median(written.iter().map(figure).collect()).unwrap_or_default();
    let grown = written.iter().map(|phase| phase.rss_grown_bytes).max().unwrap_or_default();
    println!(
        "written in {:.2} s, {:.2} s of processor time with the GETs ({:.2} s at rest); resident memory grew by {:.1} MiB at \
         most",
        middle(&|phase| phase.took.as_secs_f64()),
        middle(&|phase| phase.cpu.as_secs_f64()),
        median(rest.iter().map(|phase| phase.cpu.as_secs_f64()).collect()).unwrap_or_default(),
        grown as f64 / f64::from(1 << 20)
    );
    let (took, cpu) = house.restart(bench)?;
    println!(
        "restarted in {:.2} s, up to the first GET that was answered; {:.2} s of processor time\n",
        took.as_secs_f64(),
        cpu.as_secs_f64()
    );
    Ok(())
}

/// What is measured.
struct House<'a> {
    program: &'a Program,
    contents: &'a Contents,
    items: u32,
    per_second: u64,
}

/// GETs for a while, and what the server was like meanwhile.
struct Phase {
    gets: Gets,
    took: Duration,
    cpu: Duration,
    rss_grown_bytes: u64,
}

/// Those of one kind together.
#[derive(Default)]
struct Phases {
    rest: Vec<Phase>,
    beside: Vec<Phase>,
    written: Vec<Phase>,
}

impl House<'_> {
    /// So many times of each kind.
    fn write(&self, bench: &mut Bench, pairs: u32) -> Result<Phases, String> {
        let server = Server::start(self.program)?;
        let address = server.address();
        let mut lanes = Lanes::open(address, Protocol::Binary, LANES, self.contents)?;
        store_all(&mut lanes, self.items)?;
        bench.count(self.program, &lanes.tally);
        // The first one makes the file, and says how long one takes.
        let begin = Instant::now();
        take(&server)?;
        let usual = begin.elapsed();
        let mut phases = Phases::default();
        for _ in 0..pairs {
            phases.rest.push(self.phase(bench, &server, || idle(&server, usual))?);
            phases.beside.push(self.phase(bench, &server, || beside_work(|| idle(&server, usual)))?);
            phases.written.push(self.phase(bench, &server, || take(&server))?);
        }
        let told = figure(address, "snapshot_items")?;
        if told != u64::from(self.items) {
            return Err(format!("{told} of {} items are in the snapshot", self.items));
        }
        Ok(phases)
    }

    fn phase(
        &self,
        bench: &mut Bench,
        server: &Server,
        work: impl FnOnce() -> Result<(), String>,
    ) -> Result<Phase, String> {
        let before = (rss_bytes(server.pid())?, cpu_time(server.pid())?);
        let sampler = Sampler::start(server.pid());
        let ends = AtomicBool::new(false);
        let begin = Instant::now();
        let (gets, worked) = thread::scope(|scope| {
            let gets = scope.spawn(|| self.read(server.address(), &ends));
            let worked = work().map(|()| begin.elapsed());
            ends.store(true, Ordering::Relaxed);
            let gets = gets.join().unwrap_or_else(|_| Err("a thread of the generator panicked".to_owned()));
            (gets, worked)
        });
        let (gets, took) = (gets?, worked?);
        bench.count(self.program, &gets.tally);
        if gets.tally.misses > 0 {
            return Err(format!("{} of {} items were not there", gets.tally.misses, gets.tally.requests()));
        }
        Ok(Phase {
            gets,
            took,
            cpu: cpu_time(server.pid())?.saturating_sub(before.1),
            rss_grown_bytes: sampler.rss_bytes_max().saturating_sub(before.0),
        })
    }

    fn read(&self, address: SocketAddr, ends: &AtomicBool) -> Result<Gets, String> {
        let mut lanes = Lanes::open(address, Protocol::Binary, LANES, self.contents)?;
        let (mut gets, mut random) = (Gets::new(), Random::new(1));
        let key = || random.below(self.items);
        gets.read(&mut lanes, self.per_second, key, || !ends.load(Ordering::Relaxed))?;
        Ok(gets)
    }

    /// How long it is until the first GET is answered, and the processor time up to then.
    fn restart(&self, bench: &mut Bench) -> Result<(Duration, Duration), String> {
        let begin = Instant::now();
        let server = Server::start_within(self.program, PATIENCE)?;
        let mut lanes = Lanes::open(server.address(), Protocol::Binary, LANES, self.contents)?;
        lanes.exchange(&[Request::get(self.items / 2)], |_, _| ())?;
        let found = (begin.elapsed(), cpu_time(server.pid())?);
        let mut random = Random::new(2);
        let sample: Vec<_> = (1..SAMPLE).map(|_| Request::get(random.below(self.items))).collect();
        for requests in sample.chunks(TURN) {
            lanes.exchange(requests, |_, _| ())?;
        }
        bench.count(self.program, &lanes.tally);
        let restored = figure(server.address(), "curr_items")?;
        if (lanes.tally.hits, restored) != (SAMPLE as u64, u64::from(self.items)) {
            return Err(format!(
                "{restored} of {} items were restored, {} of {SAMPLE} read",
                self.items, lanes.tally.hits
            ));
        }
        Ok(found)
    }
}

/// Has a snapshot written, and waits for it.
fn take(server: &Server) -> Result<(), String> {
    let address = server.address();
    let before = figure(address, "snapshot_count")?;
    let pid = i32::try_from(server.pid()).map_err(|error| error.to_string())?;
    kill(Pid::from_raw(pid), Signal::SIGUSR1).map_err(|error| format!("no signal: {error}"))?;
    until(|| {
        if figure(address, "snapshot_errors")? > 0 {
            return Err("the snapshot cannot be written".to_owned());
        }
        Ok(figure(address, "snapshot_count")? > before)
    })
}

/// Looks at the server as [`take`] does, for so long.
fn idle(server: &Server, length: Duration) -> Result<(), String> {
    let begin = Instant::now();
    until(|| {
        figure(server.address(), "snapshot_errors")?;
        figure(server.address(), "snapshot_count")?;
        Ok(begin.elapsed() >= length)
    })
}

/// Does something beside a thread that computes half of the time, in turns as short as those of the snapshot thread.
fn beside_work<T>(act: impl FnOnce() -> T) -> T {
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                let begin = Instant::now();
                while begin.elapsed() < COMPUTES {
                    std::hint::spin_loop();
                }
                thread::sleep(COMPUTES);
            }
        });
        let acted = act();
        ends.store(true, Ordering::Relaxed);
        acted
    })
}

/// Waits until something holds.
fn until(mut holds: impl FnMut() -> Result<bool, String>) -> Result<(), String> {
    let begin = Instant::now();
    while !holds()? {
        if begin.elapsed() > PATIENCE {
            return Err(format!("not done after {} s", PATIENCE.as_secs()));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn print(kinds: &[(&str, &[Phase])]) {
    let mut table = Table::new(&["GETs", "p50", "p99", "p99.9", "p99.99", "max", "p99.9 from due", "count"]);
    for &(name, phases) in kinds {
        let us = |figure: &dyn Fn(&Gets) -> u64| {
            let figures = phases.iter().map(|phase| figure(&phase.gets) as f64 / 1e3).collect();
            format!("{:.0}", median(figures).unwrap_or_default())
        };
        let quantile = |share: f64| us(&|gets| gets.latency.quantile(share));
        table.push(vec![
            name.to_owned(),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            quantile(0.9999),
            us(&|gets| gets.latency.max()),
            us(&|gets| gets.from_due.quantile(0.999)),
            phases.iter().map(|phase| phase.gets.latency.count()).sum::<u64>().to_string(),
        ]);
    }
    table.print();
}
