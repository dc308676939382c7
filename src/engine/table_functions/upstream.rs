//! The table function `upstream('asset' [, hops])`: the assets upstream of an asset.

use super::function::{Implementation, TableFunction};
use super::reached_assets::ReachedAssets;
use super::signature::{ArgumentType, FunctionSignature};
use crate::catalog::FlowDirection;

pub(super) static UPSTREAM: TableFunction = TableFunction {
    signature: FunctionSignature {
        name: "upstream",
        parameters: &[
            ("asset", ArgumentType::Text),
            ("hops", ArgumentType::Integer),
        ],
        required: 1,
        example: "upstream('R-101')",
    },
    documentation: "the assets that flow into an asset",
    implementation: Implementation::Catalog(|catalog, arguments| {
        let signature = &UPSTREAM.signature;
        ReachedAssets::table(signature, catalog, arguments, |topology, asset, hops| {
            topology.follow_flow(asset, FlowDirection::Upstream, hops.unwrap_or(usize::MAX))
        })
    }),
};
