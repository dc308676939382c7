//! `plantlake user`: manages the users of organisations, and what each may do.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::auth::{AdminCommand, AdminOutcome, check_new_password};
use crate::cli::admin_target::{AdminTarget, ServerArgs, check_name, unexpected_outcome};
use crate::cli::administration::{
    format_minute, format_optional_minute, read_secret, yes_or_blank,
};
use crate::cli::exit::Exit;
use crate::cli::output::Table;
use crate::cli::run_command::{Context, RunCommand};
use crate::model::{Email, Role};
use crate::store::User;

const EXAMPLES: &str = "\
Passwords are typed at a prompt, or read from the first line of standard input. They are never arguments, which other users of
the machine could see. With --server, `create` and `passwd` read two lines from standard input: first your own credential (with
--as your password, otherwise an API key), then the user's new password.

Roles:
  admin    manages the users and keys of the organisation, and sees its whole usage
  analyst  runs queries, and sees their own usage
  service  a program; has API keys only, and no password

Examples:
  plantlake user create ada@northfield.example --org \"Northfield Chemicals\" --role admin
  pass show plantlake/ada | plantlake user passwd ada@northfield.example
  plantlake user create historian@northfield.example --org \"Northfield Chemicals\" --role service --ingest
  plantlake user list --org \"Northfield Chemicals\"
  plantlake user deactivate ada@northfield.example
      Ends her sessions, keys and running queries within seconds; she still counts towards the limit.
  plantlake user remove ada@northfield.example
      The same, permanently; she no longer counts towards the limit. Her records stay in the ledger and the audit trail.
  (pass show plantlake/ada; pass show plantlake/bob) | plantlake user create bob@northfield.example --role analyst \
      --server grpc+tls://historian.example:50051 --as ada@northfield.example
  plantlake user list --server grpc+tls://historian.example:50051 --as ada@northfield.example
      As the admin of an organisation, on a remote server: asks for her password. Without --as, it asks for an API key.
  plantlake user passwd bob@northfield.example --server grpc+tls://historian.example:50051 --as bob@northfield.example
      Changes your own password, in any role; asks for the current one first.";

