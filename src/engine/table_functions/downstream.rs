//! The table function `downstream('asset' [, hops])`: the assets downstream of an asset.

use super::function::{Implementation, TableFunction};
use super::reached_assets::ReachedAssets;
use super::signature::{ArgumentType, FunctionSignature};
use crate::catalog::FlowDirection;

pub(super) static DOWNSTREAM: TableFunction = TableFunction {
    signature: FunctionSignature {
        name: "downstream",
        parameters: &[
            ("asset", ArgumentType::Text),
            ("hops", ArgumentType::Integer),
        ],
        required: 1,
        example: "downstream('R-101')",
    },
    documentation: "the assets that an asset flows into",
    implementation: Implementation::Catalog(|catalog, arguments| {
        let signature = &DOWNSTREAM.signature;
        ReachedAssets::table(signature, catalog, arguments, |topology, asset, hops| {
            topology.follow_flow(asset, FlowDirection::Downstream, hops.unwrap_or(usize::MAX))
        })
    }),
};
