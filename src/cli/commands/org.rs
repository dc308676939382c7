//! `plantlake org`: manages organisations, how many users they may have, their usage limits (`limit`), and which assets
//! they may see.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::json;

use super::org_command::OrgCommand;
use super::org_grants::{GrantArgs, RevokeArgs, count, summary};
use super::org_limit::{self, LimitArgs};
use crate::catalog::Catalog;
use crate::cli::administration::{
    format_instant, format_minute, open, open_existing, operator, yes_or_blank,
};
use crate::cli::exit::Exit;
use crate::cli::output::{Table, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::model::{AssetGrant, GrantAccess};
use crate::store::{NewOrganisation, Organisation, OrganisationStore, Profile};

const EXAMPLES: &str = "\
An organisation sees no assets until it is granted some. Grants are cumulative: it sees each asset that at least one of them
matches, including assets that are added later. A grant allows reading; with --write, users and keys with the permission
(`plantlake user create … --ingest`) may also send readings for its assets. Only the operator can grant.

Examples:
  plantlake org create \"Northfield Chemicals\" --user-limit 20 --billing-email invoices@northfield.example
  plantlake org grant \"Northfield Chemicals\" --location \"Northfield Works\"
      Grants everything at that site. `--location \"Northfield Works / Unit 1*\"` matches locations with that prefix.
  plantlake org grant \"Northfield Chemicals\" --location \"Northfield Works\" --write
      Also allows its gateways to send readings for that site; these replace readings of the same asset and time.
  plantlake org revoke \"Northfield Chemicals\" --location \"Northfield Works\" --write
      Revokes writing, but not reading.
  plantlake org grant acme --type \"temperature sensor\" --asset a1b2c3d4-e5f6-7890-abcd-ef1234567890
  plantlake org show acme
  plantlake org revoke acme --type \"temperature sensor\"
  plantlake org limit acme --monthly-requests 100000 --monthly-bytes-sent 10GB
      Sets usage limits. `plantlake org limit acme` shows them, and the usage of this month.
  plantlake org list --json | jq '.[].name'";

/// Manage organisations, their limits and their grants of assets
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct OrgArgs {
    #[command(subcommand)]
    action: Action,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create an organisation; it sees nothing until it is granted assets
    Create(CreateArgs),
    /// List the organisations
    List,
    /// Show an organisation: its profile, its users and its grants
    Show {
        /// The organisation, by name or id
        organisation: String,
    },
    /// Change the maximum number of users
    SetLimit {
        /// The organisation, by name or id
        organisation: String,
        /// The maximum number of users; deactivated ones count, removed ones do not
        #[arg(allow_negative_numbers = true)]
        limit: i64,
    },
    /// Show or change the usage limits: requests, concurrent queries, bytes per month
    Limit(LimitArgs),
    /// Grant reading or writing of assets
    Grant(GrantArgs),
    /// Revoke grants
    Revoke(RevokeArgs),
    /// Suspend the access of all its users and keys within seconds
    Deactivate {
        /// The organisation, by name or id
        organisation: String,
    },
    /// Restore the access
    Activate {
        /// The organisation, by name or id
        organisation: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The name; no two organisations have names that differ only in case
    name: String,
    /// The maximum number of users
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        allow_negative_numbers = true
    )]
    user_limit: i64,
    /// The contact: a person or a department
    #[arg(long, default_value = "")]
    contact: String,
    /// The postal address
    #[arg(long, default_value = "")]
    address: String,
    /// The e-mail address for invoices
    #[arg(long, default_value = "")]
    billing_email: String,
}

impl RunCommand for OrgArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let store = match &self.action {
            // The first organisation is created in a new database.
            Action::Create(_) => open(&context).await?,
            _ => open_existing(&context).await?,
        };
        let command = OrgCommand {
            store,
            json: self.json,
            context,
        };
        match self.action {
            Action::Create(args) => command.create(args).await?,
            Action::List => command.list().await?,
            Action::Show { organisation } => command.show(&organisation).await?,
            Action::SetLimit {
                organisation,
                limit,
            } => command.set_limit(&organisation, limit).await?,
            Action::Limit(args) => {
                org_limit::run(&command.context, &command.store, args, self.json).await?;
            }
            Action::Grant(args) => command.grant(&args).await?,
            Action::Revoke(args) => command.revoke(&args).await?,
            Action::Deactivate { organisation } => command.set_active(&organisation, false).await?,
            Action::Activate { organisation } => command.set_active(&organisation, true).await?,
        }
        Ok(Exit::Success)
    }
}

impl OrgCommand {
    async fn create(&self, args: CreateArgs) -> anyhow::Result<()> {
        let new = NewOrganisation {
            name: args.name,
            profile: Profile {
                contact: args.contact,
                address: args.address,
                billing_email: args.billing_email,
            },
            user_limit: args.user_limit,
        };
        let made = self.store.create_organisation(&operator(), new).await?;
        if self.json {
            return self.print_json(&serde_json::to_value(&made)?);
        }
        self.print_line(&format!(
            "created organisation {} ({}) with a limit of {}; it sees nothing until `plantlake org grant`",
            made.name,
            made.id,
            human::counted(made.user_limit.unsigned_abs(), "user")
        ))
    }

