//! `plantlake migrate`: brings the organisation database's schema up to date.

use serde_json::json;

use crate::app::no_write_grant_warning;
use crate::cli::exit::Exit;
use crate::cli::run_command::{Context, RunCommand};
use crate::store::OrganisationStore;

const EXAMPLES: &str = "\
Every other command migrates the database, too, when it opens it; concurrent migrations are safe.

Examples:
  plantlake migrate
  PLANTLAKE_ORGANISATION_URL=postgres://plantlake@db.example/organisation plantlake migrate";

/// Migrate the organisation database to the current schema
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct MigrateArgs {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl RunCommand for MigrateArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let url = &context.settings.organisation_url;
        let (store, migrated) = OrganisationStore::open(url).await?;
        for organisation in store.senders_without_write_grant().await? {
            context
                .terminal
                .warn(&no_write_grant_warning(&organisation));
        }
        if self.json {
            let printed = json!({
                "database": url.to_string(), "made": migrated.made, "version": migrated.version,
            });
            context.terminal.line(&printed.to_string())?;
            return Ok(Exit::Success);
        }
        context
            .terminal
            .line(&format!("organisation database  {url}"))?;
        for step in &migrated.made {
            context
                .terminal
                .line(&format!("applied migration {step}"))?;
        }
        let version = migrated.version;
        context
            .terminal
            .line(&format!("the schema is up to date, at version {version}"))?;
        Ok(Exit::Success)
    }
}
