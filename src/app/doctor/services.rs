//! Checks the databases, the search index, and the models.

use super::clocks::Clocks;
use super::finding::Finding;
use crate::app::search::{index_folder, models};
use crate::config::{DatabaseKind, Settings};
use crate::mirror;
use crate::model::with_causes;
use crate::search::index::{QdrantIndex, VectorIndex};
use crate::search::models::{ModelStatus, ModelUse};
use crate::store::ServerFacts;
use crate::store::examine;

/// The oldest tested version of Postgres, in the format of `server_version_num`.
const MIN_POSTGRES_VERSION: i64 = 140_000;

pub(super) async fn check(settings: &Settings, clocks: &mut Clocks) -> Vec<Finding> {
    let mut findings = vec![check_organisations(settings, clocks).await];
    findings.extend(check_mirror(settings, clocks).await);
    findings.push(check_index(settings).await);
    findings.extend(check_models(settings).await);
    findings
}

async fn check_organisations(settings: &Settings, clocks: &mut Clocks) -> Finding {
    let what = "organisations";
    let url = &settings.organisation_url;
    let examined = match examine(url).await {
        Ok(examined) => examined,
        Err(error) => {
            let todo = match url.kind() {
                DatabaseKind::Sqlite(_) => {
                    "give the user that runs plantlake read and write access to that file"
                }
                DatabaseKind::Postgres => {
                    "start the server, create the database, or correct `organisation_url` and its password"
                }
            };
            return Finding::failed(what, &error, todo);
        }
    };
    let mut place = url.to_string();
    if let Some(server) = &examined.server {
        clocks.add_clock("the organisation database's clock", server.now);
        if let Some(wrong) =
            check_postgres_server(what, server, examined.schema != Some(examined.newest))
        {
            return wrong;
        }
        place = format!("{place}, Postgres {}", server.version);
    }
    match (examined.schema, examined.newest) {
        (None, _) => Finding::right(
            what,
            format!("{place}; its tables will be created on first use"),
        ),
        (Some(made), newest) if made > newest => Finding::wrong(
            what,
            format!(
                "{place} has schema {made} of a later plantlake; this version supports {newest}"
            ),
            "use that version of plantlake, or another database",
        ),
        (Some(made), newest) if made < newest => Finding::note(
            what,
            format!("{place} has schema {made}; the current schema is {newest}"),
            "back it up, then run `plantlake migrate`; every command that uses the database also migrates it",
        ),
        (Some(made), _) => match examined.senders_without_write_grant.as_slice() {
            [] => Finding::right(what, format!("{place}, schema {made}")),
            senders => Finding::note(
                what,
                format!(
                    "organisations whose users may send readings have no write grant: {}",
                    senders.join(", ")
                ),
                "`plantlake org grant ORGANISATION … --write` for the assets that they may send for, or `plantlake user change … --ingest off`",
            ),
        },
    }
}

/// Returns a finding if a Postgres server cannot be used. `is_new` says that tables must be created in it.
fn check_postgres_server(
    what: &'static str,
    server: &ServerFacts,
    is_new: bool,
) -> Option<Finding> {
    if server.number < MIN_POSTGRES_VERSION {
        return Some(Finding::wrong(
            what,
            format!("Postgres {} is too old", server.version),
            format!("upgrade it to {} or later", MIN_POSTGRES_VERSION / 10_000),
        ));
    }
    if server.is_standby {
        return Some(Finding::wrong(
            what,
            "the server is a read-only standby",
            "set the URL of the primary",
        ));
    }
    (is_new && !server.may_create).then(|| {
        Finding::wrong(
            what,
            "its tables must be created, but this user has no permission to create tables",
            "as the database's owner: GRANT CREATE ON SCHEMA public TO that user",
        )
    })
}

async fn check_mirror(settings: &Settings, clocks: &mut Clocks) -> Option<Finding> {
    let what = "mirror";
    let url = settings.mirror_url.as_ref()?;
    let (server, status) = match mirror::examine(url).await {
        Ok(examined) => examined,
        Err(error) => {
            let todo =
                "start the server, create the database, or correct `mirror_url` and its password";
            return Some(Finding::failed(what, &error, todo));
        }
    };
    clocks.add_clock("the mirror's clock", server.now);
    if let Some(wrong) = check_postgres_server(what, &server, status.run.is_none()) {
        return Some(wrong);
    }
    let place = format!("{url}, Postgres {}", server.version);
    Some(match (status.run, &status.mirrored_at) {
        (Some(run), Some(at)) => {
            Finding::right(what, format!("{place}; run {run}, mirrored at {at}"))
        }
        _ => Finding::note(
            what,
            format!("{place}; nothing mirrored yet"),
            "`plantlake mirror`",
        ),
    })
}

async fn check_index(settings: &Settings) -> Finding {
    let what = "search index";
    let Some(url) = &settings.qdrant.url else {
        let folder = index_folder(settings);
        let is_there = if folder.exists() {
            "in"
        } else {
            "will be created on first use, in"
        };
        return Finding::right(what, format!("{is_there} {}", folder.display()));
    };
    let qdrant = &settings.qdrant;
    let connected = QdrantIndex::connect(
        url.as_str(),
        qdrant.api_key.as_ref().map(|key| key.expose()),
        &qdrant.collection,
        qdrant.timeout.to_std().unwrap_or_default(),
    );
    let asked = match connected {
        Ok(index) => index.active_collection().await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(Some(collection)) => {
            Finding::right(what, format!("{url} has the collection {collection}"))
        }
        Ok(None) => Finding::right(what, format!("{url}; will be filled on first use")),
        Err(error) => Finding::failed(
            what,
            &error,
            "start the server, or correct `qdrant_url` and `qdrant_api_key`",
        ),
    }
}

async fn check_models(settings: &Settings) -> Vec<Finding> {
    let settings = models(settings).settings().clone();
    // The check reads all files of the models.
    let looked = tokio::task::spawn_blocking(move || {
        ModelUse::ALL.map(|what| {
            let name = settings.name(what).to_owned();
            (what, name, settings.status(what))
        })
    });
    let Ok(looked) = looked.await else {
        return Vec::new();
    };
    let finding = |(which, name, standing): (ModelUse, String, ModelStatus)| {
        let (what, without) = match which {
            ModelUse::BiEncoder => ("bi-encoder", "search uses keywords only"),
            ModelUse::CrossEncoder => ("cross-encoder", "results are not re-ranked"),
        };
        match standing {
            ModelStatus::Valid { .. } => {
                Finding::right(what, format!("{name}, unchanged since it was fetched"))
            }
            ModelStatus::Missing => Finding::note(
                what,
                format!("{name} is not installed: {without}"),
                "`plantlake models fetch`",
            ),
            ModelStatus::Invalid(error) => Finding::wrong(
                what,
                with_causes(&error),
                "remove its folder, and run `plantlake models fetch`",
            ),
        }
    };
    looked.into_iter().map(finding).collect()
}
