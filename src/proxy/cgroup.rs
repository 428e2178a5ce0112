//! What the container that the proxy runs in may take.

use std::fs;
use std::path::Path;

/// A limit from here on is none: that is how the first version of cgroups says so.
const NO_LIMIT: u64 = 1 << 60;

/// How many bytes of memory the cgroups that this process is in may take; `None`: as many as there are.
pub(super) fn memory_limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_in(Path::new("/sys/fs/cgroup"), &own)
}

/// How many cores this process is to use: as many as it may run on, and no more than the CPU quotas of the cgroups that
/// it is in are worth. What more threads would get done before the quota is used up, they would then stand still for.
pub fn cores() -> usize {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    cores_in(Path::new("/sys/fs/cgroup"), &own).map_or(all, |quota| quota.min(all))
}

/// How a system's cgroups are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// A hierarchy for each controller.
    One,
    /// One for all.
    Two,
}

fn limit_in(root: &Path, own: &str) -> Option<u64> {
    let limit = |cgroup: &Path, version| {
        let file = match version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        fs::read_to_string(cgroup.join(file)).ok()?.trim().parse().ok()
    };
    least(root, own, "memory", limit).filter(|limit| *limit < NO_LIMIT)
}

fn cores_in(root: &Path, own: &str) -> Option<usize> {
    let read = |cgroup: &Path, file| fs::read_to_string(cgroup.join(file)).ok();
    least(root, own, "cpu", |cgroup, version| match version {
        Version::One => cores_of(&read(cgroup, "cpu.cfs_quota_us")?, &read(cgroup, "cpu.cfs_period_us")?),
        Version::Two => {
            let text = read(cgroup, "cpu.max")?;
            let (quota, period) = text.trim().split_once(' ')?;
            cores_of(quota, period)
        }
    })
}

/// How many whole cores a quota of so much time in each period is worth, one at least; `None`: there is none (`max`, -1).
fn cores_of(quota: &str, period: &str) -> Option<usize> {
    let (quota, period): (usize, usize) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    Some(quota.checked_div(period)?.max(1))
}

/// The least of what `read` finds in the folders of the cgroups that a process is in, as the kernel tells (`own`), for this
/// controller.
fn least<T: Ord>(root: &Path, own: &str, controller: &str, read: impl Fn(&Path, Version) -> Option<T>) -> Option<T> {
    let limits = own.lines().filter_map(|line| {
        let (_, cgroup) = line.split_once(':')?;
        let (controllers, path) = cgroup.split_once(':')?;
        let (folder, version) = match controllers {
            "" => (root.to_owned(), Version::Two),
            _ if controllers.split(',').any(|name| name == controller) => (root.join(controller), Version::One),
            _ => return None,
        };
        // Those above bound it too; and in a container the topmost may be its own, whatever its path is outside.
        let cgroups = Path::new(path.trim_start_matches('/')).ancestors();
        cgroups.filter_map(|cgroup| read(&folder.join(cgroup), version)).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_below(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn least_limit_of_all_cgroups_above_holds() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| write_below(root.path(), path, text);
        let limit = |own: &str| limit_in(root.path(), own);
        assert_eq!(limit("0::/\n"), None, "there are no files");
        write("a/memory.max", "2000000\n");
        write("a/b/memory.max", "max\n");
        assert_eq!(limit("0::/a/b\n"), Some(2_000_000));
        assert_eq!(limit("0::/a/b/c\n"), Some(2_000_000));
        write("memory/x/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit("5:devices:/x\n4:cpu,memory:/x\n0::/\n"), None);
        write("memory/memory.limit_in_bytes", "1000000\n");
        assert_eq!(limit("4:memory:/not/seen/from/inside\n0::/a\n"), Some(1_000_000));
    }

    #[test]
    fn quota_is_worth_whole_cores_and_one_at_least() {
        for (quota, period, cores) in [
            ("200000", "100000", Some(2)),
            ("250000", "100000", Some(2)),
            ("50000", "100000", Some(1)),
            ("10000", "5000\n", Some(2)),
            ("max", "100000", None),
            ("-1", "100000", None),
            ("", "100000", None),
            ("200000", "0", None),
        ] {
            assert_eq!(cores_of(quota, period), cores, "{quota} of {period}");
        }
    }

    #[test]
    fn least_quota_of_all_cgroups_above_holds() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| write_below(root.path(), path, text);
        let cores = |own: &str| cores_in(root.path(), own);
        assert_eq!(cores("0::/a\n"), None, "there are no files");
        write("a/cpu.max", "350000 100000\n");
        write("a/b/cpu.max", "max 100000\n");
        assert_eq!(cores("0::/a/b\n"), Some(3));
        write("a/b/cpu.max", "150000 100000\n");
        assert_eq!(cores("0::/a/b\n"), Some(1));
        // In a container its own cgroup is the root.
        write("cpu.max", "600000 100000\n");
        assert_eq!(cores("0::/\n"), Some(6));
        write("cpu/x/cpu.cfs_quota_us", "-1\n");
        write("cpu/x/cpu.cfs_period_us", "100000\n");
        assert_eq!(cores("4:cpu,cpuacct:/x\n"), None);
        write("cpu/cpu.cfs_quota_us", "400000\n");
        write("cpu/cpu.cfs_period_us", "100000\n");
        assert_eq!(cores("5:memory:/x\n4:cpu,cpuacct:/not/seen/from/inside\n"), Some(4));
    }

    #[test]
    fn some_core_is_used_whatever_the_system_says() {
        assert!(cores() >= 1);
    }
}
