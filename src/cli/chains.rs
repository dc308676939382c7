//! Shared code of the commands that verify the hash chains over the audit trail and the ledger.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::exit::Exit;
use super::output::{Table, human};
use super::run_command::Context;
use crate::model::read_text;
use crate::store::{ChainHeads, ChainVerification};

/// The exported head to compare with.
#[derive(Debug, Args)]
pub(super) struct HeadArgs {
    /// Compare with a head that `plantlake audit head --json` exported earlier, to detect a chain that was truncated or
    /// rebuilt
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
}

impl HeadArgs {
    /// Reads the file, if one is given.
    pub fn read(&self) -> anyhow::Result<Option<ChainHeads>> {
        self.head.as_deref().map(read).transpose()
    }
}

fn read(path: &Path) -> anyhow::Result<ChainHeads> {
    let read = || {
        let text = read_text(path)?;
        ChainHeads::parse(&text).map_err(anyhow::Error::msg)
    };
    read()
        .with_context(|| {
            format!(
                "cannot read the head {}: it must be a file that `plantlake audit head --json` wrote",
                path.display()
            )
        })
        .map_err(|error| Exit::Usage.wrap(error))
}

/// Whether no chain has findings.
pub(super) fn are_intact(found: &[ChainVerification]) -> bool {
    found.iter().all(|chain| chain.findings.is_empty())
}

/// Shows a line for each chain, and then the findings.
pub(super) fn print_chains(context: &Context, found: &[ChainVerification]) -> anyhow::Result<()> {
    let head = ["organisation", "chain", "records", "last hash", "intact"];
    let mut table = Table::new(head).numbers([2]);
    for chain in found {
        let findings = chain.findings.len() as u64 + chain.more_findings;
        table.row([
            organisation_name(chain),
            chain.chain.to_string(),
            human::count(chain.records),
            chain.end.hash.chars().take(12).collect(),
            match (chain.begun, findings) {
                (true, 0) => "yes".to_owned(),
                (false, 0) => "not started".to_owned(),
                (_, findings) => human::counted(findings, "finding"),
            },
        ]);
    }
    context.terminal.table(&table)?;
    print_findings(context, found)
}

/// Shows the findings of all chains.
pub(super) fn print_findings(context: &Context, found: &[ChainVerification]) -> anyhow::Result<()> {
    for chain in found {
        let of = format!("{}, {}", organisation_name(chain), chain.chain);
        for finding in &chain.findings {
            context.terminal.line(&format!("{of}: {}", finding.text))?;
        }
        if chain.more_findings > 0 {
            let more = chain.more_findings;
            context
                .terminal
                .line(&format!("{of}: and {more} more findings"))?;
        }
    }
    Ok(())
}

fn organisation_name(chain: &ChainVerification) -> String {
    match (&chain.organisation, chain.organisation_id) {
        (Some(name), _) => name.clone(),
        (None, Some(id)) => id.to_string(),
        (None, None) => "(no organisation)".to_owned(),
    }
}
