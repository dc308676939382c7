//! New organisation databases: SQLite files, and databases of a private Postgres server that ends with this
//! process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use plantlake::config::{DatabaseUrl, Inputs, Settings, load};
use plantlake::model::{Email, OrganisationId, Role};
use plantlake::store::{
    Actor, NewOrganisation, NewUser, Organisation, OrganisationStore, Profile, User,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// A new database.
pub struct Fresh {
    pub settings: Settings,
    pub kind: Kind,
    _folder: tempfile::TempDir,
}

/// A Postgres server. It ends when `_hold` is closed, at the latest at the end of this process.
struct Postgres {
    url: String,
    _hold: ChildStdin,
    _server: Child,
}

fn postgres() -> &'static str {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    let start = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres");
        let mut server = Command::new(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/postgres starts");
        let mut url = String::new();
        let out = server.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut url).unwrap();
        assert!(
            url.starts_with("postgres://"),
            "tests/postgres did not start a server: see above"
        );
        Postgres {
            url: url.trim().to_owned(),
            _hold: server.stdin.take().unwrap(),
            _server: server,
        }
    };
    &SERVER.get_or_init(start).url
}

pub fn settings(folder: &Path, url: &str) -> Settings {
    let variables = [
        ("PLANTLAKE_ORGANISATION_URL", url.to_owned()),
        ("PLANTLAKE_STATE", folder.display().to_string()),
    ];
    let inputs = Inputs {
        folder: folder.to_owned(),
        environment: variables
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        ..Inputs::default()
    };
    load(&inputs).unwrap().settings
}

impl Fresh {
    pub async fn new(kind: Kind) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let folder = tempfile::tempdir().unwrap();
        let url = match kind {
            Kind::Sqlite => format!("sqlite:{}", folder.path().join("o.db").display()),
            Kind::Postgres => {
                let name = format!("organisation{}", NUMBER.fetch_add(1, Ordering::SeqCst));
                let server = postgres();
                let mut connection = PgConnection::connect(server).await.unwrap();
                let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
                connection.execute(create).await.unwrap();
                let (server, _) = server.rsplit_once('/').unwrap();
                format!("{server}/{name}")
            }
        };
        Self {
            settings: settings(folder.path(), &url),
            kind,
            _folder: folder,
        }
    }

    pub fn url(&self) -> &DatabaseUrl {
        &self.settings.organisation_url
    }

    pub async fn store(&self) -> OrganisationStore {
        OrganisationStore::open(self.url()).await.unwrap().0
    }

    /// Runs SQL on the database, bypassing the store.
    pub async fn sql(&self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.kind {
            Kind::Sqlite => {
                let mut connection = SqliteConnection::connect(self.url().with_password()).await?;
                connection.execute(sql).await.map(|_| ())
            }
            Kind::Postgres => {
                let mut connection = PgConnection::connect(self.url().with_password()).await?;
                connection.execute(sql).await.map(|_| ())
            }
        }
    }
}

/// Runs each test on both databases.
macro_rules! on_both {
    ($($(#[$doc:meta])* async fn $name:ident($fresh:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn check($fresh: $crate::organisation::databases::Fresh) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                check($crate::organisation::databases::Fresh::new($crate::organisation::databases::Kind::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                check($crate::organisation::databases::Fresh::new($crate::organisation::databases::Kind::Postgres).await).await;
            }
        }
    )*};
}
pub(crate) use on_both;

pub fn actor() -> Actor {
    Actor("operator test on here".to_owned())
}

pub async fn organisation(store: &OrganisationStore, name: &str, user_limit: i64) -> Organisation {
    let new = NewOrganisation {
        name: name.to_owned(),
        profile: Profile::default(),
        user_limit,
    };
    store.create_organisation(&actor(), new).await.unwrap()
}

pub fn new_user(organisation: OrganisationId, email: &str) -> NewUser {
    NewUser {
        organisation,
        email: Email::parse(email).unwrap(),
        name: String::new(),
        role: Role::Analyst,
        password_hash: None,
        may_ingest: false,
    }
}

pub async fn user(store: &OrganisationStore, organisation: OrganisationId, email: &str) -> User {
    store
        .create_user(&actor(), new_user(organisation, email))
        .await
        .unwrap()
}
