//! Aligned tables that fit the terminal. If a table is too wide even with truncated texts, each row becomes a block of
//! lines, as in the expanded display of psql: a truncated number, id or time is useless.

use std::iter::repeat_n;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The gap between two columns.
const GAP: &str = "  ";
/// The minimum width to which a column is narrowed.
const MIN_COLUMN_WIDTH: usize = 6;
/// The number of characters of a date.
const DATE_CHARS: usize = 10;
/// The minimum number of characters of an id.
const MIN_ID_CHARS: usize = 16;

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text: may be truncated with … to make the table fit, unless the column has ids or times.
    Left,
    /// Numbers: never truncated.
    Right,
}

/// A table under construction.
#[derive(Debug, Clone)]
pub struct Table {
    head: Vec<String>,
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table with these column titles; all columns are text.
    pub fn new<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Self {
        let head: Vec<String> = head
            .into_iter()
            .map(|title| replace_control_characters(&title.into()))
            .collect();
        Self {
            align: vec![Align::Left; head.len()],
            head,
            rows: Vec::new(),
        }
    }

    /// Makes `columns` (numbered from 0) columns of numbers.
    #[must_use]
    pub fn numbers(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        for column in columns {
            if let Some(align) = self.align.get_mut(column) {
                *align = Align::Right;
            }
        }
        self
    }

    /// Adds a row. Missing cells are blank, and surplus cells are dropped.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells = cells
            .into_iter()
            .map(|cell| replace_control_characters(&cell.into()));
        let blank = repeat_n(String::new(), self.head.len());
        self.rows
            .push(cells.chain(blank).take(self.head.len()).collect());
    }

    /// Whether no row was added.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the table as lines of text, at most `width` columns wide if that is possible.
    pub fn render(&self, width: Option<usize>) -> String {
        let Some(widths) = self.widths(width) else {
            return self.render_blocks();
        };
        let rule: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
        let mut out = String::new();
        for cells in [&self.head, &rule].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for ((cell, &width), align) in cells.iter().zip(&widths).zip(&self.align) {
                let cell = truncate(cell, width);
                let blank = " ".repeat(width.saturating_sub(cell.width()));
                match align {
                    Align::Left => line.extend([cell.as_str(), &blank, GAP]),
                    Align::Right => line.extend([blank.as_str(), &cell, GAP]),
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// Returns the width of each column: that of its widest cell, or less if the table would be wider than `limit`.
    /// `None` if the columns cannot be narrowed enough.
    fn widths(&self, limit: Option<usize>) -> Option<Vec<usize>> {
        let mut widths: Vec<usize> = self.head.iter().map(|title| title.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let Some(limit) = limit else {
            return Some(widths);
        };
        let may_be_cut: Vec<bool> = (0..widths.len())
            .map(|at| self.is_truncatable(at))
            .collect();
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(limit);
        while excess > 0 {
            // The widest text column is narrowed first, so that short texts stay whole.
            let text = widths.iter_mut().zip(&may_be_cut).filter(|(_, cut)| **cut);
            match text.map(|(width, _)| width).max() {
                Some(width) if *width > MIN_COLUMN_WIDTH => *width -= 1,
                _ if self.rows.is_empty() => break,
                _ => return None,
            }
            excess -= 1;
        }
        Some(widths)
    }

    /// Whether the texts of a column are still useful if they are truncated.
    fn is_truncatable(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().filter_map(|row| row.get(column));
        self.align.get(column) == Some(&Align::Left) && !cells.any(|cell| is_id_or_time(cell))
    }

    /// Formats each row as lines of a title and a cell.
    fn render_blocks(&self) -> String {
        let titles = self.head.iter().map(|title| title.width());
        let width = titles.max().unwrap_or(0);
        let mut out = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let head = format!("── {} ", number + 1);
            out.push_str(&head);
            out.push_str(&"─".repeat((width + GAP.len()).saturating_sub(head.width()).max(2)));
            out.push('\n');
            for (title, cell) in self.head.iter().zip(row) {
                let blank = " ".repeat(width.saturating_sub(title.width()));
                let line = [title.as_str(), &blank, GAP, cell].concat();
                out.push_str(line.trim_end());
                out.push('\n');
            }
        }
        out
    }
}

/// Whether a text is an id or a time: UUIDs, ids of keys, hashes, dates, and texts that start with a date.
fn is_id_or_time(cell: &str) -> bool {
    let is_id =
        cell.len() >= MIN_ID_CHARS && cell.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let is_date = |date: &str| date.parse::<chrono::NaiveDate>().is_ok();
    is_id || cell.get(..DATE_CHARS).is_some_and(is_date)
}

/// Replaces line ends and control characters, because data must not control the terminal.
fn replace_control_characters(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Truncates `text` with … if it is wider than `width`.
fn truncate(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["name", "note", "rows"]).numbers([2]);
        table.row(["a", "short", "1,234,567"]);
        table.row(["bé", "a very long note with 温度 in it", "5"]);
        table
    }

    #[test]
    fn render_aligns_columns() {
        let expected = "
name  note                                   rows
────  ────────────────────────────────  ─────────
a     short                             1,234,567
bé    a very long note with 温度 in it          5
";
        assert_eq!(sample().render(None), expected.trim_start());
    }

    #[test]
    fn render_truncates_widest_text_but_no_numbers() {
        let rendered = sample().render(Some(30));
        assert!(
            rendered.lines().all(|line| line.width() <= 30),
            "{rendered}"
        );
        assert!(rendered.contains("a very long …  "), "{rendered}");
        assert!(rendered.contains("1,234,567"));
        assert!(sample().render(Some(1)).contains("1,234,567"));
    }

    #[test]
    fn render_keeps_ids_and_times_whole_and_falls_back_to_blocks() {
        let (id, time) = (
            "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
            "2026-01-31T12:00:00Z",
        );
        let mut table = Table::new(["asset", "what", "at"]);
        table.row([id, "inlet temperature of the first reactor", time]);
        table.row(["", "", ""]);
        let fits = table.render(Some(72));
        assert!(fits.lines().all(|line| line.width() <= 72), "{fits}");
        assert!(
            fits.contains(id) && fits.contains(time) && fits.contains('…'),
            "{fits}"
        );
        let expected = "
── 1 ──
asset  a1b2c3d4-e5f6-7890-abcd-ef1234567890
what   inlet temperature of the first reactor
at     2026-01-31T12:00:00Z
── 2 ──
asset
what
at
";
        assert_eq!(table.render(Some(50)), expected.trim_start());
    }

    #[test]
    fn row_with_control_characters_replaces_them() {
        let mut table = Table::new(["a"]);
        table.row(["x\u{1b}[2J\ny"]);
        assert_eq!(table.render(None).lines().nth(2), Some("x\u{fffd}[2J y"));
    }

    #[test]
    fn row_of_other_length_is_padded_or_cut() {
        let mut table = Table::new(["a", "b"]);
        table.row(["1"]);
        table.row(["1", "2", "3"]);
        assert_eq!(table.render(None), "a  b\n─  ─\n1\n1  2\n");
    }
}
