//! A part of the report: prose and tables in Markdown, and what failed.

use std::fmt;

/// A part of the report.
pub(crate) struct Section {
    /// Its heading.
    pub(crate) title: &'static str,
    /// Markdown.
    pub(crate) text: String,
    /// Each promise that was not kept.
    pub(crate) failures: Vec<String>,
}

impl Section {
    /// A section that begins with `text`.
    pub(crate) fn new(title: &'static str, text: &str) -> Self {
        Self {
            title,
            text: format!("{text}\n\n"),
            failures: Vec::new(),
        }
    }

    /// Adds `content` and an empty line.
    pub(crate) fn add(&mut self, content: impl fmt::Display) {
        self.text += &format!("{}\n\n", content.to_string().trim_end());
    }

    /// Notes a promise that was not kept, unless `kept`.
    pub(crate) fn promise(&mut self, kept: bool, otherwise: impl FnOnce() -> String) {
        if !kept {
            self.failures.push(otherwise());
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "## {}\n\n{}", self.title, self.text)?;
        for failure in &self.failures {
            writeln!(f, "**Failed:** {failure}\n")?;
        }
        Ok(())
    }
}

/// A table; the first column is text, the others are numbers.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table under these heads.
    pub(crate) fn new(heads: &[&str]) -> Self {
        Self {
            rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        for (i, row) in self.rows.iter().enumerate() {
            writeln!(f, "| {} |", row.join(" | "))?;
            if i == 0 {
                writeln!(f, "|---|{}", "---:|".repeat(columns - 1))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_markdown() {
        let mut table = Table::new(&["type", "count"]);
        table.row(["q4_0".to_owned(), "7".to_owned()]);
        let mut section = Section::new("Blocks", "Counted.");
        section.add(&table);
        section.promise(true, || unreachable!());
        section.promise(false, || "one is missing".to_owned());
        let expected = "## Blocks\n\nCounted.\n\n| type | count |\n|---|---:|\n| q4_0 | 7 |\n\n\
                        **Failed:** one is missing\n\n";
        assert_eq!(section.to_string(), expected);
    }
}
