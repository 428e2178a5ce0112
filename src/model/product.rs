use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ProxyToken, SlotId, group::GroupId};

/// The name of a product (one Codis cluster): `^\w[\w.-]*$` with `\w` = `[0-9A-Za-z_]`, as Codis 3.2 checks it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProductName(String);

/// Why a text is not a product name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid product name {0:?}: it must begin with a letter, a digit or _ and hold only letters, digits, _, . and -"
)]
pub struct ProductNameError(pub String);

impl ProductName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path segment that proves to the dashboard's API that the caller means this product.
    pub fn dashboard_xauth(&self) -> String {
        xauth(&[&self.0])
    }

    /// The path segment that proves to a proxy's API that the caller knows product, password and token.
    pub fn proxy_xauth(&self, product_auth: &str, token: &ProxyToken) -> String {
        xauth(&[&self.0, product_auth, token.as_str()])
    }
}

/// What a Sentinel calls the primaries of this product's groups.
impl ProductName {
    /// The name of a group's primary, `{product}-{group}`.
    pub fn monitor(&self, group: GroupId) -> String {
        format!("{self}-{group}")
    }

    /// The group whose primary has this name; `None`: it is none of ours.
    pub fn monitored(&self, name: &str) -> Option<GroupId> {
        let number = name.strip_prefix(self.as_str())?.strip_prefix('-')?;
        let group = number.parse().ok().and_then(|number| GroupId::new(number).ok())?;
        (self.monitor(group) == name).then_some(group)
    }
}

/// First 16 bytes of SHA-256 over `Codis-XAuth` and `-[segment]` for each segment, in lower-case hex.
fn xauth(segments: &[&str]) -> String {
    let mut text = "Codis-XAuth".to_owned();
    for segment in segments {
        text.push_str(&format!("-[{segment}]"));
    }
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}

impl FromStr for ProductName {
    type Err = ProductNameError;

    fn from_str(text: &str) -> Result<Self, ProductNameError> {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let bytes = text.as_bytes();
        let right =
            bytes.first().is_some_and(|c| word(*c)) && bytes.iter().all(|c| word(*c) || matches!(c, b'.' | b'-'));
        if right {
            Ok(Self(text.to_owned()))
        } else {
            Err(ProductNameError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ProductName {
    type Error = ProductNameError;
    fn try_from(text: String) -> Result<Self, ProductNameError> {
        text.parse()
    }
}

impl From<ProductName> for String {
    fn from(name: ProductName) -> Self {
        name.0
    }
}

impl fmt::Display for ProductName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where each record of a product lies in the coordinator (Codis 3.2's layout).
pub mod store_paths {
    use super::{GroupId, ProductName, ProxyToken, SlotId};

    /// `/codis3/{product}`: everything of the product begins with this and a slash.
    pub fn product(product: &ProductName) -> String {
        format!("/codis3/{product}")
    }

    /// The lock: the Topom of the active dashboard.
    pub fn lock(name: &ProductName) -> String {
        format!("{}/topom", product(name))
    }

    /// Our own: who owns the prefix (a cluster's UID). Codis has no such key and ignores it.
    pub fn owner(name: &ProductName) -> String {
        format!("{}/owner", product(name))
    }

    /// Our own: what epochs are counted from, so that they go on where another store left off.
    pub fn epoch(name: &ProductName) -> String {
        format!("{}/epoch", product(name))
    }

    /// Our own: a change of many records that is made in several transactions, and is not finished.
    pub fn unfinished(name: &ProductName) -> String {
        format!("{}/unfinished", product(name))
    }

    /// The folder of the slots.
    pub fn slots(name: &ProductName) -> String {
        format!("{}/slots/", product(name))
    }

    /// One slot's mapping.
    pub fn slot(name: &ProductName, slot: SlotId) -> String {
        format!("{}slot-{:04}", slots(name), slot.get())
    }

    /// The folder of the groups.
    pub fn groups(name: &ProductName) -> String {
        format!("{}/group/", product(name))
    }

    /// One group.
    pub fn group(name: &ProductName, group: GroupId) -> String {
        format!("{}group-{:04}", groups(name), group.get())
    }

    /// The folder of the proxies.
    pub fn proxies(name: &ProductName) -> String {
        format!("{}/proxy/", product(name))
    }

    /// One proxy.
    pub fn proxy(name: &ProductName, token: &ProxyToken) -> String {
        format!("{}proxy-{token}", proxies(name))
    }

    /// The record of the sentinels.
    pub fn sentinel(name: &ProductName) -> String {
        format!("{}/sentinel", product(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xauth_is_that_of_codis() {
        let product: ProductName = "refdemo".parse().unwrap();
        assert_eq!(product.dashboard_xauth(), "948967642f9eea556aac8428e1162e3f");
        let token = ProxyToken::from("c674f1f9ec5617b40f2514554c7ee887");
        assert_eq!(product.proxy_xauth("pw123", &token), "729d2b4cfc0e671fc1fc496fc9f1eaf7");
    }

    #[test]
    fn names_of_other_products_primaries_are_none_of_ours() {
        let product: ProductName = "shop".parse().unwrap();
        let group = GroupId::new(12).unwrap();
        assert_eq!(
            (product.monitor(group).as_str(), product.monitored("shop-12")),
            ("shop-12", Some(group))
        );
        for other in [
            "shop", "shop-", "shop-0", "shop-x", "shop--1", "shop-+1", "shop-01", "shop-2-1", "shops-1", "mymaster",
        ] {
            assert_eq!(product.monitored(other), None, "{other}");
        }
    }

    #[test]
    fn product_names_follow_the_rule() {
        for name in ["a", "codis-demo", "ns.shop", "_x", "9.-_"] {
            assert!(name.parse::<ProductName>().is_ok(), "{name}");
        }
        for name in ["", "-a", ".a", "a/b", "a b", "ä", "a\n"] {
            assert!(name.parse::<ProductName>().is_err(), "{name}");
        }
    }

    #[test]
    fn paths_are_those_of_codis() {
        let product: ProductName = "demo".parse().unwrap();
        assert_eq!(
            store_paths::slot(&product, SlotId::new(7).unwrap()),
            "/codis3/demo/slots/slot-0007"
        );
        assert_eq!(
            store_paths::group(&product, GroupId::new(12).unwrap()),
            "/codis3/demo/group/group-0012"
        );
        assert_eq!(
            store_paths::proxy(&product, &ProxyToken::from("ab")),
            "/codis3/demo/proxy/proxy-ab"
        );
    }
}
