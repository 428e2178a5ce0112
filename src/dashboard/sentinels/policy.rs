use std::time::Duration;

use crate::dashboard::config::Config;

/// The longest wait for one answer of a Sentinel, whatever is configured: whoever asked is told which one hangs before his
/// own request is given up.
const PATIENCE: Duration = Duration::from_secs(8);

/// How Sentinels watch.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// How long a Sentinel may take for each answer.
    pub(crate) patience: Duration,
    /// How many of them have to agree that a primary is down.
    pub(crate) quorum: i64,
    options: Vec<(&'static str, String)>,
}

impl Policy {
    /// The options of `SENTINEL SET`, the password excepted.
    pub(crate) fn options(&self) -> &[(&'static str, String)] {
        &self.options
    }
}

impl From<&Config> for Policy {
    fn from(config: &Config) -> Self {
        let millis = |duration: Duration| duration.as_millis().to_string();
        let mut options = vec![
            ("parallel-syncs", config.sentinel_parallel_syncs.to_string()),
            ("down-after-milliseconds", millis(config.sentinel_down_after.0)),
            ("failover-timeout", millis(config.sentinel_failover_timeout.0)),
        ];
        let scripts = [
            ("notification-script", &config.sentinel_notification_script),
            ("client-reconfig-script", &config.sentinel_client_reconfig_script),
        ];
        let scripts = scripts.into_iter().filter(|(_, script)| !script.is_empty());
        options.extend(scripts.map(|(option, script)| (option, script.clone())));
        Self {
            patience: config.sentinel_client_timeout.0.min(PATIENCE),
            quorum: config.sentinel_quorum,
            options,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_the_configuration_and_scripts_only_where_there_are_any() {
        let policy = Policy::from(&Config::default());
        let expected = [
            ("parallel-syncs", "1".to_owned()),
            ("down-after-milliseconds", "30000".to_owned()),
            ("failover-timeout", "300000".to_owned()),
        ];
        assert_eq!(
            (policy.options(), policy.quorum, policy.patience),
            (&expected[..], 2, PATIENCE)
        );
        let config = Config::parse("sentinel_client_timeout = \"2s\"\nsentinel_notification_script = \"/n\"").unwrap();
        let policy = Policy::from(&config);
        assert_eq!(policy.options().last(), Some(&("notification-script", "/n".to_owned())));
        assert_eq!(policy.patience, Duration::from_secs(2));
    }
}
