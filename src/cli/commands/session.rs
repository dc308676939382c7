//! `plantlake session`: lists sessions, and revokes them.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::administration::{format_minute, open_existing, operator};
use crate::cli::exit::Exit;
use crate::cli::output::{Table, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::clock;
use crate::model::SessionId;

const EXAMPLES: &str = "\
A session starts when a user signs in with a password. When it ends, so do its access tokens and the queries that use them.

Examples:
  plantlake session list --user ada@northfield.example
  plantlake session revoke 0190a8a4-6a9c-7d6e-b7f4-3f1f8f3f2a10
  plantlake session revoke --user ada@northfield.example
      Revokes all her sessions.";

/// List and revoke sessions
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SessionArgs {
    #[command(subcommand)]
    action: Action,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the valid sessions
    List {
        /// Only this user
        #[arg(long, value_name = "EMAIL")]
        user: Option<String>,
    },
    /// Revoke a session, or all sessions of a user, within seconds
    Revoke {
        /// The session's id
        #[arg(required_unless_present = "user", conflicts_with = "user")]
        id: Option<String>,
        /// All sessions of this user
        #[arg(long, value_name = "EMAIL")]
        user: Option<String>,
    },
}

impl RunCommand for SessionArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let store = open_existing(&context).await?;
        let terminal = &context.terminal;
        let user_id = match &self.action {
            Action::List { user: Some(email) }
            | Action::Revoke {
                user: Some(email), ..
            } => Some(store.user(email).await?.id),
            _ => None,
        };
        match (self.action, user_id) {
            (Action::List { .. }, user) => {
                let sessions = store.sessions(user, clock::now()).await?;
                if self.json {
                    terminal.line(&serde_json::to_string(&sessions)?)?;
                } else if sessions.is_empty() {
                    terminal.line("No valid sessions.")?;
                } else {
                    let mut table =
                        Table::new(["session", "user", "started", "expires", "address"]);
                    for session in &sessions {
                        table.row([
                            session.id.to_string(),
                            session.user.clone(),
                            format_minute(session.created_at),
                            format_minute(session.expires_at),
                            session.client_address.clone(),
                        ]);
                    }
                    terminal.table(&table)?;
                }
            }
            (Action::Revoke { .. }, Some(user)) => {
                let ended = store.revoke_sessions(&operator(), user).await?;
                terminal.line(&if self.json {
                    json!({"revoked": ended}).to_string()
                } else {
                    format!("revoked {}", human::counted(ended, "session"))
                })?;
            }
            (Action::Revoke { id, .. }, None) => {
                let text = id.unwrap_or_default();
                let id: SessionId = text.parse().map_err(|_| {
                    Exit::Usage.wrap(anyhow::anyhow!("invalid session id {text:?}"))
                })?;
                let was_good = store.revoke_session(&operator(), id).await?;
                terminal.line(&if self.json {
                    json!({"revoked": u64::from(was_good)}).to_string()
                } else {
                    format!(
                        "session {id} has ended{}",
                        if was_good { "" } else { " already" }
                    )
                })?;
            }
        }
        Ok(Exit::Success)
    }
}
