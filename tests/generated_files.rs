//! Files that are made from the code say what the code does today.

use std::path::Path;

#[test]
fn committed_definitions_are_those_of_the_code() {
    let made = codis_operator::api::crd_yaml().unwrap();
    for path in [
        "crds/codisclusters.codis.dev.yaml",
        "charts/codis-operator/files/codisclusters.codis.dev.yaml",
    ] {
        let committed = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        assert!(
            committed == made,
            "{path} is not what the code makes: run `make crds` and commit what it changed"
        );
    }
}

#[test]
fn committed_description_of_the_dashboards_api_is_that_of_the_code() {
    let committed = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json")).unwrap();
    assert!(
        committed == codis_operator::dashboard::openapi(),
        "docs/openapi.json is not what the code makes: run `make openapi` and commit what it changed"
    );
}

#[test]
fn versions_of_package_and_chart_are_the_same() {
    let chart = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/codis-operator/Chart.yaml"))
        .unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        chart.contains(&format!("\nversion: {version}\n")) && chart.contains(&format!("\nappVersion: {version}\n"))
    );
}
