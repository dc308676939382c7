//! Help texts that fit the terminal: paragraphs are broken where the terminal ends, and not where the source's lines do.

use clap::Command;

/// A line of so many characters was broken because it was full.
const FULL: usize = 90;

/// The command and all below it, with paragraphs as single lines, which are then broken to the terminal's width.
pub(super) fn flowing(command: Command) -> Command {
    let command = match command.get_after_help() {
        Some(text) => {
            let text = joined(&text.to_string());
            command.after_help(text)
        }
        None => command,
    };
    command.mut_subcommands(flowing)
}

/// The text without the ends of lines that are inside paragraphs. What is indented stays as it is.
fn joined(text: &str) -> String {
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
        is_broken = is_prose(line) && line.chars().count() >= FULL;
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
    fn paragraphs_become_lines_and_all_else_stays() {
        let full = "x".repeat(FULL);
        let text = format!("{full}\n{full}\nend.\n\nExamples:\n  {full}\n  {full}\nshort\nlines\n");
        let expected =
            format!("{full} {full} end.\n\nExamples:\n  {full}\n  {full}\nshort\nlines\n");
        assert_eq!(joined(&text), expected);
    }
}
