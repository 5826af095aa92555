//! Rows token by token, as a page.

use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior, context};
use serde::Serialize;

use crate::error::ReportError;
use crate::page::{STYLE, value};

const TEMPLATE: &str = include_str!("../template/rows.html");

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
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template("rows.html", TEMPLATE)?;
    Ok(environment.get_template("rows.html")?.render(context! {
        temper => env!("CARGO_PKG_VERSION"),
        css => Value::from_safe_string(STYLE.trim_end().to_owned()),
        name, summary,
        rows => value(rows),
    })?)
}
