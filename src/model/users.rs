use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{HostPort, ProxyToken};

/// Who a user of a server is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerUserKind {
    /// Any dashboard, to create the user of its own lock.
    Admin,
    /// The dashboard that holds the lock of this revision. A successor deletes it, and so ends and refuses all that a
    /// predecessor may still have to say.
    Topom {
        /// The lock's revision.
        revision: i64,
    },
    /// The operator: reads `INFO` and `ROLE`, nothing else.
    Probe,
    /// A replica, at its primary.
    Replica,
    /// One process of one proxy. Created when the server is admitted, so that one which was not serves nobody; deleted
    /// when the proxy is shut off.
    Proxy {
        /// The proxy.
        token: ProxyToken,
        /// The process.
        incarnation: String,
    },
}

impl ServerUserKind {
    /// What stands before the `@` in the names of its users.
    fn role(&self) -> String {
        match self {
            Self::Admin => "admin".to_owned(),
            Self::Topom { revision } => format!("topom-{revision}"),
            Self::Probe => "probe".to_owned(),
            Self::Replica => "repl".to_owned(),
            Self::Proxy { token, incarnation } => format!("proxy-{token}-{incarnation}"),
        }
    }

    /// Reads what stands before the `@`. `None`: it is nobody's of ours.
    fn of_role(role: &str) -> Option<Self> {
        match role {
            "admin" => return Some(Self::Admin),
            "probe" => return Some(Self::Probe),
            "repl" => return Some(Self::Replica),
            _ => {}
        }
        if let Some(revision) = role.strip_prefix("topom-") {
            return revision.parse().ok().map(|revision| Self::Topom { revision });
        }
        let (token, incarnation) = role.strip_prefix("proxy-")?.split_once('-')?;
        Some(Self::Proxy {
            token: token.into(),
            incarnation: incarnation.to_owned(),
        })
    }
}

/// An ACL user of one server. Its name ends in `@` and the server's pod, so that a login meant for one server fails at
/// every other one: nobody ever talks to a wrong server behind a reused IP. Passwords are derived from the product's
/// secret (`product_auth`), so that nothing has to be handed around.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerUser {
    kind: ServerUserKind,
    name: String,
}

impl ServerUser {
    /// The user of this kind on the server that runs in `pod`.
    pub fn new(kind: ServerUserKind, pod: &str) -> Self {
        let name = format!("{}@{pod}", kind.role());
        Self { kind, name }
    }

    /// The user with this name, if it is one of ours on the server that runs in `pod`.
    pub fn parse(name: &str, pod: &str) -> Option<Self> {
        let (role, at) = name.split_once('@')?;
        let kind = ServerUserKind::of_role(role).filter(|_| at == pod)?;
        Some(Self::new(kind, pod))
    }

    /// Who it is for.
    pub fn kind(&self) -> &ServerUserKind {
        &self.kind
    }

    /// The user of this kind on the server at this address; `None` when the address does not name a pod: such a server
    /// was not prepared by the operator and is logged into as its default user.
    pub fn at(kind: ServerUserKind, addr: &HostPort) -> Option<Self> {
        addr.pod().map(|pod| Self::new(kind, pod))
    }

    /// The name, as `AUTH` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The password: lower-case hex of HMAC-SHA256 with the product's secret as key over the name.
    pub fn password(&self, product_auth: &str) -> String {
        keyed_hash(product_auth, &self.name)
    }

    /// What the user may do, as `ACL SETUSER name …` takes it, its password as a hash. The first rule is `reset`, so
    /// that the user is the same whatever it was before.
    pub fn rules(&self, product_auth: &str) -> Vec<String> {
        let hash = hex::encode(Sha256::digest(self.password(product_auth)));
        let may: &[&str] = match &self.kind {
            ServerUserKind::Admin | ServerUserKind::Topom { .. } => &["~*", "&*", "+@all"],
            ServerUserKind::Probe => &["+info", "+role", "+ping"],
            ServerUserKind::Replica => &["+psync", "+replconf", "+ping"],
            ServerUserKind::Proxy { .. } => &[
                "~*",
                "&*",
                "+@all",
                "-@admin",
                "-@dangerous",
                "+info",
                "+sort",
                "+keys",
                "+restore",
                "+role",
                "+flushall",
                "+flushdb",
                // A command that waits is taken back before its slot moves.
                "+client|unblock",
            ],
        };
        let head = ["reset".to_owned(), "on".to_owned(), format!("#{hash}")];
        head.into_iter()
            .chain(may.iter().map(|rule| (*rule).to_owned()))
            .collect()
    }
}

/// Lower-case hex of HMAC-SHA256 over `text`: changes with both, and tells nothing of either.
pub fn keyed_hash(key: &str, text: &str) -> String {
    #[allow(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any length is a key");
    mac.update(text.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> ServerUserKind {
        ServerUserKind::Proxy {
            token: "c674".into(),
            incarnation: "77".to_owned(),
        }
    }

    #[test]
    fn names_are_read_back_and_those_of_others_are_not() {
        for kind in [
            ServerUserKind::Admin,
            ServerUserKind::Topom { revision: 12 },
            ServerUserKind::Probe,
            ServerUserKind::Replica,
            proxy(),
        ] {
            let user = ServerUser::new(kind, "a-g1-0");
            assert_eq!(ServerUser::parse(user.name(), "a-g1-0"), Some(user.clone()));
            assert_eq!(ServerUser::parse(user.name(), "a-g1-1"), None);
        }
        assert_eq!(ServerUser::new(proxy(), "p").name(), "proxy-c674-77@p");
        for other in ["default", "topom-x@a-g1-0", "proxy-1@a-g1-0", "someone@a-g1-0"] {
            assert_eq!(ServerUser::parse(other, "a-g1-0"), None, "{other}");
        }
    }

    #[test]
    fn passwords_differ_by_user_pod_and_product() {
        let user = |kind, pod| ServerUser::new(kind, pod);
        let passwords = [
            user(ServerUserKind::Admin, "a-g1-0").password("secret"),
            user(ServerUserKind::Probe, "a-g1-0").password("secret"),
            user(ServerUserKind::Admin, "a-g1-1").password("secret"),
            user(ServerUserKind::Admin, "a-g1-0").password("other"),
        ];
        let distinct: std::collections::BTreeSet<_> = passwords.iter().collect();
        assert_eq!(distinct.len(), passwords.len());
    }

    #[test]
    fn rules_hold_no_password_in_clear() {
        let user = ServerUser::new(proxy(), "a-g1-0");
        let rules = user.rules("secret").join(" ");
        assert!(
            rules.starts_with("reset on #") && !rules.contains(&user.password("secret")),
            "{rules}"
        );
    }

    #[test]
    fn servers_that_nobody_prepared_have_no_users() {
        assert_eq!(
            ServerUser::at(ServerUserKind::Admin, &"127.0.0.1:6379".parse().unwrap()),
            None
        );
        let prepared = ServerUser::at(ServerUserKind::Admin, &"a-g1-0.a.ns.svc:6379".parse().unwrap()).unwrap();
        assert_eq!(prepared.name(), "admin@a-g1-0");
    }
}
