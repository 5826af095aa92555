//! The command line of Temper.
fn main() {}
