//! Lines of CSV, as spreadsheets and other programs read them (RFC 4180).

/// A line with its end. A cell with a comma, a quote or a line's end in it is quoted.
pub fn line<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let mut out = String::new();
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        let cell = cell.as_ref();
        if cell.contains([',', '"', '\n', '\r']) {
            out.push('"');
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(cell);
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(
            line(["a", "b, c", "\"d\"\n", ""]),
            "a,\"b, c\",\"\"\"d\"\"\n\",\n"
        );
    }
}
