//! `plantlake org grant` and `org revoke`: manage which assets an organisation may see, and for which it may send
//! readings.

use clap::Args;
use serde_json::json;

use super::org_command::OrgCommand;
use crate::app::SharedWriting;
use crate::catalog::{Asset, Catalog, VisibleAssets};
use crate::cli::administration::operator;
use crate::cli::exit::Exit;
use crate::cli::output::human;
use crate::model::{AssetGrant, Grant, GrantAccess, OrganisationId};
use crate::store::{Organisation, WritingOrganisation};

/// The rules that a command grants or revokes.
#[derive(Debug, Args)]
struct RuleArgs {
    /// The organisation, by name or id
    organisation: String,
    /// Every asset, including those that the catalog does not contain
    #[arg(long)]
    all: bool,
    /// A location and everything inside it; with a star at its end, every location with that prefix
    #[arg(long, value_name = "PLACE")]
    location: Vec<String>,
    /// A type of assets, exactly as in the catalog
    #[arg(long = "type", value_name = "TYPE")]
    r#type: Vec<String>,
    /// One asset, by id
    #[arg(long, value_name = "ID")]
    asset: Vec<String>,
}

/// Arguments of `org grant`.
#[derive(Debug, Args)]
pub(super) struct GrantArgs {
    #[command(flatten)]
    rules: RuleArgs,
    /// Also allow sending readings for these assets, by users and keys with the permission
    #[arg(long)]
    write: bool,
    /// Grant writing even if another organisation may write to the same assets: each can replace the other's readings
    #[arg(long, requires = "write")]
    share_writing: bool,
}

/// Arguments of `org revoke`.
#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    rules: RuleArgs,
    /// Revoke writing only; the assets stay visible
    #[arg(long)]
    write: bool,
}

impl RuleArgs {
    fn rules(&self) -> anyhow::Result<Vec<Grant>> {
        let all = self.all.then_some(("all", ""));
        let each = |kind, values: &'_ [String]| -> Vec<(&'static str, String)> {
            values.iter().map(|value| (kind, value.clone())).collect()
        };
        let rules: Vec<Grant> = all
            .map(|(kind, value)| (kind, value.to_owned()))
            .into_iter()
            .chain(each("location", &self.location))
            .chain(each("type", &self.r#type))
            .chain(each("asset", &self.asset))
            .map(|(kind, value)| {
                Grant::parse(kind, &value).map_err(|error| Exit::Usage.wrap(error))
            })
            .collect::<anyhow::Result<_>>()?;
        if rules.is_empty() {
            return Err(Exit::Usage.wrap(anyhow::anyhow!(
                "no assets are given; add --location, --type or --asset (each may be repeated), or --all"
            )));
        }
        Ok(rules)
    }
}

const fn access(write: bool) -> GrantAccess {
    match write {
        true => GrantAccess::Write,
        false => GrantAccess::Read,
    }
}

impl OrgCommand {
    pub(super) async fn grant(&self, args: &GrantArgs) -> anyhow::Result<()> {
        let rules = args.rules.rules()?;
        let organisation = self.store.organisation(&args.rules.organisation).await?;
        let access = access(args.write);
        let catalog = Catalog::read(&self.context.settings.catalog).ok();
        let assets = catalog.as_ref().map(|catalog| catalog.assets.as_slice());
        let check = |others: &[WritingOrganisation]| match args.share_writing {
            true => Ok(()),
            false => check_shared_writing(&organisation.name, &rules, others, assets),
        };
        let (actor, id) = (operator(), organisation.id);
        let granting = self.store.grant_access(&actor, id, &rules, access, check);
        let added = granting.await?;
        for rule in rules.iter().filter(|rule| !added.contains(rule)) {
            let grant = AssetGrant {
                rule: rule.clone(),
                access,
            };
            self.context
                .terminal
                .note(&format!("{} already has {grant}", organisation.name));
        }
        self.report(&organisation, "granted", &added, access).await
    }

    pub(super) async fn revoke(&self, args: &RevokeArgs) -> anyhow::Result<()> {
        let rules = args.rules.rules()?;
        let organisation = self.store.organisation(&args.rules.organisation).await?;
        let (actor, id) = (operator(), organisation.id);
        match args.write {
            true => self.store.revoke_writing(&actor, id, &rules).await?,
            false => self.store.revoke_grants(&actor, id, &rules).await?,
        }
        let access = access(args.write);
        self.report(&organisation, "revoked", &rules, access).await
    }

