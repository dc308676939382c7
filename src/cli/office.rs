//! Where work is done: here, by an operator, or by a server, for those whom it lets in.

use clap::Args;

use super::administration::{open, operator, read_secret};
use super::{Context, Exit};
use crate::auth::{Administrator, AuthError, Order, Outcome, Passwords};
use crate::flight::{Credential, RemoteServer};

/// Which server, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "From afar")]
pub(super) struct ServerArgs {
    /// A server to ask, instead of what is here: grpc://HOST:PORT or grpc+tls://HOST:PORT
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// Who asks; the password is asked for. Without it: an API key or access token is asked for
    #[arg(
        id = "as",
        long = "as",
        global = true,
        value_name = "EMAIL",
        requires = "server"
    )]
    user: Option<String>,
    /// Certificates to trust, PEM, instead of the system's
    #[arg(long, global = true, value_name = "FILE", requires = "server")]
    server_ca: Option<std::path::PathBuf>,
}

impl ServerArgs {
    /// Signs in to the server, if one is named: the secret is typed, or the first line of standard input.
    pub async fn connect(&self, context: &Context) -> anyhow::Result<Option<RemoteServer>> {
        Ok(self.sign_in(context).await?.map(|(server, _)| server))
    }

    /// Whether a server is named.
    pub fn is_given(&self) -> bool {
        self.server.is_some()
    }

    /// Whether the one who asks signs in with this address.
    pub fn is_as(&self, email: &str) -> bool {
        let key = |email: &str| email.trim().to_lowercase();
        self.user.as_deref().map(key) == Some(key(email))
    }

    /// Signs in, and keeps the password, if it was one.
    async fn sign_in(
        &self,
        context: &Context,
    ) -> anyhow::Result<Option<(RemoteServer, Option<String>)>> {
        let Some(url) = &self.server else {
            return Ok(None);
        };
        let roots = match &self.server_ca {
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                let text = format!(
                    "the certificates {} cannot be read: {error}",
                    path.display()
                );
                Exit::Usage.because(anyhow::anyhow!(text))
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

/// Carries out orders.
pub(super) enum Office {
    /// On the database of the settings.
    Here(Box<Administrator>),
    /// On a server.
    There(Box<RemoteServer>),
}

impl Office {
    /// Opens the database, or signs in to the server: the secret is typed, or the first line of standard input.
    pub async fn open(context: &Context, args: &ServerArgs) -> anyhow::Result<Self> {
        let Some(there) = args.connect(context).await? else {
            let store = open(context).await?;
            let here = Administrator::operator(store, Passwords::new()?, operator());
            return Ok(Self::Here(Box::new(here)));
        };
        Ok(Self::There(Box::new(there)))
    }

    /// Signs in to the server with a password, which is kept.
    pub async fn open_as(context: &Context, args: &ServerArgs) -> anyhow::Result<(Self, String)> {
        match args.sign_in(context).await? {
            Some((there, Some(password))) => Ok((Self::There(Box::new(there)), password)),
            _ => Err(Exit::Usage.because(anyhow::anyhow!("--as needs --server"))),
        }
    }

    /// Whether orders change the database of the settings.
    pub fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }

    /// Carries out an order.
    pub async fn carry_out(&self, order: Order) -> anyhow::Result<Outcome> {
        match self {
            Self::Here(office) => office.carry_out(order).await.map_err(|error| match error {
                error @ AuthError::UnfitPassword(_) => Exit::Usage.because(error),
                error => error.into(),
            }),
            Self::There(office) => Ok(office.carry_out(&order).await?),
        }
    }
}

/// The organisation that a flag names, if it names one.
pub(super) fn named(name: Option<String>) -> anyhow::Result<Option<String>> {
    if name.as_deref().is_some_and(str::is_empty) {
        let error = anyhow::anyhow!("the organisation's name is empty");
        return Err(Exit::Usage.because(error));
    }
    Ok(name)
}

/// The server answered something else than was asked for.
pub(super) fn unexpected() -> anyhow::Error {
    anyhow::anyhow!("the server's answer is not the expected one; it may be of another version")
}
