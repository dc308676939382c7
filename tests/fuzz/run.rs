//! One run: replays earlier findings, then generates inputs until the time is up, and reports the outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;

use arrow_flight::utils::flight_data_to_batches;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use plantlake::clock::Stopwatch;
use plantlake::engine::THREAD_STACK_BYTES;

use crate::coverage::Coverage;
use crate::input::{Caller, Input, Way};
use crate::invent::Inventor;
use crate::oracle::{Finding, judge, watch_panics};
use crate::place::Place;
use crate::seeds;
use crate::send::{Exchange, Sender};
use crate::server::serve;
use crate::wire::Wire;

/// The default duration of a run, in seconds.
const SECONDS: f64 = 60.0;
/// The number of inputs between two control queries, which the server must answer.
const CONTROLLED: usize = 25;
/// The control query.
const CONTROL: &str = "SELECT asset_id, value FROM public.data_d";
/// The number of rows of the control query.
const CONTROL_ROWS: usize = 3;
/// The number of inputs after which ingested readings are deleted, so that queries stay fast.
const CLEARED: usize = 500;

/// The password of the admin.
const PASSWORD: &str = "only-to-sign-up-33";

/// Runs the fuzzer.
///
/// Panics at the first fault, unless `FUZZ_GOES_ON` is set.
pub fn run() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    std::fs::create_dir_all(&folder).unwrap();
    let log = File::create(folder.join("server.log")).unwrap();
    tracing_subscriber::fmt()
        .with_env_filter("plantlake=error")
        .with_ansi(false)
        .with_writer(Mutex::new(log))
        .init();
    let seed = variable("FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("FUZZ_SEED={seed}");
    let place = Place::make();
    let server = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()
        .unwrap();
    watch_panics();
    let address = server.block_on(serve(place.folder()));
    // A separate runtime: its timers work even if all threads of the server are blocked.
    let client = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        client.block_on(async {
            let credentials = credentials(&place);
            let mut run = Run {
                seed,
                sender: Sender::new(Wire::new(address), credentials),
                folder,
                raw: place.folder().join("lake/raw/ingested"),
                goes_on: variable::<u8>("FUZZ_GOES_ON").is_some(),
                coverage: Coverage::new(),
                counts: BTreeMap::new(),
                names: BTreeSet::new(),
                sent: 0,
            };
            run.all().await;
        })
    }));
    // Tasks that cannot be interrupted must not delay the end of the process.
    server.shutdown_background();
    if let Err(panic) = outcome {
        // A refused allocation calls no panic hook, which would allocate.
        let text = panic.downcast_ref::<String>();
        println!("ended by: {}; {}", text.map_or("", String::as_str), size());
        resume_unwind(panic);
    }
}

/// Returns the value of an environment variable, if it is set and can be parsed.
fn variable<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Returns the `authorization` headers of the callers. The admin has a password and must sign in first.
fn credentials(place: &Place) -> [(Caller, String); 3] {
    let admin = "admin@operators.example";
    let made = ["user", "create", admin, "--org", "Operators", "--role"];
    place.run(&[&made[..], &["admin"]].concat(), &format!("{PASSWORD}\n"));
    let bearer = |organisation| format!("Bearer {}", place.key(organisation));
    let password = STANDARD.encode(format!("{admin}:{PASSWORD}"));
    [
        (Caller::Operators, bearer("Operators")),
        (Caller::Admin, format!("Basic {password}")),
        (Caller::Boilers, bearer("Boilers")),
    ]
}

/// The address space, the memory and the threads of this process.
fn size() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let lines = status.lines();
    let known = ["VmPeak", "VmSize", "VmHWM", "VmRSS", "Threads"];
    let lines = lines.filter(|line| known.iter().any(|name| line.starts_with(name)));
    let words = lines.flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ")
}

/// A run.
struct Run {
    seed: u64,
    sender: Sender,
    /// The folder of the run's output files.
    folder: PathBuf,
    /// The folder of ingested readings.
    raw: PathBuf,
    goes_on: bool,
    coverage: Coverage,
    /// The number of inputs by kind of call and status, and of findings by name.
    counts: BTreeMap<String, usize>,
    /// The names of the findings so far.
    names: BTreeSet<String>,
    sent: usize,
}

impl Run {
    async fn all(&mut self) {
        self.sender.sign_in(&Caller::Admin).await;
        let exchange = self.query(seeds::FUNCTIONS).await;
        let rows = flight_data_to_batches(&exchange.answer.unwrap()).unwrap();
        let mut inventor = Inventor::new(self.seed, seeds::functions(&rows), seeds::statements());
        if variable::<u8>("FUZZ_DECODING").is_some() {
            inventor.decode_only();
        }
        for (name, input) in seeds::found() {
            println!("again: {name}");
            self.one(&input).await;
        }
        let is_measured = self.coverage.is_measured();
        let corpus = self.folder.join("corpus.jsonl");
        let earlier = if is_measured {
            seeds::read(&corpus)
        } else {
            Vec::new()
        };
        for input in earlier.into_iter().chain(as_they_are()) {
            let is_new = self.one(&input).await;
            if is_new || !is_measured {
                inventor.add(input);
            }
        }
        let time = Stopwatch::start();
        let seconds = variable("FUZZ_SECONDS").unwrap_or(SECONDS);
        let mut noted = 0.0;
        while time.elapsed().as_secs_f64() < seconds {
            let input = inventor.next();
            if self.one(&input).await {
                inventor.add(input);
            }
            if time.elapsed().as_secs_f64() > noted + 60.0 {
                noted += 60.0;
                self.report(&inventor);
            }
        }
        self.control().await;
        self.report(&inventor);
        for (name, count) in &self.counts {
            println!("{count:>8} {name}");
        }
    }

