//! Rows token by token, as a page.

use minijinja::context;
use serde::Serialize;

use crate::error::ReportError;
use crate::page::{Page, value};

const TEMPLATE: &str = include_str!("../template/rows.html");
const ROWS_STYLE: &str = include_str!("../template/rows.css");

/// A row as it is trained.
#[derive(Debug, Clone, Serialize)]
pub struct ShownRow {
    /// Its line, from 1.
    pub line: usize,
    /// How many tokens are trained.
    pub trained: usize,
    /// Its tokens; none of a row that is left out.
    pub tokens: Vec<ShownToken>,
    /// Why it is left out, where it is.
    pub left_out: Option<String>,
}

/// A token as people read it.
#[derive(Debug, Clone, Serialize)]
pub struct ShownToken {
    /// Its number.
    pub id: u32,
    /// What it says.
    pub text: String,
    /// Whether it is a target.
    pub trained: bool,
    /// Whether it is a control token.
    pub control: bool,
}

/// A page that needs nothing else: `name` is its title, `summary` stands below.
///
/// # Errors
/// [`ReportError::Template`], which no rows should cause.
pub fn rows_page(name: &str, summary: &str, rows: &[ShownRow]) -> Result<String, ReportError> {
    let title = format!("{name}: rows as they are trained");
    let page = Page { template: TEMPLATE, title, styles: &[ROWS_STYLE], script_hash: None };
    page.render(context! { name, summary, rows => value(rows) })
}
