//! `plantlake demo`: sets up everything from nothing, up to a server that two organisations query.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::sync::oneshot;

use super::index::{NO_MODEL_NOTE, format_report, update_index};
use super::query::print_rows;
use super::resample::{print, run_job};
use super::serve::service_error;
use super::simulate;
use crate::app::demo::{self, DemoError, QUESTION, Tenant, TenantReport};
use crate::app::{self, Ports, Service};
use crate::catalog::Snapshot;
use crate::cli::administration::operator;
use crate::cli::exit::Exit;
use crate::cli::output::{Table, Terminal, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::clock::Stopwatch;
use crate::config::Settings;
use crate::jobs::Options;
use crate::lake::Store;
use crate::server::{Credential, RemoteServer};

const EXAMPLES: &str = "\
Simulates a plant, resamples it, indexes its assets for search, creates two organisations that see different parts of it, and
starts a server with its jobs, on this machine only. Existing data is reused. The server runs until Ctrl-C.

Examples:
  plantlake demo
      Uses the folders lake and catalog, and prints Python code that queries the server.
  plantlake demo --once
      Exits after a client of each organisation has queried the server; exit code 0 means that all checks passed.
  plantlake demo --port 0
      Picks a free port.
  plantlake --lake /tmp/try/lake --catalog /tmp/try/catalog demo
      Uses other folders.";

/// Set up a simulated plant with its tables, search and organisations, and start a server to connect to
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Exit after the check, instead of running until Ctrl-C
    #[arg(long)]
    once: bool,
    /// The port of the server on this machine; 0 picks a free one [default: that of serve.listen; 0 with --once]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

/// The query that is sent to the server: the newest day of some sensors.
const NEWEST_DAY_SQL: &str = include_str!("../demo_days.sql");
/// The Python code that is printed for pasting.
const PYTHON_TEMPLATE: &str = include_str!("../demo_python.txt");
/// The Python packages that the code needs.
const PACKAGES: &str = "adbc-driver-flightsql adbc-driver-manager pyarrow pandas";

impl RunCommand for DemoArgs {
    const HANDLES_INTERRUPT: bool = true;

    async fn run(self, mut context: Context) -> anyhow::Result<Exit> {
        context.settings = self.settings(&context.settings);
        let watch = Stopwatch::start();
        let (ports, made) = tokio::select! {
            made = prepare_data(&context) => made?,
            () = context.interrupt.wait() => return Ok(Exit::Interrupted),
        };
        let shown = ServingDemo {
            context: &context,
            once: self.once,
            watch,
        };
        let exit = serve(&shown, ports, &made).await?;
        Ok(match exit {
            Exit::Success if made.left_out => Exit::LeftOut,
            exit => exit,
        })
    }
}

impl DemoArgs {
    /// Returns the settings, with a server that only this machine can reach.
    fn settings(&self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        let port = match (self.port, self.once) {
            (Some(port), _) => port,
            // Nobody else connects to this server, and another one may be running.
            (None, true) => 0,
            (None, false) => settings.serve.listen.port(),
        };
        settings.serve.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if self.once {
            settings.metrics.listen = None;
        }
        settings
    }
}

/// The data to be served.
struct DemoData {
    lake: Store,
    catalog: Snapshot,
    tenants: Vec<Tenant>,
    /// Whether raw files were left out.
    left_out: bool,
}

/// Creates everything that is missing. Binds the ports before the long steps, so that a port in use is reported first.
async fn prepare_data(context: &Context) -> anyhow::Result<(Ports, DemoData)> {
    let (settings, terminal) = (&context.settings, &context.terminal);
    let lake = demo::prepare(settings).await.map_err(|error| match error {
        error @ DemoError::SharedDatabase { .. } => Exit::Usage.wrap(error),
        error => error.into(),
    })?;
    let ports = Ports::open(settings).await.map_err(service_error)?;

    let step = Step::begin(
        terminal,
        "1. Simulate a plant: 20 sensors, 7 days, a reading every 10 seconds, with faults",
    )?;
    if demo::has_plant(&lake, settings).await? {
        terminal.line(&format!(
            "   {lake} already has a simulated plant, which is reused"
        ))?;
    } else {
        simulate::run_simulation(&demo::plan(), false, &lake, settings, terminal).await?;
    }
    step.end()?;

    let step = Step::begin(
        terminal,
        "2. Compute minute, hour and day averages as Delta tables",
    )?;
    let report = run_job(settings, terminal, &Options::default()).await?;
    print(terminal, &report)?;
    step.end()?;

    let step = Step::begin(terminal, "3. Index the assets for search")?;
    let catalog = Snapshot::read(&settings.catalog)?;
    // Indexed by this process only: a running server with valid keys must not be disturbed.
    let search = app::search(settings, true)?;
    let indexed = update_index(context, &search, &catalog, false).await?;
    drop(search);
    terminal.line(&format!("   {}", format_report(&indexed)))?;
    if !indexed.has_meanings {
        terminal.line(&format!("   {NO_MODEL_NOTE}"))?;
    }
    step.end()?;

    let step = Step::begin(
        terminal,
        "4. Create two organisations, each with a user and a key, that see different assets",
    )?;
    let tenants = demo::open(&settings.organisation_url, operator(), &catalog).await?;
    let mut table = Table::new(["organisation", "user", "sees", "assets"]).numbers([3]);
    for tenant in &tenants {
        let grants = tenant.grants.iter().map(ToString::to_string);
        table.row([
            tenant.organisation.clone(),
            tenant.user.clone(),
            grants.collect::<Vec<_>>().join(", "),
            human::count(tenant.assets(&catalog).len() as u64),
        ]);
    }
    terminal.table(&table)?;
    step.end()?;
    let made = DemoData {
        lake,
        catalog,
        tenants,
        left_out: !report.quarantined.is_empty(),
    };
    Ok((ports, made))
}

/// A step of the demo, which prints how long it took.
struct Step<'a> {
    terminal: &'a Terminal,
    watch: Stopwatch,
}

