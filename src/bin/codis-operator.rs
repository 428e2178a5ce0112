//! x
#![allow(clippy::print_stdout, missing_docs)]
fn main() {
    print!("{}", codis_operator::api::crd_yaml().unwrap_or_default());
}