/// Manage users, their passwords and their access
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UserArgs {
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
    /// Create a user, if the organisation's limit allows it
    Create(CreateArgs),
    /// List users
    List {
        /// Only this organisation
        #[arg(long, value_name = "NAME")]
        org: Option<String>,
    },
    /// Set a user's password; ends the sessions that began with the old one
    Passwd {
        /// The user's e-mail address
        email: String,
    },
    /// Change a user's name, role or permission to send readings
    Change(ChangeArgs),
    /// Suspend a user's access within seconds; the user still counts towards the limit
    Deactivate {
        /// The user's e-mail address
        email: String,
    },
    /// Restore a user's access
    Activate {
        /// The user's e-mail address
        email: String,
    },
    /// Remove a user, with sessions and keys; the user no longer counts towards the limit
    Remove {
        /// The user's e-mail address
        email: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The e-mail address; unique in the organisation, regardless of case
    email: String,
    /// The organisation, by name or id; with --server it is your own
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// The role of the user
    #[arg(long, value_enum, default_value_t = RoleArg::Analyst)]
    role: RoleArg,
    /// The person's or program's name
    #[arg(long, default_value = "")]
    name: String,
    /// Allow sending readings
    #[arg(long)]
    ingest: bool,
}

#[derive(Debug, Args)]
struct ChangeArgs {
    /// The user's e-mail address
    email: String,
    /// The role of the user
    #[arg(long, value_enum, required_unless_present_any = ["name", "ingest"])]
    role: Option<RoleArg>,
    /// The person's or program's name
    #[arg(long)]
    name: Option<String>,
    /// Whether the user may send readings
    #[arg(long, value_enum, value_name = "on|off")]
    ingest: Option<Switch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    Admin,
    Analyst,
    Service,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Admin => Self::Admin,
            RoleArg::Analyst => Self::Analyst,
            RoleArg::Service => Self::Service,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl RunCommand for UserArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let mut own_password = None;
        let office = match &self.action {
            Action::Passwd { email } if self.server.is_user(email) => {
                let (office, password) =
                    AdminTarget::open_with_password(&context, &self.server).await?;
                own_password = Some(password);
                office
            }
            _ => AdminTarget::open(&context, &self.server).await?,
        };
        let command = Command {
            target: office,
            json: self.json,
            context,
        };
        match self.action {
            Action::Create(args) => command.create(args).await?,
            Action::List { org } => command.list(org).await?,
            Action::Passwd { email } => match own_password {
                Some(current) => command.change_own_password(email, current).await?,
                None => command.set_password(email).await?,
            },
            Action::Change(args) => command.change(args).await?,
            Action::Deactivate { email } => command.set_active(email, false).await?,
            Action::Activate { email } => command.set_active(email, true).await?,
            Action::Remove { email } => command.remove(email).await?,
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
        let email = Email::parse(&args.email).map_err(|error| Exit::Usage.wrap(error))?;
        let organisation = check_name(args.org)?;
        if organisation.is_none() && self.target.is_local() {
            return Err(Exit::Usage.wrap(anyhow::anyhow!(
                "no organisation is given; name it with --org"
            )));
        }
        let role = Role::from(args.role);
        let password = if role.has_password() {
            Some(self.new_password("password", email.as_str()).await?)
        } else {
            None
        };
        let order = AdminCommand::CreateUser {
            organisation,
            email: email.as_str().to_owned(),
            name: args.name,
            role,
            password,
            may_ingest: args.ingest,
        };
        let (user, _) = self.user(order).await?;
        let next = match role {
            Role::Service => "; create a key with `plantlake key create`",
            _ => "",
        };
        self.print_result(
            &user,
            &format!(
                "created {role} {} of {}{next}",
                user.email, user.organisation
            ),
        )
    }

    async fn new_password(&self, what: &'static str, email: &str) -> anyhow::Result<String> {
        let password = read_secret(&self.context, what, true).await?;
        check_new_password(&password, email).map_err(|error| Exit::Usage.wrap(error))?;
        Ok(password)
    }

    async fn list(&self, org: Option<String>) -> anyhow::Result<()> {
        let organisation = check_name(org)?;
        let AdminOutcome::Users { users } = self
            .target
            .run(AdminCommand::Users { organisation })
            .await?
        else {
            return Err(unexpected_outcome());
        };
        if self.json {
            return self.print(&serde_json::to_value(&users)?);
        }
        if users.is_empty() {
            return Ok(self
                .context
                .terminal
                .line("No users; `plantlake user create` creates one.")?);
        }
        Ok(self.context.terminal.table(&table(&users, true))?)
    }

    async fn set_password(&self, email: String) -> anyhow::Result<()> {
        // Checked first, so that nobody types a password for a user who does not exist or has none.
        let (user, _) = self.user(AdminCommand::User { email }).await?;
        if !user.role.has_password() {
            anyhow::bail!(
                "cannot set a password for {}: a service has API keys only",
                user.email
            );
        }
        let order = AdminCommand::SetPassword {
            password: self.new_password("password", &user.email).await?,
            email: user.email,
        };
        let (user, _) = self.user(order).await?;
        self.print_result(
            &user,
            &format!(
                "set the password of {}; older sessions have ended",
                user.email
            ),
        )
    }

    /// Changes the password of the user who is signed in.
    async fn change_own_password(&self, email: String, current: String) -> anyhow::Result<()> {
        let new = self.new_password("new password", &email).await?;
        let (user, _) = self
            .user(AdminCommand::ChangeOwnPassword { current, new })
            .await?;
        self.print_result(
            &user,
            &format!("set the password of {}; sign in again with it", user.email),
        )
    }

    async fn change(&self, args: ChangeArgs) -> anyhow::Result<()> {
        let order = AdminCommand::ChangeUser {
            email: args.email,
            role: args.role.map(Role::from),
            name: args.name,
            may_ingest: args.ingest.map(|switch| switch == Switch::On),
        };
        let (user, _) = self.user(order).await?;
        let ingest = if user.may_ingest { "may" } else { "may not" };
        self.print_result(
            &user,
            &format!(
                "{} is {} now, and {ingest} send readings",
                user.email, user.role
            ),
        )
    }

    async fn set_active(&self, email: String, active: bool) -> anyhow::Result<()> {
        let (user, changed) = self
            .user(AdminCommand::SetUserActive { email, active })
            .await?;
        let state = if active { "active" } else { "deactivated" };
        let before = if changed { "" } else { " already" };
        self.print_result(&user, &format!("{} is {state}{before}", user.email))
    }

    async fn remove(&self, email: String) -> anyhow::Result<()> {
        let (user, _) = self.user(AdminCommand::RemoveUser { email }).await?;
        if self.json {
            return self.print(&json!({"id": user.id, "email": user.email, "removed": true}));
        }
        Ok(self.context.terminal.line(&format!(
            "removed {} from {}",
            user.email, user.organisation
        ))?)
    }

    /// Returns the user that the order concerns, and whether the order changed anything.
    async fn user(&self, order: AdminCommand) -> anyhow::Result<(User, bool)> {
        match self.target.run(order).await? {
            AdminOutcome::User { user, changed } => Ok((user, changed)),
            _ => Err(unexpected_outcome()),
        }
    }

    fn print_result(&self, user: &User, text: &str) -> anyhow::Result<()> {
        if self.json {
            return self.print(&serde_json::to_value(user)?);
        }
        Ok(self.context.terminal.line(text)?)
    }

    fn print(&self, value: &serde_json::Value) -> anyhow::Result<()> {
        Ok(self.context.terminal.line(&value.to_string())?)
    }
}

/// Returns the users as a table, with their organisations if `with_organisation` is set.
pub(super) fn table(users: &[User], with_organisation: bool) -> Table {
    let mut head = vec![
        "user",
        "name",
        "role",
        "ingest",
        "inactive",
        "last sign-in",
        "created",
    ];
    if with_organisation {
        head.insert(1, "organisation");
    }
    let mut table = Table::new(head);
    for user in users {
        let mut row = vec![
            user.email.clone(),
            user.name.clone(),
            user.role.to_string(),
            yes_or_blank(user.may_ingest).to_owned(),
            yes_or_blank(!user.active).to_owned(),
            format_optional_minute(user.last_sign_in_at),
            format_minute(user.created_at),
        ];
        if with_organisation {
            row.insert(1, user.organisation.clone());
        }
        table.row(row);
    }
    table
}
