//! Aligned tables that fit the terminal.

use std::iter::repeat_n;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between columns.
const GAP: &str = "  ";
/// No column is made narrower than this.
const NARROWEST: usize = 6;

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text: may be cut with … to make the table fit.
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

    /// The table as lines of text, at most `width` columns wide if the numbers allow it.
    pub fn render(&self, width: Option<usize>) -> String {
        let widths = self.widths(width);
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

    /// The width of each column: as wide as its widest cell, unless all together are too wide.
    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self.head.iter().map(|title| title.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let Some(limit) = limit else { return widths };
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(limit);
        while excess > 0 {
            // The widest text column gives way, so that short ones stay whole.
            let text = widths
                .iter_mut()
                .zip(&self.align)
                .filter(|(_, align)| **align == Align::Left);
            match text.map(|(width, _)| width).max() {
                Some(width) if *width > NARROWEST => *width -= 1,
                _ => break,
            }
            excess -= 1;
        }
        widths
    }
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
