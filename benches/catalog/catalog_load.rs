//! Measures how long it takes to load a catalog and to resolve grants against it:
//! `cargo run --release --example catalog_load FOLDER`.
//!
//! `benches/catalog` generates the catalog and prints the figures.

#![allow(clippy::print_stdout, reason = "a tool for benchmarks")]

use std::path::Path;

use plantlake::catalog::{Asset, Catalog, VisibleAssets};
use plantlake::clock::Stopwatch;
use plantlake::model::Grant;

const REPEATS: usize = 5;

/// Returns the median time of [`REPEATS`] runs in milliseconds, and the number of allowed assets.
fn resolve(assets: &[Asset], grants: &[Grant]) -> (f64, usize) {
    let mut times = Vec::new();
    let mut allowed = 0;
    for _ in 0..REPEATS {
        let watch = Stopwatch::start();
        allowed = match VisibleAssets::resolve(assets, grants) {
            VisibleAssets::All => assets.len(),
            VisibleAssets::Only(ids) => ids.len(),
        };
        times.push(watch.seconds() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    (times.get(REPEATS / 2).copied().unwrap_or_default(), allowed)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args()
        .nth(1)
        .ok_or("usage: catalog_load FOLDER")?;
    let watch = Stopwatch::start();
    let catalog = Catalog::read(Path::new(&folder))?;
    let load = watch.seconds();
    println!(
        "load      {load:.3} s  {} assets, {} edges",
        catalog.assets.len(),
        catalog.graph.edges.len()
    );
    let every = |step: usize| catalog.assets.iter().step_by(step);
    let mut types: Vec<Grant> = every(1)
        .map(|asset| Grant::Type(asset.kind.clone()))
        .collect();
    types.sort();
    types.dedup();
    let mut places: Vec<Grant> = every(1)
        .map(|asset| Grant::Location(asset.location.clone()))
        .collect();
    places.sort();
    places.dedup();
    let site = catalog
        .assets
        .first()
        .and_then(|asset| Grant::location_parts(&asset.location).next());
    for (name, grants) in [
        (
            "one location",
            site.map(|site| Grant::Location(site.to_owned()))
                .into_iter()
                .collect(),
        ),
        (
            "1,000 locations",
            places
                .iter()
                .step_by(places.len().div_ceil(1_000))
                .cloned()
                .collect(),
        ),
        (
            "100 starts of text",
            places
                .iter()
                .step_by(places.len().div_ceil(100))
                .map(|grant| Grant::Location(format!("{}*", grant.value())))
                .collect(),
        ),
        ("all types", types),
        (
            "every tenth id",
            every(10)
                .map(|asset| Grant::Asset(asset.id))
                .collect::<Vec<Grant>>(),
        ),
    ] {
        let (milliseconds, allowed) = resolve(&catalog.assets, &grants);
        println!(
            "{name:<20}{milliseconds:>7.1} ms  {:>6} grants allow {allowed} assets",
            grants.len()
        );
    }
    Ok(())
}