impl<'a> Step<'a> {
    fn begin(terminal: &'a Terminal, what: &str) -> anyhow::Result<Self> {
        terminal.line(what)?;
        Ok(Self {
            terminal,
            watch: Stopwatch::start(),
        })
    }

    fn end(self) -> anyhow::Result<()> {
        let took = human::duration(self.watch.elapsed());
        Ok(self.terminal.line(&format!("   [{took}]\n"))?)
    }
}

/// The context of the output while the server runs.
struct ServingDemo<'a> {
    context: &'a Context,
    once: bool,
    /// Measures the time since the demo started.
    watch: Stopwatch,
}

/// Starts the server with its jobs, queries it, and keeps it running unless `--once` is given.
async fn serve(shown: &ServingDemo<'_>, ports: Ports, made: &DemoData) -> anyhow::Result<Exit> {
    crate::memory::reduce_footprint();
    let (settings, interrupt) = (&shown.context.settings, &shown.context.interrupt);
    let step = Step::begin(&shown.context.terminal, "5. Start the server with its jobs")?;
    let opened = Service::open(settings, ports, None, true).await;
    let service = opened.map_err(service_error)?;
    shown.print_addresses(&service)?;
    step.end()?;
    let uri = service.uri();
    let (done, is_done) = oneshot::channel::<()>();
    let stop = async {
        // A dropped sender stops the server, too.
        let _ = is_done.await;
    };
    let serving = service.run(stop, interrupt.wait_until_overdue());
    let asking = async {
        let asked = tokio::select! {
            asked = shown.check_clients(&uri, made) => asked.map(|()| Exit::Success),
            () = interrupt.wait() => Ok(Exit::Interrupted),
        };
        if let (Ok(Exit::Success), false) = (&asked, shown.once) {
            interrupt.wait().await;
        }
        // The keys are useless once the server has stopped.
        let closed = demo::close(&settings.organisation_url, &operator(), &made.tenants).await;
        drop(done);
        let exit = asked?;
        closed?;
        anyhow::Ok(exit)
    };
    tokio::pin!(serving, asking);
    tokio::select! {
        served = &mut serving => {
            served.map_err(service_error)?;
            anyhow::bail!("the server has stopped; see the log for the cause")
        }
        exit = &mut asking => {
            serving.await.map_err(service_error)?;
            exit
        }
    }
}

