//! `plantlake audit`: who changed what, and when.

use clap::Args;

use super::administration::{instant, open};
use super::org::named;
use super::output::Table;
use super::{Context, Exit, RunCommand};
use crate::store::AuditFilter;

const EXAMPLES: &str = "\
The trail is append-only: the database itself refuses to change or delete an entry.

Examples:
  plantlake audit
  plantlake audit --org \"Northfield Chemicals\" --last 1000 --json";

/// Arguments of `audit`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct AuditArgs {
    /// Of this organisation only
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// How many of the last changes
    #[arg(long, value_name = "N", default_value_t = 50)]
    last: u32,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl RunCommand for AuditArgs {
    fn json(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let store = open(&context).await?;
        let organisation = named(&store, self.org.as_deref()).await?;
        let filter = AuditFilter {
            organisation: organisation.map(|organisation| organisation.id),
            last: self.last.into(),
        };
        let entries = store.audit(&filter).await?;
        if self.json {
            context.terminal.line(&serde_json::to_string(&entries)?)?;
            return Ok(Exit::Success);
        }
        let mut table = Table::new(["when", "who", "what", "organisation", "whom", "particulars"]);
        for entry in entries {
            table.row([
                instant(entry.at),
                entry.actor,
                entry.action,
                entry.organisation.unwrap_or_default(),
                entry.subject,
                entry.details.to_string(),
            ]);
        }
        context.terminal.table(&table)?;
        Ok(Exit::Success)
    }
}
