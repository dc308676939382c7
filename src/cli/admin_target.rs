//! Runs an administration command locally as the operator, or against a remote server as one of its users.

use clap::Args;

use super::administration::{open_existing, operator, read_secret};
use super::exit::Exit;
use super::run_command::Context;
use crate::auth::{AdminCommand, AdminOutcome, Administrator, AuthError, Passwords};
use crate::server::{Credential, RemoteServer};

/// The remote server, and the user that signs in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Remote server")]
pub(super) struct ServerArgs {
    /// A server to use instead of the local data: grpc://HOST:PORT or grpc+tls://HOST:PORT
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// The user to sign in as, with a prompt for the password. Without it: a prompt for an API key or access token
    #[arg(
        id = "as",
        long = "as",
        global = true,
        value_name = "EMAIL",
        requires = "server"
    )]
    user: Option<String>,
    /// A PEM file of certificates to trust instead of the system's
    #[arg(long, global = true, value_name = "FILE", requires = "server")]
    server_ca: Option<std::path::PathBuf>,
}

impl ServerArgs {
    /// Signs in to the server, if one is given. The secret is typed, or is the first line of standard input.
    pub async fn connect(&self, context: &Context) -> anyhow::Result<Option<RemoteServer>> {
        Ok(self.sign_in(context).await?.map(|(server, _)| server))
    }

    /// Whether a server is given.
    pub fn is_given(&self) -> bool {
        self.server.is_some()
    }

    /// Whether the user signs in with this e-mail address.
    pub fn is_user(&self, email: &str) -> bool {
        let key = |email: &str| email.trim().to_lowercase();
        self.user.as_deref().map(key) == Some(key(email))
    }

    /// Signs in, and returns the password as well, if one was used.
    async fn sign_in(
        &self,
        context: &Context,
    ) -> anyhow::Result<Option<(RemoteServer, Option<String>)>> {
        let Some(url) = &self.server else {
            return Ok(None);
        };
        let roots = match &self.server_ca {
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                let text = format!("cannot read the certificates {}: {error}", path.display());
                Exit::Usage.wrap(anyhow::anyhow!(text))
            })?),
            None => None,
        };
        let mut typed = None;
        let credential = match &self.user {
            Some(email) => Credential::Password {
                email: email.clone(),
                password: typed
                    .insert(read_secret(context, "your password", false).await?)
                    .clone(),
            },
            None => Credential::Bearer(
                read_secret(context, "your API key or access token", false).await?,
            ),
        };
        let server = RemoteServer::connect(url, roots.as_deref(), credential).await?;
        Ok(Some((server, typed)))
    }
}

/// The target of administration commands.
pub(super) enum AdminTarget {
    /// The database of the settings.
    Local(Box<Administrator>),
    /// A remote server.
    Remote(Box<RemoteServer>),
}

impl AdminTarget {
    /// Opens the database, or signs in to the server. The secret is typed, or is the first line of standard input.
    pub async fn open(context: &Context, args: &ServerArgs) -> anyhow::Result<Self> {
        let Some(there) = args.connect(context).await? else {
            let store = open_existing(context).await?;
            let here = Administrator::operator(store, Passwords::new()?, operator());
            return Ok(Self::Local(Box::new(here)));
        };
        Ok(Self::Remote(Box::new(there)))
    }

    /// Signs in to the server with a password, and returns the password as well.
    pub async fn open_with_password(
        context: &Context,
        args: &ServerArgs,
    ) -> anyhow::Result<(Self, String)> {
        match args.sign_in(context).await? {
            Some((there, Some(password))) => Ok((Self::Remote(Box::new(there)), password)),
            _ => Err(Exit::Usage.wrap(anyhow::anyhow!("--as requires --server"))),
        }
    }

    /// Whether the target is the database of the settings.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Executes an order.
    pub async fn run(&self, order: AdminCommand) -> anyhow::Result<AdminOutcome> {
        match self {
            Self::Local(office) => office.run(order).await.map_err(|error| match error {
                error @ AuthError::UnacceptablePassword(_) => Exit::Usage.wrap(error),
                error => error.into(),
            }),
            Self::Remote(office) => Ok(office.carry_out(&order).await?),
        }
    }
}

/// Returns the organisation that a flag names, if it is given. An empty name is an error.
pub(super) fn check_name(name: Option<String>) -> anyhow::Result<Option<String>> {
    if name.as_deref().is_some_and(str::is_empty) {
        let error = anyhow::anyhow!("the organisation's name is empty");
        return Err(Exit::Usage.wrap(error));
    }
    Ok(name)
}

/// Returns the error that the server's outcome is not of the expected kind.
pub(super) fn unexpected_outcome() -> anyhow::Error {
    anyhow::anyhow!("unexpected response from the server; it may run another version of plantlake")
}
