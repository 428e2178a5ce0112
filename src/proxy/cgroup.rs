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

/// `own`: in which cgroups a process is, as the kernel tells.
fn limit_in(root: &Path, own: &str) -> Option<u64> {
    let limits = own.lines().filter_map(|line| {
        let (_, cgroup) = line.split_once(':')?;
        let (controllers, path) = cgroup.split_once(':')?;
        let (folder, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        // Those above bound it too; and in a container the topmost may be its own, whatever its path is outside.
        let cgroups = Path::new(path.trim_start_matches('/')).ancestors();
        let limit = |cgroup| {
            fs::read_to_string(folder.join(cgroup).join(file))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        cgroups.filter_map(limit).min()
    });
    limits.min().filter(|limit| *limit < NO_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_limit_of_all_cgroups_above_holds() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
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
}
