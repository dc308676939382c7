//! `plantlake audit`: shows the audit trail, and verifies the hash chains over it and over the ledger.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::auth::{AdminCommand, AdminOutcome};
use crate::cli::admin_target::{AdminTarget, ServerArgs, check_name, unexpected_outcome};
use crate::cli::administration::{format_instant, open_existing};
use crate::cli::chains;
use crate::cli::chains::HeadArgs;
use crate::cli::exit::Exit;
use crate::cli::output::{Table, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::model::OrganisationId;
use crate::store::{ChainKind, OrganisationStore};

const EXAMPLES: &str = "\
The trail is append-only: the database itself refuses to change or delete an entry. Each entry of the trail and each record of
the ledger of requests has a hash over itself and the previous hash, so that later changes, insertions and removals are
detected. Store the output of `head` where users who can write to the database cannot change it: it reveals a chain that was
truncated or rebuilt.

Failed sign-ins (sign-in.fail) are combined by account over about a minute: their number, the times of the first and the last,
and their addresses. Those of accounts that do not exist belong to no organisation.

Examples:
  plantlake audit
  plantlake audit --org \"Northfield Chemicals\" --last 1000 --json
  plantlake audit --server grpc+tls://historian.example:50051 --as ada@northfield.example
      As the admin of an organisation, shows the entries of that organisation.
  plantlake audit head --json > head-2026-11-30.json
  plantlake audit verify --head head-2026-11-30.json
      Exit code 5 if something differs.";

/// Show who changed what and when, and verify that the records are intact
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct AuditArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only this organisation
    #[arg(long, value_name = "NAME", global = true)]
    org: Option<String>,
    /// The number of latest changes to show; a server returns at most 10000
    #[arg(long, value_name = "N", default_value_t = 50)]
    last: u32,
    #[command(flatten)]
    server: ServerArgs,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the current heads of the hash chains of the audit trail and the ledger
    Head,
    /// Recompute these chains, and report what was changed, inserted or removed
    Verify(HeadArgs),
}

impl RunCommand for AuditArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        if let Some(action) = &self.action {
            if self.server.is_given() {
                return Err(Exit::Usage.wrap(anyhow::anyhow!(
                    "cannot read the hash chains from a server: `head` and `verify` need the database; omit --server"
                )));
            }
            let store = open_existing(&context).await?;
            let organisation = super::org::find_organisation(&store, self.org.as_deref()).await?;
            let id = organisation.map(|organisation| organisation.id);
            return match action {
                Action::Head => head(&context, &store, id, self.json).await,
                Action::Verify(args) => verify(&context, &store, id, args, self.json).await,
            };
        }
        let office = AdminTarget::open(&context, &self.server).await?;
        let order = AdminCommand::Audit {
            organisation: check_name(self.org)?,
            last: self.last,
        };
        let AdminOutcome::Audit { entries } = office.run(order).await? else {
            return Err(unexpected_outcome());
        };
        if self.json {
            context.terminal.line(&serde_json::to_string(&entries)?)?;
            return Ok(Exit::Success);
        }
        let mut table = Table::new([
            "time",
            "actor",
            "action",
            "organisation",
            "subject",
            "details",
        ]);
        for entry in entries {
            table.row([
                format_instant(entry.at),
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

async fn head(
    context: &Context,
    store: &OrganisationStore,
    organisation: Option<OrganisationId>,
    json: bool,
) -> anyhow::Result<Exit> {
    let heads = store.chain_heads(organisation).await?;
    if json {
        context.terminal.line(&serde_json::to_string(&heads)?)?;
        return Ok(Exit::Success);
    }
    let mut table = Table::new(["organisation", "chain", "records", "hash"]).numbers([2]);
    for head in heads.heads {
        let name = head
            .organisation
            .unwrap_or_else(|| "(no organisation)".to_owned());
        for (chain, end) in [
            (ChainKind::Audit, head.audit),
            (ChainKind::Ledger, head.ledger),
        ] {
            let records = human::count(end.length);
            table.row([name.clone(), chain.to_string(), records, end.hash]);
        }
    }
    context.terminal.table(&table)?;
    Ok(Exit::Success)
}

async fn verify(
    context: &Context,
    store: &OrganisationStore,
    organisation: Option<OrganisationId>,
    args: &HeadArgs,
    json: bool,
) -> anyhow::Result<Exit> {
    let head = args.read()?;
    let mut found = Vec::new();
    for kind in [ChainKind::Audit, ChainKind::Ledger] {
        found.extend(
            store
                .verify_chains(kind, organisation, head.as_ref())
                .await?,
        );
    }
    let is_whole = chains::are_intact(&found);
    if json {
        let said = json!({"verified": is_whole, "chains": found});
        context.terminal.line(&said.to_string())?;
    } else {
        chains::print_chains(context, &found)?;
    }
    Ok(if is_whole {
        Exit::Success
    } else {
        Exit::Differs
    })
}
