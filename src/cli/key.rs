//! `plantlake key`: API keys, for programs and for tools that cannot sign in.

use clap::{Args, Subcommand};
use serde_json::json;

use super::administration::{minute, open, operator, optional_minute, yes};
use super::org::named;
use super::output::Table;
use super::{Context, Exit, RunCommand};
use crate::auth::{FreshKey, expiry};
use crate::clock;
use crate::store::{ApiKey, NewKey, OrganisationStore};

const EXAMPLES: &str = "\
A key is `pl_<id>_<secret>`. It is shown once, when it is made; only a hash of the secret is stored.

Examples:
  plantlake key create --user historian@northfield.example --name \"line 3 gateway\" --expires 90d --ingest
  plantlake key create --user ada@northfield.example --name notebook --expires 2027-06-30 --json | jq -r .key
  plantlake key list --org \"Northfield Chemicals\"
  plantlake key revoke 0123456789abcdef
      Ends it within seconds, queries that run with it included.";

/// Arguments of `key`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct KeyArgs {
    #[command(subcommand)]
    action: Action,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key, and show it this once
    Create(CreateArgs),
    /// List keys, without their secrets
    List {
        /// Of the users of this organisation only
        #[arg(long, value_name = "NAME")]
        org: Option<String>,
        /// Of this user only
        #[arg(long, value_name = "EMAIL")]
        user: Option<String>,
        /// Those that are over, too
        #[arg(long)]
        all: bool,
    },
    /// End a key within seconds
    Revoke {
        /// The key's id, which is the part between `pl_` and the next `_`
        id: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Whose it is
    #[arg(long, value_name = "EMAIL")]
    user: String,
    /// What it is for
    #[arg(long)]
    name: String,
    /// When it ends: so many days from now (90d), or with a date, UTC [default: never]
    #[arg(long, value_name = "DAYS|DATE")]
    expires: Option<String>,
    /// Permit to send readings with it; takes a user who may
    #[arg(long)]
    ingest: bool,
}

impl RunCommand for KeyArgs {
    fn json(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let store = open(&context).await?;
        match self.action {
            Action::Create(args) => create(&context, &store, args, self.json).await?,
            Action::List { org, user, all } => {
                list(
                    &context,
                    &store,
                    org.as_deref(),
                    user.as_deref(),
                    all,
                    self.json,
                )
                .await?;
            }
            Action::Revoke { id } => {
                if id.starts_with("pl_") {
                    let error = anyhow::anyhow!(
                        "name the key by its id, the part between `pl_` and the next `_`; \
                         the whole key is a secret, and now it is in your shell's history"
                    );
                    return Err(Exit::Usage.because(error));
                }
                let was_good = store.revoke_key(&operator(), &id).await?;
                let printed = if self.json {
                    json!({"id": id, "revoked": true, "changed": was_good}).to_string()
                } else {
                    format!(
                        "key {id} is revoked{}",
                        if was_good { "" } else { " already" }
                    )
                };
                context.terminal.line(&printed)?;
            }
        }
        Ok(Exit::Success)
    }
}

async fn create(
    context: &Context,
    store: &OrganisationStore,
    args: CreateArgs,
    json: bool,
) -> anyhow::Result<()> {
    let expires_at = match &args.expires {
        Some(text) => Some(
            expiry(text, clock::now())
                .map_err(|problem| Exit::Usage.because(anyhow::anyhow!("--expires: {problem}")))?,
        ),
        None => None,
    };
    let user = store.user(&args.user).await?;
    let fresh = FreshKey::new()?;
    let new = NewKey {
        id: fresh.id.clone(),
        user: user.id,
        name: args.name,
        secret_hash: fresh.secret_hash,
        may_ingest: args.ingest,
        expires_at,
    };
    let made = store.create_key(&operator(), new).await?;
    if json {
        let mut printed = serde_json::to_value(&made)?;
        printed["key"] = json!(fresh.text());
        return Ok(context.terminal.line(&printed.to_string())?);
    }
    // The key alone on standard output: it can be piped into a vault.
    context.terminal.line(fresh.text())?;
    context.terminal.note(&format!(
        "This is the key of {} for {:?}. It is not shown again: keep it where secrets are kept.",
        made.user, made.name
    ));
    Ok(())
}

async fn list(
    context: &Context,
    store: &OrganisationStore,
    org: Option<&str>,
    user: Option<&str>,
    all: bool,
    json: bool,
) -> anyhow::Result<()> {
    let organisation = named(store, org).await?.map(|organisation| organisation.id);
    let user = match user {
        Some(email) => Some(store.user(email).await?.id),
        None => None,
    };
    let now = clock::now();
    let mut keys = store.keys(organisation, user).await?;
    keys.retain(|key| all || state(key, now).is_empty());
    if json {
        return Ok(context.terminal.line(&serde_json::to_string(&keys)?)?);
    }
    if keys.is_empty() {
        return Ok(context
            .terminal
            .line("There is no key that is good; `--all` shows those that are over.")?);
    }
    let mut table = Table::new([
        "key",
        "user",
        "organisation",
        "for",
        "ingest",
        "made",
        "expires",
        "last used",
        "state",
    ]);
    for key in &keys {
        table.row([
            key.id.clone(),
            key.user.clone(),
            key.organisation.clone(),
            key.name.clone(),
            yes(key.may_ingest).to_owned(),
            minute(key.created_at),
            optional_minute(key.expires_at),
            optional_minute(key.last_used_at),
            state(key, now).to_owned(),
        ]);
    }
    Ok(context.terminal.table(&table)?)
}

fn state(key: &ApiKey, now: chrono::DateTime<chrono::Utc>) -> &'static str {
    match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(end)) if end <= now => "expired",
        _ => "",
    }
}
