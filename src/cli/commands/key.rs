//! `plantlake key`: manages API keys, for programs and for tools that cannot sign in.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::auth::{AdminCommand, AdminOutcome, parse_expiry};
use crate::cli::admin_target::{AdminTarget, ServerArgs, check_name, unexpected_outcome};
use crate::cli::administration::{format_minute, format_optional_minute, yes_or_blank};
use crate::cli::exit::Exit;
use crate::cli::output::Table;
use crate::cli::run_command::{Context, RunCommand};
use crate::clock;
use crate::store::ApiKey;

const EXAMPLES: &str = "\
A key is `pl_<id>_<secret>`. It is shown once, when it is created; only a hash of the secret is stored.

Examples:
  plantlake key create --user historian@northfield.example --name \"line 3 gateway\" --expires 90d --ingest
  plantlake key create --user ada@northfield.example --name notebook --expires 2027-06-30 --json | jq -r .key
  plantlake key list --org \"Northfield Chemicals\"
  plantlake key revoke 0123456789abcdef
      Revokes it within seconds, and ends running queries that use it.";

/// Create, list and revoke API keys
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct KeyArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a key, and show it this once
    Create(CreateArgs),
    /// List keys, without their secrets
    List {
        /// Only users of this organisation
        #[arg(long, value_name = "NAME")]
        org: Option<String>,
        /// Only this user
        #[arg(long, value_name = "EMAIL")]
        user: Option<String>,
        /// Include expired and revoked keys
        #[arg(long)]
        all: bool,
    },
    /// Revoke a key within seconds
    Revoke {
        /// The key's id, which is the part between `pl_` and the next `_`
        id: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The user that the key belongs to
    #[arg(long, value_name = "EMAIL")]
    user: String,
    /// The purpose of the key
    #[arg(long)]
    name: String,
    /// The expiry: a number of days from now (90d), or the end of a date, UTC [default: never]
    #[arg(long, value_name = "DAYS|DATE")]
    expires: Option<String>,
    /// Allow sending readings with the key; requires a user who may send readings
    #[arg(long)]
    ingest: bool,
}

impl RunCommand for KeyArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let command = Command {
            target: AdminTarget::open(&context, &self.server).await?,
            json: self.json,
            context,
        };
        match self.action {
            Action::Create(args) => command.create(args).await?,
            Action::List { org, user, all } => command.list(org, user, all).await?,
            Action::Revoke { id } => command.revoke(id).await?,
        }
        Ok(Exit::Success)
    }
}

struct Command {
    context: Context,
    target: AdminTarget,
    json: bool,
}

impl Command {
    async fn create(&self, args: CreateArgs) -> anyhow::Result<()> {
        let end = args
            .expires
            .as_deref()
            .map(|text| parse_expiry(text, clock::now()));
        let expires_at = end
            .transpose()
            .map_err(|problem| Exit::Usage.wrap(anyhow::anyhow!("--expires: {problem}")))?;
        let order = AdminCommand::CreateKey {
            user: args.user,
            name: args.name,
            expires_at,
            may_ingest: args.ingest,
        };
        let AdminOutcome::MadeKey { made, text } = self.target.run(order).await? else {
            return Err(unexpected_outcome());
        };
        let terminal = &self.context.terminal;
        if self.json {
            let mut printed = serde_json::to_value(&made)?;
            printed["key"] = json!(text);
            return Ok(terminal.line(&printed.to_string())?);
        }
        // Only the key goes to standard output, so that it can be piped into a vault.
        terminal.line(&text)?;
        terminal.note(&format!(
            "This is the key of {} for {:?}. It is not shown again; keep it in a secret store.",
            made.user, made.name
        ));
        Ok(())
    }

    async fn revoke(&self, id: String) -> anyhow::Result<()> {
        if id.starts_with("pl_") {
            let error = anyhow::anyhow!(
                "expected the key's id, the part between `pl_` and the next `_`; \
                 the whole key is a secret, and is now in your shell's history"
            );
            return Err(Exit::Usage.wrap(error));
        }
        let AdminOutcome::RevokedKey { id, changed } =
            self.target.run(AdminCommand::RevokeKey { id }).await?
        else {
            return Err(unexpected_outcome());
        };
        let printed = if self.json {
            json!({"id": id, "revoked": true, "changed": changed}).to_string()
        } else {
            format!(
                "key {id} is revoked{}",
                if changed { "" } else { " already" }
            )
        };
        Ok(self.context.terminal.line(&printed)?)
    }

    async fn list(
        &self,
        org: Option<String>,
        user: Option<String>,
        all: bool,
    ) -> anyhow::Result<()> {
        let organisation = check_name(org)?;
        let order = AdminCommand::Keys { organisation, user };
        let AdminOutcome::Keys { mut keys } = self.target.run(order).await? else {
            return Err(unexpected_outcome());
        };
        let now = clock::now();
        keys.retain(|key| all || state(key, now).is_empty());
        let terminal = &self.context.terminal;
        if self.json {
            return Ok(terminal.line(&serde_json::to_string(&keys)?)?);
        }
        if keys.is_empty() {
            let none = "No valid keys; `--all` also lists expired and revoked keys.";
            return Ok(terminal.line(none)?);
        }
        Ok(terminal.table(&table(&keys, now))?)
    }
}

fn table(keys: &[ApiKey], now: chrono::DateTime<chrono::Utc>) -> Table {
    let mut table = Table::new([
        "key",
        "user",
        "organisation",
        "name",
        "ingest",
        "created",
        "expires",
        "last used",
        "state",
    ]);
    for key in keys {
        table.row([
            key.id.clone(),
            key.user.clone(),
            key.organisation.clone(),
            key.name.clone(),
            yes_or_blank(key.may_ingest).to_owned(),
            format_minute(key.created_at),
            format_optional_minute(key.expires_at),
            format_optional_minute(key.last_used_at),
            state(key, now).to_owned(),
        ]);
    }
    table
}

fn state(key: &ApiKey, now: chrono::DateTime<chrono::Utc>) -> &'static str {
    match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(end)) if end <= now => "expired",
        _ => "",
    }
}
