//! Formats lines of CSV for spreadsheets and other programs (RFC 4180).
//!
//! The lines are for reports that people open in a spreadsheet: a text that a spreadsheet would interpret as a formula
//! gets an apostrophe as its prefix, as OWASP recommends (CSV injection). The results of queries are data for programs;
//! they are written elsewhere, unchanged.

/// Formats a line, including its line end. Cells are quoted where necessary, and formulas are neutralised.
pub fn line<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let mut out = String::new();
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        let cell = cell.as_ref();
        let mark = if is_formula(cell) { "'" } else { "" };
        // Where a comma is the decimal separator, spreadsheets split cells at semicolons.
        if cell.contains([',', ';', '\t', '"', '\n', '\r']) {
            out.push('"');
            out.push_str(mark);
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(mark);
            out.push_str(cell);
        }
    }
    out.push('\n');
    out
}

/// Whether a spreadsheet may interpret the cell as a formula. A number with a sign is not one.
fn is_formula(cell: &str) -> bool {
    let is_ignored = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
    let begins_with_control = cell.starts_with(|c: char| c.is_control());
    let begins_with_sign = cell
        .trim_start_matches(is_ignored)
        .starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    begins_with_control || begins_with_sign && !is_number(cell)
}

/// Whether the cell is a plain decimal number: `-12.50`.
fn is_number(cell: &str) -> bool {
    let digits = cell.strip_prefix(['-', '+']).unwrap_or(cell);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    are_digits(whole) && are_digits(fraction)
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn line_cells_with_separators_are_quoted() {
        assert_eq!(
            line(["a", "b, c", "\"d\"\n", "e;f", ""]),
            "a,\"b, c\",\"\"\"d\"\"\n\",\"e;f\",\n"
        );
    }

    #[test]
    fn line_formulas_get_an_apostrophe() {
        for (cell, expected) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1+cmd|x", "'+1+cmd|x"),
            ("-2+3", "'-2+3"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "\"'\t=1\""),
            ("\r=1", "\"'\r=1\""),
            ("\n=1", "\"'\n=1\""),
            (" =1", "' =1"),
            ("\u{feff}=1", "'\u{feff}=1"),
            ("\u{0}a", "'\u{0}a"),
            ("＝1", "'＝1"),
            ("=1,2", "\"'=1,2\""),
            ("-", "'-"),
            ("-1e5", "'-1e5"),
            ("-.5", "'-.5"),
            // Numbers and other texts stay unchanged.
            ("-12.50", "-12.50"),
            ("+3", "+3"),
            ("12", "12"),
            ("a=b", "a=b"),
            ("ada@x.example", "ada@x.example"),
            ("2026-11", "2026-11"),
        ] {
            assert_eq!(line([cell]), format!("{expected}\n"), "{cell:?}");
        }
    }
}
