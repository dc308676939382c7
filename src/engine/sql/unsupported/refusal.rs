//! The refusal of a part of a statement, with the remedy.

use std::borrow::Cow;

/// A part of a statement that is not supported.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The clause, operator or function, as it is written in SQL.
    pub what: Cow<'static, str>,
    /// The advice to the caller, such as the clause to use instead.
    pub remedy: Cow<'static, str>,
}

/// The result of a check.
pub(super) type Checked = Result<(), Refusal>;

/// Returns the refusal of `what`.
pub(super) fn refuse(
    what: impl Into<Cow<'static, str>>,
    remedy: impl Into<Cow<'static, str>>,
) -> Checked {
    Err(Refusal {
        what: what.into(),
        remedy: remedy.into(),
    })
}

/// Refuses `what` if it is present.
pub(super) fn refuse_if(is_present: bool, what: &'static str, remedy: &'static str) -> Checked {
    match is_present {
        true => refuse(what, remedy),
        false => Ok(()),
    }
}
