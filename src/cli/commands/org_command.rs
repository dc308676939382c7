//! The context of the actions of `plantlake org`.

use crate::cli::run_command::Context;
use crate::store::OrganisationStore;

/// Runs the actions on the database of the settings.
pub(super) struct OrgCommand {
    pub context: Context,
    pub store: OrganisationStore,
    pub json: bool,
}

impl OrgCommand {
    pub(super) fn print_json(&self, value: &serde_json::Value) -> anyhow::Result<()> {
        Ok(self.context.terminal.line(&value.to_string())?)
    }

    pub(super) fn print_line(&self, text: &str) -> anyhow::Result<()> {
        Ok(self.context.terminal.line(text)?)
    }
}
