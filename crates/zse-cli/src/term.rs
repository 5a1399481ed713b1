//! Output for people: sizes, tables, progress.

use std::fmt::Write;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A number of bytes in the unit that suits it, such as `1.50 GiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n} B"),
        _ => format!("{value:.2} {}", UNITS[unit]),
    }
}

/// A count in thousands, millions or billions, such as `1.10 B`.
pub(crate) fn count(n: u64) -> String {
    match n as f64 {
        v if v >= 1e9 => format!("{:.2} B", v / 1e9),
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e4 => format!("{:.1} K", v / 1e3),
        _ => n.to_string(),
    }
}

/// Whether both ends are a person: input and output are terminals.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// A bar on standard error, if that is a terminal. `template` is indicatif's.
pub(crate) fn progress(total: u64, template: &str) -> ProgressBar {
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// Rows of text in columns; all but the first column are set to the right.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            rows: vec![headings.map(str::to_owned).to_vec()],
        }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Adds a cell to the last row.
    pub(crate) fn add_cell(&mut self, cell: String) {
        if let Some(row) = self.rows.last_mut() {
            row.push(cell);
        }
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(c));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..columns).map(width).collect()
    }

    /// As lines with two spaces between columns.
    pub(crate) fn plain(&self) -> String {
        let widths = self.widths();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Writing to a string cannot fail.
                let _ = match i {
                    0 => write!(line, "{cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// As a table in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let widths = self.widths();
        let mut out = String::new();
        for (r, row) in self.rows.iter().enumerate() {
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = match i {
                    0 => write!(out, "| {cell:<width$} "),
                    _ => write!(out, "| {cell:>width$} "),
                };
            }
            out.push_str("|\n");
            if r == 0 {
                for (i, width) in widths.iter().enumerate() {
                    let colon = if i == 0 { "" } else { ":" };
                    let _ = write!(out, "| {}{colon} ", "-".repeat(width - colon.len()));
                }
                out.push_str("|\n");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_are_short() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536 * 1024 * 1024), "1.50 GiB");
        assert_eq!(count(1_100_048_384), "1.10 B");
        assert_eq!(count(13_000_000), "13.00 M");
        assert_eq!(count(4096), "4096");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["test", "t/s"]);
        table.row(["pp512".to_owned(), "1234.5".to_owned()]);
        table.row(["tg1".to_owned(), "7.0".to_owned()]);
        assert_eq!(
            table.plain(),
            "test      t/s\npp512  1234.5\ntg1       7.0\n"
        );
        let markdown =
            "| test  |    t/s |\n| ----- | -----: |\n| pp512 | 1234.5 |\n| tg1   |    7.0 |\n";
        assert_eq!(table.markdown(), markdown);
    }
}
