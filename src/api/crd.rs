use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;

use super::CodisCluster;

/// The CustomResourceDefinition of [`CodisCluster`].
pub fn crd() -> CustomResourceDefinition {
    let mut crd = CodisCluster::crd();
    let schemas = crd
        .spec
        .versions
        .iter_mut()
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        // `metadata.name` alone is a valid cluster: the API server fills in an absent spec, and from there on every
        // default below it.
        schema.required = None;
        if let Some(spec) = schema
            .properties
            .as_mut()
            .and_then(|properties| properties.get_mut("spec"))
        {
            spec.default = Some(JSON(serde_json::json!({})));
        }
    }
    crd
}

/// [`crd`] as YAML, ready for `kubectl apply --server-side -f -`.
///
/// # Errors
/// When the definition can't be written as YAML, which is a defect of this program.
pub fn crd_yaml() -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&crd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CodisClusterSpec;

    /// The defaults in the schema and those of the Rust types are given by the same functions; this shows that a spec
    /// which the API server filled in is the one that `Default` makes.
    #[test]
    fn defaults_of_the_schema_are_those_of_the_types() {
        let schema = serde_json::to_value(crd()).unwrap();
        let spec = &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let defaults: serde_json::Map<String, serde_json::Value> = spec["properties"]
            .as_object()
            .unwrap()
            .iter()
            .filter_map(|(name, field)| Some((name.clone(), field.get("default")?.clone())))
            .collect();
        let filled: CodisClusterSpec = serde_json::from_value(defaults.into()).unwrap();
        assert_eq!(filled, CodisClusterSpec::default());
    }

    #[test]
    fn every_field_is_described() {
        fn walk(path: &str, schema: &serde_json::Value, missing: &mut Vec<String>) {
            if let Some(properties) = schema["properties"].as_object() {
                for (name, field) in properties {
                    let path = format!("{path}.{name}");
                    if !field["description"].is_string() {
                        missing.push(path.clone());
                    }
                    walk(&path, field, missing);
                }
            }
            walk_items(path, schema, missing);
        }
        fn walk_items(path: &str, schema: &serde_json::Value, missing: &mut Vec<String>) {
            if schema["items"].is_object() {
                walk(path, &schema["items"], missing);
            }
        }
        let crd = serde_json::to_value(crd()).unwrap();
        let root = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut missing = Vec::new();
        for part in ["spec", "status"] {
            walk(part, &root["properties"][part], &mut missing);
        }
        assert_eq!(missing, Vec::<String>::new());
    }
}