    /// Warns about other organisations that may write to the same assets: assets added since may match the rules of
    /// both.
    pub(super) async fn warn_of_shared_writing(
        &self,
        organisation: OrganisationId,
        rules: &[Grant],
        assets: Option<&[Asset]>,
    ) -> anyhow::Result<()> {
        let others = self.store.writing_organisations().await?;
        let others = others.iter().filter(|other| other.id != organisation);
        for shared in others.filter_map(|other| SharedWriting::find(rules, other, assets)) {
            self.context.terminal.warn(&format!(
                "{shared} may write to the same assets; of two readings of the same asset and time, the one sent later counts"
            ));
        }
        Ok(())
    }

    /// Prints the granted or revoked rules, and the current access of the organisation.
    async fn report(
        &self,
        organisation: &Organisation,
        done: &'static str,
        rules: &[Grant],
        access: GrantAccess,
    ) -> anyhow::Result<()> {
        let now = self.store.asset_grants(organisation.id).await?;
        let catalog = Catalog::read(&self.context.settings.catalog);
        let counted = |access| {
            let rules = AssetGrant::rules(&now, access);
            let catalog = catalog.as_ref().ok();
            catalog.map(|catalog| count(&catalog.assets, &rules))
        };
        let (sees, writes) = (counted(GrantAccess::Read), counted(GrantAccess::Write));
        if self.json {
            let printed = json!({
                "organisation": organisation.name, done: rules, "access": access, "grants": now,
                "assets_visible": sees, "assets_writable": writes,
            });
            return self.print_json(&printed);
        }
        for rule in rules {
            self.print_line(&match (done, access) {
                ("revoked", GrantAccess::Write) => format!("revoked writing to {rule}"),
                _ => {
                    let rule = rule.clone();
                    format!("{done} {}", AssetGrant { rule, access })
                }
            })?;
        }
        if let (Ok(catalog), Some(sees), Some(writes)) = (&catalog, sees, writes) {
            let all = human::count(catalog.assets.len() as u64);
            let writes = match writes {
                0 => String::new(),
                some => format!(", and may send readings for {}", human::count(some as u64)),
            };
            self.print_line(&format!(
                "{} sees {} of {all} assets now{writes}",
                organisation.name,
                human::count(sees as u64),
            ))?;
            for rule in rules.iter().filter(|_| done == "granted") {
                if count(&catalog.assets, std::slice::from_ref(rule)) == 0 {
                    self.context
                        .terminal
                        .warn(&format!("{rule}: the catalog has no such asset yet"));
                }
            }
        }
        Ok(())
    }
}

/// Refuses writing to assets that another organisation may write to already.
fn check_shared_writing(
    organisation: &str,
    rules: &[Grant],
    others: &[WritingOrganisation],
    assets: Option<&[Asset]>,
) -> Result<(), String> {
    let shared = others
        .iter()
        .filter_map(|other| SharedWriting::find(rules, other, assets));
    let shared: Vec<String> = shared.map(|shared| shared.to_string()).collect();
    if shared.is_empty() {
        return Ok(());
    }
    Err(format!(
        "cannot grant writing to {organisation:?}: others may write to the same assets: {}; of two readings of the same asset \
         and time, the one sent later counts, so each could replace the other's. Revoke their write grant \
         (`plantlake org revoke … --write`), grant a narrower rule, or add --share-writing if all of them may write",
        shared.join(", ")
    ))
}

/// Returns the number of assets that the rules allow.
pub(super) fn count(assets: &[Asset], rules: &[Grant]) -> usize {
    match VisibleAssets::resolve(assets, rules) {
        VisibleAssets::All => assets.len(),
        VisibleAssets::Only(ids) => ids.len(),
    }
}

/// Summarises the rules in a few words.
pub(super) fn summary(rules: &[Grant]) -> String {
    match rules {
        [] => "nothing".to_owned(),
        [only] => only.to_string(),
        _ if rules.contains(&Grant::All) => Grant::All.to_string(),
        many => human::counted(many.len() as u64, "grant"),
    }
}
