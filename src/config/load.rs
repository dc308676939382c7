//! Loading: reads every source in the order of precedence, and validates the result.

use super::error::{ConfigError, Origin};
use super::output::report;
use super::output::report::EffectiveSetting;
use super::redact;
use super::settings::Settings;
use super::sources::inputs::Inputs;
use super::sources::{dotenv, environment, file, legacy_variables};
use super::spec::SETTINGS;
use super::spec::setting::RawSettings;
use super::values::secret::is_secret;
use super::values::storage;

/// Settings, with the origin of each.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The validated settings.
    pub settings: Settings,
    /// The values in force with their origins, in the table's order.
    pub effective: Vec<EffectiveSetting>,
}

/// Reads every source and validates the result.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
    let mut raw = RawSettings::default();
    file::read(inputs, &mut raw)?;
    let mut parts = legacy_variables::LegacyVariables::default();
    dotenv::read(inputs, &mut raw, &mut parts)?;
    environment::read(inputs, &mut raw, &mut parts)?;
    for given in &inputs.overrides {
        raw.put(given.key, given.value.clone(), Origin::Flag(given.flag))?;
    }
    // Secrets are registered first, so that no error message about another setting reveals one.
    redact::register_secrets(values(&raw));
    let settings = Settings::from_raw(&raw)?;
    Ok(Loaded {
        effective: report::effective_settings(&raw),
        settings,
    })
}

/// Returns the text of every setting, and whether it is a secret as a whole.
fn values(raw: &RawSettings) -> impl Iterator<Item = (String, bool)> {
    let table = SETTINGS
        .iter()
        .map(|about| (raw.effective_value(about).text, is_secret(about.key)));
    let storage = raw
        .storage()
        .map(|(name, value)| (value.text.clone(), storage::is_secret(name)));
    table.chain(storage)
}
