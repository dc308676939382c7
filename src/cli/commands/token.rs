//! `plantlake token`: manages access tokens, and the keys that they are signed with.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::auth::{Access, Authenticator, KeyRing};
use crate::catalog::{Catalog, VisibleAssets};
use crate::cli::administration::{
    format_instant, format_minute, format_optional_minute, open, open_existing, operator,
    read_secret, yes_or_blank,
};
use crate::cli::exit::Exit;
use crate::cli::output::Table;
use crate::cli::run_command::{Context, RunCommand};

const EXAMPLES: &str = "\
Examples:
  plantlake token create ada@northfield.example
      Asks for her password, starts a session, and prints its access token.
  vault read -field=key plantlake/gateway | plantlake token check
      Shows who this API key or access token belongs to, and what they may see, or why it is refused.
  plantlake token check --follow < token
      Runs until the access ends, and shows the reason.
  plantlake token keys rotate
      Creates a signing key. Tokens of earlier keys stay valid: no session ends, and no server restarts.
  plantlake token keys remove 20261124T080000000Z-0a1b2c3d
      Removes a compromised key: everything that it signed is refused within seconds.";

/// Manage access tokens and the keys that they are signed with
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TokenArgs {
    #[command(subcommand)]
    action: Action,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Sign in with a password, and print an access token
    Create {
        /// The user's e-mail address
        email: String,
    },
    /// Show who an API key or access token belongs to; it is read from a prompt or standard input
    Check {
        /// Keep running until the access ends
        #[arg(long)]
        follow: bool,
    },
    /// Manage the keys that tokens are signed with
    Keys {
        #[command(subcommand)]
        action: KeysAction,
    },
}

#[derive(Debug, Subcommand)]
enum KeysAction {
    /// List the keys, without their secrets
    List,
    /// Create a key, and sign with it from now on
    Rotate,
    /// Remove a key, and refuse everything that it has signed
    Remove {
        /// The key's id
        id: String,
    },
}

impl RunCommand for TokenArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        match self.action {
            Action::Create { email } => create(&context, &email, self.json).await?,
            Action::Check { follow } => check(&context, follow, self.json).await?,
            Action::Keys { action } => keys(&context, action, self.json).await?,
        }
        Ok(Exit::Success)
    }
}

async fn create(context: &Context, email: &str, json: bool) -> anyhow::Result<()> {
    let authenticator = Authenticator::open(open_existing(context).await?, &context.settings.auth)?;
    let password = read_secret(context, "password", false).await?;
    let signed_in = authenticator.sign_in(email, &password, None).await;
    // Waits until a failed sign-in is recorded in the audit trail.
    authenticator.flush().await;
    let signed_in = signed_in?;
    if json {
        let printed = json!({
            "token": signed_in.token, "session": signed_in.session, "expires_at": signed_in.expires_at,
        });
        return Ok(context.terminal.line(&printed.to_string())?);
    }
    context.terminal.line(&signed_in.token)?;
    let end = format_instant(signed_in.expires_at);
    context.terminal.note(&format!(
        "This token is valid until {end}. Session {}.",
        signed_in.session
    ));
    Ok(())
}

async fn check(context: &Context, follow: bool, json: bool) -> anyhow::Result<()> {
    let authenticator = Authenticator::open(open_existing(context).await?, &context.settings.auth)?;
    let credential = read_secret(context, "API key or access token", false).await?;
    let access = authenticator.authenticate(&credential).await?;
    authenticator.flush().await;
    describe(context, &access, json)?;
    if follow {
        let ended = tokio::select! {
            ended = access.wait_for_end() => ended,
            () = authenticator.run_background_tasks() => return Ok(()),
        };
        context.terminal.line(&if json {
            json!({"ended": ended.to_string()}).to_string()
        } else {
            ended.to_string()
        })?;
    }
    Ok(())
}

