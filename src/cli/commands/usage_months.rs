//! The months of `plantlake usage`: their arguments, and the filter for their usage.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::model::{MalformedMonth, Month, OrganisationId};
use crate::store::{ReportBy, ReportFilter};

/// A month, or a range of months.
#[derive(Debug, Clone)]
pub(super) struct Months(pub RangeInclusive<Month>);

/// The error that a text is neither a month nor a range of months.
#[derive(Debug, thiserror::Error)]
pub(super) enum MalformedMonths {
    #[error(transparent)]
    Month(#[from] MalformedMonth),
    #[error("{0} ends before it begins; expected a range such as 2026-09..2026-11")]
    Reversed(String),
}

impl FromStr for Months {
    type Err = MalformedMonths;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let (first, last): (Month, Month) = (first.parse()?, last.parse()?);
        if last < first {
            return Err(MalformedMonths::Reversed(text.to_owned()));
        }
        Ok(Self(first..=last))
    }
}

impl fmt::Display for Months {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.start(), self.0.end()) {
            (first, last) if first == last => first.fmt(f),
            (first, last) => write!(f, "{first}..{last}"),
        }
    }
}

/// Returns a filter for the usage of these months, without a split by user, endpoint or day.
pub(super) fn adjustments_filter(
    months: RangeInclusive<Month>,
    organisation: Option<OrganisationId>,
) -> ReportFilter {
    ReportFilter {
        organisation,
        user: None,
        months,
        by: ReportBy::default(),
    }
}