impl ServingDemo<'_> {
    fn print_addresses(&self, service: &Service) -> anyhow::Result<()> {
        let terminal = &self.context.terminal;
        terminal.line(&format!("   listening on {}", service.uri()))?;
        if let Some(url) = service.metrics() {
            terminal.line(&format!("   metrics      {url}"))?;
        }
        let jobs = service.jobs().unwrap_or_default();
        let jobs = match jobs.is_empty() {
            true => format!("none declared in {}", self.context.settings.jobs.display()),
            false => jobs.join(", "),
        };
        Ok(terminal.line(&format!("   jobs         {jobs}"))?)
    }

    /// Queries the server as each organisation, and prints the results.
    async fn check_clients(&self, uri: &str, made: &DemoData) -> anyhow::Result<()> {
        let Context {
            settings, terminal, ..
        } = self.context;
        let step = Step::begin(
            terminal,
            &format!("6. Search for {QUESTION:?} as a client of each organisation"),
        )?;
        let checked = demo::check(uri, &made.tenants, settings, &made.lake, &made.catalog).await?;
        terminal.table(&checks_table(&checked))?;
        step.end()?;
        if let Some(owner) = made.tenants.first() {
            let step = Step::begin(
                terminal,
                &format!(
                    "7. Query the newest day of some sensors as {}",
                    owner.organisation
                ),
            )?;
            let credential = Credential::Bearer(owner.key.clone());
            let server = RemoteServer::connect(uri, None, credential).await?;
            print_rows(self.context, server.query(NEWEST_DAY_SQL).await?).await?;
            step.end()?;
        }
        let took = human::duration(self.watch.elapsed());
        terminal.line(&format!("All checks passed in {took}."))?;
        if !self.once {
            self.print_next_steps(uri, &made.tenants)?;
        }
        Ok(())
    }

    fn print_next_steps(&self, uri: &str, tenants: &[Tenant]) -> anyhow::Result<()> {
        let Some((owner, others)) = tenants.split_first() else {
            return Ok(());
        };
        let terminal = &self.context.terminal;
        terminal.line(&format!("\nPaste into Python (pip install {PACKAGES}):\n"))?;
        let python = PYTHON_TEMPLATE
            .replace("{key}", &owner.key)
            .replace("{uri}", uri)
            .replace("{sql}", NEWEST_DAY_SQL)
            .replace("{question}", QUESTION);
        terminal.line(&python)?;
        let Tenant {
            organisation, key, ..
        } = owner;
        terminal.line(&format!(
            "This is the key of {organisation}. For the notebooks:\n"
        ))?;
        terminal.line(&format!("export PLANT_URI={uri} PLANT_KEY={key}\n"))?;
        for other in others {
            let Tenant {
                organisation, key, ..
            } = other;
            terminal.line(&format!(
                "The key of {organisation}, which sees fewer assets, is {key}"
            ))?;
        }
        terminal
            .line("The keys are valid while the demo runs. Ctrl-C stops it; the data stays.")?;
        Ok(())
    }
}

fn checks_table(checked: &[TenantReport]) -> Table {
    let head = [
        "organisation",
        "visible assets",
        "with readings",
        "first result",
        "ranked by",
        "requests",
    ];
    let mut table = Table::new(head).numbers([1, 2, 5]);
    for one in checked {
        let (name, by) = one.found.clone().unwrap_or_default();
        table.row([
            one.organisation.clone(),
            human::count(one.assets as u64),
            human::count(one.with_readings as u64),
            name,
            by,
            human::count(one.requests.unsigned_abs()),
        ]);
    }
    table
}
