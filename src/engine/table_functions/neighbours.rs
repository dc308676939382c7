//! The table function `neighbours('asset' [, hops])`: the assets near an asset.

use super::function::{Implementation, TableFunction};
use super::reached_assets::ReachedAssets;
use super::signature::{ArgumentType, FunctionSignature};

pub(super) static NEIGHBOURS: TableFunction = TableFunction {
    signature: FunctionSignature {
        name: "neighbours",
        parameters: &[
            ("asset", ArgumentType::Text),
            ("hops", ArgumentType::Integer),
        ],
        required: 1,
        example: "neighbours('R-101', 2)",
    },
    documentation: "[assets near an asset](catalog.md#the-graph); `hops` up to 100",
    implementation: Implementation::Catalog(|catalog, arguments| {
        let signature = &NEIGHBOURS.signature;
        ReachedAssets::table(signature, catalog, arguments, |topology, asset, hops| {
            topology.neighbours(asset, hops.unwrap_or(1))
        })
    }),
};
