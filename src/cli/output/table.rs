//! Aligned tables that fit the terminal. Where even cut texts do not, each row becomes a block of lines, as psql does it: a
//! number, an id or a time that is not whole is of no use.

use std::iter::repeat_n;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between columns.
const GAP: &str = "  ";
/// No column is made narrower than this.
const NARROWEST: usize = 6;
/// Characters of a date,
const DATE: usize = 10;
/// and of the shortest id.
const SHORTEST_ID: usize = 16;

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text: may be cut with … to make the table fit, unless it is ids or times.
    Left,
    /// Numbers: never cut.
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
    /// A table with these column titles; all columns are text.
    pub fn new<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Self {
        let head: Vec<String> = head.into_iter().map(|title| clean(&title.into())).collect();
        Self {
            align: vec![Align::Left; head.len()],
            head,
            rows: Vec::new(),
        }
    }

    /// Makes `columns` (from 0) columns of numbers.
    #[must_use]
    pub fn numbers(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        for column in columns {
            if let Some(align) = self.align.get_mut(column) {
                *align = Align::Right;
            }
        }
        self
    }

    /// Adds a row. What is missing is blank, and what is too many is dropped.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells = cells.into_iter().map(|cell| clean(&cell.into()));
        let blank = repeat_n(String::new(), self.head.len());
        self.rows
            .push(cells.chain(blank).take(self.head.len()).collect());
    }

    /// Whether no row was added.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines of text, at most `width` columns wide as far as that is possible.
    pub fn render(&self, width: Option<usize>) -> String {
        let Some(widths) = self.widths(width) else {
            return self.blocks();
        };
        let rule: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
        let mut out = String::new();
        for cells in [&self.head, &rule].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for ((cell, &width), align) in cells.iter().zip(&widths).zip(&self.align) {
                let cell = fit(cell, width);
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

    /// The width of each column: as wide as its widest cell, unless all together are too wide. None if nothing helps.
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
        let may_be_cut: Vec<bool> = (0..widths.len()).map(|at| self.may_be_cut(at)).collect();
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(limit);
        while excess > 0 {
            // The widest text column gives way, so that short ones stay whole.
            let text = widths.iter_mut().zip(&may_be_cut).filter(|(_, cut)| **cut);
            match text.map(|(width, _)| width).max() {
                Some(width) if *width > NARROWEST => *width -= 1,
                _ if self.rows.is_empty() => break,
                _ => return None,
            }
            excess -= 1;
        }
        Some(widths)
    }

    /// Whether the texts of a column mean something when they are cut.
    fn may_be_cut(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().filter_map(|row| row.get(column));
        self.align.get(column) == Some(&Align::Left) && !cells.any(|cell| is_whole(cell))
    }

    /// Each row as lines of a title and a cell.
    fn blocks(&self) -> String {
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

/// Whether a text is an id or a time: UUIDs, ids of keys and hashes, dates and what begins with one.
fn is_whole(cell: &str) -> bool {
    let is_id =
        cell.len() >= SHORTEST_ID && cell.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let is_date = |date: &str| date.parse::<chrono::NaiveDate>().is_ok();
    is_id || cell.get(..DATE).is_some_and(is_date)
}

/// One line without control characters: data must not be able to drive the terminal.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// `text`, cut with … if it is wider than `width`.
fn fit(text: &str, width: usize) -> String {
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
    fn columns_are_aligned() {
        let expected = "
name  note                                   rows
────  ────────────────────────────────  ─────────
a     short                             1,234,567
bé    a very long note with 温度 in it          5
";
        assert_eq!(sample().render(None), expected.trim_start());
    }

    #[test]
    fn the_widest_text_gives_way_and_numbers_do_not() {
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
    fn ids_and_times_are_whole_and_rows_that_do_not_fit_become_blocks() {
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
    fn data_cannot_drive_the_terminal() {
        let mut table = Table::new(["a"]);
        table.row(["x\u{1b}[2J\ny"]);
        assert_eq!(table.render(None).lines().nth(2), Some("x\u{fffd}[2J y"));
    }

    #[test]
    fn rows_of_another_length_are_put_right() {
        let mut table = Table::new(["a", "b"]);
        table.row(["1"]);
        table.row(["1", "2", "3"]);
        assert_eq!(table.render(None), "a  b\n─  ─\n1\n1  2\n");
    }
}
