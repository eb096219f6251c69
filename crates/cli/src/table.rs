//! Tables for people: aligned columns without lines, readable without colour.

use comfy_table::{Cell, CellAlignment, Table as Layout, presets};
use starlift::telemetry::one_line;

use crate::style::Style;

/// Which side of its column a cell is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table under construction. Columns in which no row says anything are left out.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new<const N: usize>(columns: [(&'static str, Align); N]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, a cell for each column. Control characters in names are escaped.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| one_line(cell)).collect());
    }

    /// The lines of the table, each indented and ended; nothing where there is no row.
    pub(crate) fn render(&self, style: Style, indent: &str) -> String {
        self.marked(style, indent, &[])
    }

    /// The same with a mark before each row, one column wide.
    pub(crate) fn marked(&self, style: Style, indent: &str, marks: &[String]) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let cell = |row: &'_ Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let kept: Vec<usize> =
            (0..self.columns.len()).filter(|c| self.rows.iter().any(|row| !cell(row, *c).is_empty())).collect();
        let mut layout = Layout::new();
        layout.load_preset(presets::NOTHING);
        let heads = kept.iter().filter_map(|c| self.columns.get(*c));
        layout.add_row(heads.map(|(head, align)| aligned((*head).to_string(), *align)));
        for row in &self.rows {
            let cells = kept.iter().filter_map(|c| Some((cell(row, *c), self.columns.get(*c)?.1)));
            layout.add_row(cells.map(|(text, align)| aligned(text, align)));
        }
        for column in layout.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text = String::new();
        for (number, line) in layout.lines().enumerate() {
            let line = line.trim_end();
            text.push_str(indent);
            if !marks.is_empty() {
                let mark = number.checked_sub(1).and_then(|row| marks.get(row)).map_or(" ", String::as_str);
                text.push_str(&format!("{mark} "));
            }
            text.push_str(&if number == 0 { style.dim(line) } else { line.to_string() });
            text.push('\n');
        }
        text
    }
}

fn aligned(text: String, align: Align) -> Cell {
    Cell::new(text).set_alignment(match align {
        Align::Left => CellAlignment::Left,
        Align::Right => CellAlignment::Right,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let mut table = Table::new([("table", Align::Left), ("rows", Align::Right), ("why", Align::Left)]);
        table.row(["address".into(), "5".into(), String::new()]);
        table.row(["pay\nment".into(), "12,000".into(), String::new()]);
        assert_eq!(
            table.render(Style::PLAIN, "  "),
            "  table        rows\n  address         5\n  pay\\nment  12,000\n"
        );
    }

    #[test]
    fn a_table_without_rows_is_nothing() {
        assert_eq!(Table::new([("table", Align::Left)]).render(Style::PLAIN, ""), "");
    }
}