    /// Sends one input and returns whether the server reached a new edge.
    async fn one(&mut self, input: &Input) -> bool {
        // If the process crashes, this file has the input that caused it.
        std::fs::write(self.folder.join("last.json"), format!("{input}\n")).unwrap();
        let since = Stopwatch::start();
        let exchange = self.sender.send(input).await;
        let seconds = since.elapsed().as_secs_f64();
        if seconds > 6.0 {
            self.note("slow.txt", &format!("{seconds:.1} s\n{input}"));
        }
        self.sent += 1;
        *self.counts.entry(outcome(input, &exchange)).or_default() += 1;
        let found = judge(input, &exchange);
        let is_controlled = self.sent.is_multiple_of(CONTROLLED) || !found.is_empty();
        for finding in found {
            self.found(input, &finding);
        }
        if is_controlled {
            self.control().await;
        }
        if self.sent.is_multiple_of(CLEARED) {
            // The folder may not exist.
            let _ = std::fs::remove_dir_all(&self.raw);
        }
        if sets_options(input) {
            self.sender.forget_options(&input.caller).await;
        }
        self.coverage.take() > 0
    }

    async fn query(&mut self, sql: &str) -> Exchange {
        let input = Input::sql(Caller::Operators, Way::Ask, sql);
        self.sender.send(&input).await
    }

    /// Checks that the server still answers the control query.
    async fn control(&mut self) {
        let mut exchange = self.query(CONTROL).await;
        if exchange.answer.is_none() {
            // The server may have closed the connection; the second call opens a new one.
            exchange = self.query(CONTROL).await;
        }
        let rows = exchange.answer.as_deref().map_or(0, crate::oracle::rows);
        if rows != CONTROL_ROWS {
            let last = std::fs::read_to_string(self.folder.join("last.json"));
            let replies = exchange.replies;
            panic!("the server does not answer any more: {replies:?}, after {last:?}");
        }
    }

    fn found(&mut self, input: &Input, finding: &Finding) {
        let kind = if finding.is_fault {
            "FAULT"
        } else {
            "contained"
        };
        let name = format!("{kind}: {}", finding.name);
        *self.counts.entry(name.clone()).or_default() += 1;
        if self.names.insert(name.clone()) {
            println!("{name}");
            self.note("findings.txt", &format!("{kind}: {finding}\n{input}"));
        }
        if !finding.is_fault || self.goes_on && !finding.name.starts_with("hang") {
            return;
        }
        panic!(
            "{finding}\nby this, with FUZZ_SEED={}; in a file tests/fuzz/found/<name>.jsonl it is sent again:\n{input}",
            self.seed
        );
    }

    fn note(&self, file: &str, text: &str) {
        let path = self.folder.join(file);
        let file = File::options().create(true).append(true).open(path);
        writeln!(file.unwrap(), "{text}\n").unwrap();
    }

    fn report(&self, inventor: &Inventor) {
        let (reached, edges) = self.coverage.reached();
        println!(
            "{} inputs, {} kept, {reached} of {edges} edges, {} found; {}",
            self.sent,
            inventor.kept().len(),
            self.names.len(),
            size(),
        );
        if self.coverage.is_measured() {
            self.coverage.write(&self.folder.join("edges.txt"));
            let lines = inventor.kept().iter().map(|input| format!("{input}\n"));
            write(&self.folder.join("corpus.jsonl"), lines.collect());
        }
    }
}

fn write(path: &Path, text: String) {
    std::fs::write(path, text).unwrap();
}

/// Returns the unmodified statements of other tests, once for each organisation.
fn as_they_are() -> impl Iterator<Item = Input> {
    let statements = seeds::statements().into_iter();
    let of_both = |sql: String| {
        [Caller::Operators, Caller::Boilers].map(|caller| Input::sql(caller, Way::Ask, sql.clone()))
    };
    // Other tests cover statements of a megabyte.
    statements
        .filter(|sql| sql.len() < 10_000)
        .flat_map(of_both)
}

/// Returns the kind of call and the final status code, as text.
fn outcome(input: &Input, exchange: &Exchange) -> String {
    let last = exchange
        .replies
        .last()
        .and_then(|reply| reply.status.as_ref());
    let code = last.map_or("nothing".to_owned(), |status| {
        format!("{:?}", status.code())
    });
    format!("{:?} {code}", input.way)
}

/// Whether an input may have set session options, which would change the meaning of later inputs.
fn sets_options(input: &Input) -> bool {
    let is_set = || input.text.to_lowercase().contains("set");
    let is_action = || input.text.ends_with("DoAction");
    is_set() || is_action()
}
