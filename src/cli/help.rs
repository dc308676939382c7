//! Help texts that fit the terminal: paragraphs are wrapped at the width of the terminal, not where the lines of the
//! source end.

use clap::Command;

/// The minimum length, in characters, of a source line that ends only because it is full.
const MIN_FULL_LINE_CHARS: usize = 90;

/// Joins the lines of each paragraph in the help of the command and its subcommands; clap wraps them at the width of
/// the terminal.
pub(super) fn reflow_help(command: Command) -> Command {
    let command = match command.get_after_help() {
        Some(text) => {
            let text = join_paragraph_lines(&text.to_string());
            command.after_help(text)
        }
        None => command,
    };
    command.mut_subcommands(reflow_help)
}

/// Joins the lines inside paragraphs. Indented lines stay as they are.
fn join_paragraph_lines(text: &str) -> String {
    let is_prose = |line: &str| line.starts_with(|first: char| !first.is_whitespace());
    let mut joined = String::with_capacity(text.len());
    let mut is_broken = false;
    for (number, line) in text.lines().enumerate() {
        match is_broken && is_prose(line) {
            true => joined.push(' '),
            false if number > 0 => joined.push('\n'),
            false => {}
        }
        joined.push_str(line);
        is_broken = is_prose(line) && line.chars().count() >= MIN_FULL_LINE_CHARS;
    }
    if text.ends_with('\n') {
        joined.push('\n');
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_paragraph_lines_keeps_other_lines() {
        let full = "x".repeat(MIN_FULL_LINE_CHARS);
        let text = format!("{full}\n{full}\nend.\n\nExamples:\n  {full}\n  {full}\nshort\nlines\n");
        let expected =
            format!("{full} {full} end.\n\nExamples:\n  {full}\n  {full}\nshort\nlines\n");
        assert_eq!(join_paragraph_lines(&text), expected);
    }
}