fn describe(context: &Context, access: &Access, json: bool) -> anyhow::Result<()> {
    let principal = access.principal();
    let catalog = Catalog::read(&context.settings.catalog);
    let visible = catalog.as_ref().ok().map(|catalog| {
        match VisibleAssets::resolve(&catalog.assets, &principal.grants) {
            VisibleAssets::All => catalog.assets.len(),
            VisibleAssets::Only(ids) => ids.len(),
        }
    });
    let terminal = &context.terminal;
    if json {
        let mut printed = serde_json::to_value(&**principal)?;
        printed["assets_visible"] = json!(visible);
        return Ok(terminal.line(&printed.to_string())?);
    }
    let end = principal
        .proof
        .expires_at()
        .map_or_else(|| "never".to_owned(), format_instant);
    terminal.line(&format!(
        "user          {} ({})",
        principal.user, principal.role
    ))?;
    terminal.line(&format!("organisation  {}", principal.organisation))?;
    terminal.line(&format!("expires       {end}"))?;
    let manages = if principal.role.manages_organisation() {
        "queries; manages the organisation's users and keys; sees its whole usage"
    } else {
        "queries; sees their own usage"
    };
    let ingest = match (principal.may_ingest, principal.write_grants.as_slice()) {
        (false, _) => "",
        (true, []) => {
            "; cannot send readings, because the organisation has no write grant (`plantlake org grant … --write`)"
        }
        (true, _) => "; sends readings",
    };
    terminal.line(&format!("may           {manages}{ingest}"))?;
    let sees = match (visible, principal.grants.as_slice()) {
        (_, []) => "nothing".to_owned(),
        (Some(assets), _) => format!("{assets} assets"),
        (None, _) => "unknown: the catalog cannot be read".to_owned(),
    };
    terminal.line(&format!("sees          {sees}"))?;
    for rule in &principal.grants {
        let writes = match principal.write_grants.contains(rule) {
            true => ", with writing",
            false => "",
        };
        terminal.line(&format!("              {rule}{writes}"))?;
    }
    Ok(())
}

async fn keys(context: &Context, action: KeysAction, json: bool) -> anyhow::Result<()> {
    let (folder, terminal) = (&context.settings.auth.keys_dir, &context.terminal);
    // Opening the ring creates the first key, which a list must not do.
    let is_empty = KeyRing::count_keys(folder)?.unwrap_or(0) == 0;
    if matches!(action, KeysAction::List) && is_empty {
        let none =
            "No keys; the first server creates one, and so does `plantlake token keys rotate`.";
        return Ok(terminal.line(if json { "[]" } else { none })?);
    }
    let ring = KeyRing::open(folder)?;
    match action {
        KeysAction::List => {
            let keys = ring.list()?;
            if json {
                return Ok(terminal.line(&serde_json::to_string(&keys)?)?);
            }
            let mut table = Table::new(["key", "created", "signs", "needed until"]);
            for key in keys {
                table.row([
                    key.id,
                    format_minute(key.created_at),
                    yes_or_blank(key.signs).to_owned(),
                    format_optional_minute(key.needed_until),
                ]);
            }
            terminal.table(&table)?;
        }
        KeysAction::Rotate => {
            let store = open(context).await?;
            let (made, deleted) = ring.rotate()?;
            store
                .record_event(&operator(), "token-keys.rotate", &made.id)
                .await?;
            if json {
                terminal.line(&json!({"made": made, "deleted": deleted}).to_string())?;
            } else {
                terminal.line(&format!("new tokens are signed with {} now", made.id))?;
                for id in deleted {
                    terminal.line(&format!("deleted {id}, which no valid token needs"))?;
                }
            }
        }
        KeysAction::Remove { id } => {
            let store = open(context).await?;
            ring.remove(&id)?;
            store
                .record_event(&operator(), "token-keys.remove", &id)
                .await?;
            terminal.line(&if json {
                json!({"removed": id}).to_string()
            } else {
                format!("removed {id}; tokens that it signed are refused")
            })?;
        }
    }
    Ok(())
}