    async fn list(&self) -> anyhow::Result<()> {
        let all = self.store.organisations().await?;
        if self.json {
            return self.print_json(&serde_json::to_value(&all)?);
        }
        if all.is_empty() {
            return self.print_line("No organisations; `plantlake org create` creates one.");
        }
        let mut table = Table::new([
            "organisation",
            "users",
            "limit",
            "sees",
            "writes",
            "inactive",
            "created",
        ])
        .numbers([1, 2]);
        for organisation in &all {
            let grants = self.store.asset_grants(organisation.id).await?;
            table.row([
                organisation.name.clone(),
                organisation.users.to_string(),
                organisation.user_limit.to_string(),
                summary(&AssetGrant::rules(&grants, GrantAccess::Read)),
                match AssetGrant::rules(&grants, GrantAccess::Write).as_slice() {
                    [] => String::new(),
                    rules => summary(rules),
                },
                yes_or_blank(!organisation.active).to_owned(),
                format_minute(organisation.created_at),
            ]);
        }
        Ok(self.context.terminal.table(&table)?)
    }

    async fn show(&self, name: &str) -> anyhow::Result<()> {
        let organisation = self.store.organisation(name).await?;
        let grants = self.store.asset_grants(organisation.id).await?;
        let users = self.store.users(Some(organisation.id)).await?;
        let catalog = Catalog::read(&self.context.settings.catalog);
        let assets = catalog.as_ref().map(|catalog| catalog.assets.as_slice());
        let counted = |access| {
            let rules = AssetGrant::rules(&grants, access);
            assets.as_ref().ok().map(|assets| count(assets, &rules))
        };
        let (sees, writes) = (counted(GrantAccess::Read), counted(GrantAccess::Write));
        if self.json {
            let mut printed = serde_json::to_value(&organisation)?;
            printed["grants"] = serde_json::to_value(&grants)?;
            printed["assets_visible"] = json!(sees);
            printed["assets_writable"] = json!(writes);
            printed["assets_in_catalog"] = json!(assets.as_ref().ok().map(|assets| assets.len()));
            printed["members"] = serde_json::to_value(&users)?;
            return self.print_json(&printed);
        }
        for line in profile_lines(&organisation) {
            self.print_line(&line)?;
        }
        match (&assets, sees, writes) {
            (Ok(assets), Some(sees), Some(writes)) => {
                let all = human::count(assets.len() as u64);
                let (sees, writes) = (human::count(sees as u64), human::count(writes as u64));
                self.print_line(&format!("sees      {sees} of {all} assets"))?;
                self.print_line(&format!("writes    {writes} of {all} assets"))?;
            }
            _ => self.print_line("sees      unknown: the catalog cannot be read")?,
        }
        if let Err(error) = &assets {
            self.context.terminal.warn(&error.to_string());
        }
        for grant in &grants {
            let matched = assets
                .as_ref()
                .map(|assets| count(assets, std::slice::from_ref(&grant.rule)));
            let matched = matched.map_or(String::new(), |matched| {
                format!(" ({})", human::counted(matched as u64, "asset"))
            });
            self.print_line(&format!("          {grant}{matched}"))?;
        }
        let writes = AssetGrant::rules(&grants, GrantAccess::Write);
        self.warn_of_shared_writing(organisation.id, &writes, assets.ok())
            .await?;
        if users.is_empty() {
            return Ok(());
        }
        self.print_line("")?;
        Ok(self
            .context
            .terminal
            .table(&super::user::table(&users, false))?)
    }

    async fn set_limit(&self, name: &str, limit: i64) -> anyhow::Result<()> {
        let organisation = self.store.organisation(name).await?;
        let changed = self
            .store
            .set_user_limit(&operator(), organisation.id, limit)
            .await?;
        if self.json {
            return self.print_json(&serde_json::to_value(&changed)?);
        }
        self.print_line(&format!(
            "{} may have {}; it has {}",
            changed.name,
            human::counted(changed.user_limit.unsigned_abs(), "user"),
            changed.users
        ))
    }

    async fn set_active(&self, name: &str, active: bool) -> anyhow::Result<()> {
        let organisation = self.store.organisation(name).await?;
        let changed = self
            .store
            .set_organisation_active(&operator(), organisation.id, active)
            .await?;
        let state = if active { "active" } else { "deactivated" };
        if self.json {
            let printed =
                json!({"organisation": organisation.name, "active": active, "changed": changed});
            return self.print_json(&printed);
        }
        let before = if changed { "" } else { " already" };
        self.print_line(&format!("{} is {state}{before}", organisation.name))
    }
}

fn profile_lines(organisation: &Organisation) -> Vec<String> {
    let profile = &organisation.profile;
    let mut lines = vec![
        format!(
            "name      {}{}",
            organisation.name,
            if organisation.active {
                ""
            } else {
                " (deactivated)"
            }
        ),
        format!("id        {}", organisation.id),
    ];
    for (name, value) in [
        ("contact ", &profile.contact),
        ("address ", &profile.address),
        ("invoices", &profile.billing_email),
    ] {
        if !value.is_empty() {
            lines.push(format!("{name}  {value}"));
        }
    }
    lines.push(format!(
        "created   {}",
        format_instant(organisation.created_at)
    ));
    lines.push(format!(
        "users     {} of {}",
        organisation.users, organisation.user_limit
    ));
    lines
}

/// Returns the organisation that a flag names, if it is given. An empty name is an error.
pub(super) async fn find_organisation(
    store: &OrganisationStore,
    name: Option<&str>,
) -> anyhow::Result<Option<Organisation>> {
    match name {
        Some("") => Err(Exit::Usage.wrap(anyhow!("the organisation's name is empty"))),
        Some(name) => Ok(Some(store.organisation(name).await?)),
        None => Ok(None),
    }
}
