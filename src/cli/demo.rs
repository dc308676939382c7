//! `plantlake demo`: a small plant, from nothing to an hour of averages on the screen, and the same by a server.

use std::net::Ipv4Addr;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::net::TcpListener;

use super::administration::{open, operator};
use super::query::{answer, print_rows};
use super::resample::{print, run_job};
use super::{Context, Exit, RunCommand, simulate};
use crate::app::server;
use crate::auth::{Administrator, Order, Outcome, Passwords};
use crate::clock;
use crate::flight::{Credential, RemoteServer, Serving};
use crate::jobs::Options;
use crate::lake::Store;
use crate::model::{Grant, Role};
use crate::simulate::{Plan, Shape};
use crate::store::{NewOrganisation, Profile};

const EXAMPLES: &str = "\
Examples:
  plantlake demo
      In the folders lake and catalog; a second start uses what is there.
  plantlake demo --serve
      Leaves the server running, to connect to from Python or a BI tool.
  plantlake --lake /tmp/try/lake --catalog /tmp/try/catalog demo
      Somewhere else.";

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Leave the server running until Ctrl-C
    #[arg(long)]
    serve: bool,
}

/// One hour of the busiest sensor's minutes.
const HOUR: &str = include_str!("demo_hour.sql");
/// What the demo's server is asked: each sensor's last day, by its name.
const DAYS: &str = include_str!("demo_days.sql");
/// The organisation that the demo asks as.
const ORGANISATION: &str = "Demo";
const USER: &str = "demo@plantlake.example";

impl RunCommand for DemoArgs {
    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let (settings, terminal) = (&context.settings, &context.terminal);
        let lake = Store::open(&settings.lake, settings.storage.options())?;
        terminal.line("1. Simulate a small plant: 20 sensors, 7 days, a reading every 10 seconds, with faults")?;
        if crate::simulate::has_simulation(&lake).await? {
            terminal.line(&format!(
                "   {lake} has a simulated plant already: that one is used"
            ))?;
        } else {
            let plan = Plan {
                assets: 20,
                days: 7,
                start: None,
                interval: Duration::from_secs(10),
                seed: 1,
                shape: Shape::Realistic,
            };
            simulate::make(&plan, false, &lake, settings, terminal).await?;
        }
        terminal.line("")?;
        terminal.line("2. Resample it: minute, hour and day averages as Delta tables")?;
        let report = run_job(settings, terminal, &Options::default()).await?;
        print(terminal, &report)?;
        terminal.line("")?;
        terminal.line("3. An hour of one sensor, from data_min:")?;
        print_rows(&context, answer(&context, HOUR).await?).await?;
        terminal.line("")?;
        terminal
            .line("4. The last day of some sensors, by a Flight SQL server on this machine:")?;
        self.serve(&context).await?;
        terminal.line("")?;
        terminal.line("Go on with your own SQL:")?;
        terminal.line("  plantlake query \"SELECT asset_id, timestamp, value, count FROM data_d ORDER BY timestamp DESC LIMIT 10\"")?;
        Ok(if report.quarantined.is_empty() {
            Exit::Success
        } else {
            Exit::LeftOut
        })
    }
}

impl DemoArgs {
    /// Starts a server, asks it as an organisation that may see the whole plant, and stays if that is wanted.
    async fn serve(&self, context: &Context) -> anyhow::Result<()> {
        let key = sign_up(context).await?;
        let port = match self.serve {
            true => context.settings.serve.listen.port(),
            // Beside a server that may be running.
            false => 0,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let url = format!("grpc://{}", listener.local_addr()?);
        let serving = Serving::new(server(&context.settings).await?, None)?;
        let interrupt = context.interrupt.clone();
        let asked = async {
            let remote = RemoteServer::connect(&url, None, Credential::Bearer(key.clone())).await?;
            print_rows(context, remote.query(DAYS).await?).await?;
            if self.serve {
                let terminal = &context.terminal;
                terminal.line("")?;
                terminal.line(
                    "Python, while this runs (pip install adbc-driver-flightsql pyarrow pandas):",
                )?;
                terminal.line("  import adbc_driver_flightsql.dbapi as dbapi, pandas as pd")?;
                terminal.line(&format!("  plant = dbapi.connect(\"{url}\", db_kwargs={{\"username\": \"key\", \"password\": \"{key}\"}})"))?;
                terminal.line("  pd.read_sql(\"SELECT * FROM data_h\", plant)")?;
                terminal.note("The key is good for a day. Ctrl-C stops the server.");
                interrupt.wait().await;
            }
            anyhow::Ok(())
        };
        let (done, is_done) = tokio::sync::oneshot::channel::<()>();
        let (served, asked) = tokio::join!(
            serving.run(listener, async {
                // An error is the end of asking, too.
                let _ = is_done.await;
            }),
            async {
                let outcome = asked.await;
                drop(done);
                outcome
            }
        );
        asked?;
        Ok(served?)
    }
}

/// An API key of an organisation that may see the whole plant, for a day.
async fn sign_up(context: &Context) -> anyhow::Result<String> {
    let store = open(context).await?;
    let actor = operator();
    let known = store.organisations().await?;
    if !known.iter().any(|known| known.name == ORGANISATION) {
        let new = NewOrganisation {
            name: ORGANISATION.to_owned(),
            profile: Profile::default(),
            user_limit: 1,
        };
        let made = store.create_organisation(&actor, new).await?;
        store.grant(&actor, made.id, &[Grant::All]).await?;
    }
    let users = store.users(None).await?;
    let administrator = Administrator::operator(store, Passwords::new()?, actor);
    if !users.iter().any(|user| user.email == USER) {
        let order = Order::CreateUser {
            organisation: Some(ORGANISATION.to_owned()),
            email: USER.to_owned(),
            name: "plantlake demo".to_owned(),
            role: Role::Service,
            password: None,
            may_ingest: false,
        };
        administrator.carry_out(order).await?;
    }
    let order = Order::CreateKey {
        user: USER.to_owned(),
        name: "plantlake demo".to_owned(),
        expires_at: Some(clock::now() + TimeDelta::days(1)),
        may_ingest: false,
    };
    match administrator.carry_out(order).await? {
        Outcome::MadeKey { text, .. } => Ok(text),
        _ => anyhow::bail!("no key was made"),
    }
}
