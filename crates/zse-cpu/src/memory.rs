//! How much memory there is, by what Linux says.

use std::fs;
use std::path::Path;

/// Where the control groups (version 2) are.
const GROUPS: &str = "/sys/fs/cgroup";

/// Bytes of memory that this process can count on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemMemory {
    /// All there is, or as much of it as the control groups of the process allow.
    pub total: u64,
    /// What can still be used: free, or taken by nothing but pages of files, which give way.
    pub available: u64,
}

/// The memory of this machine, within the tightest limit that a container or service sets; `None`
/// where the system does not say.
pub fn system_memory() -> Option<SystemMemory> {
    by_files(|path| fs::read_to_string(path).ok())
}

/// The memory by the texts that `read` gives for paths.
fn by_files(read: impl Fn(&str) -> Option<String>) -> Option<SystemMemory> {
    let machine = meminfo(&read("/proc/meminfo")?)?;
    let groups = groups(&read("/proc/self/cgroup").unwrap_or_default());
    let limits = groups.iter().filter_map(|group| {
        let file = |name| read(&format!("{group}/{name}"));
        // No number (`max`) where there is no limit.
        let total = file("memory.max")?.trim().parse().ok()?;
        let used = file("memory.current").and_then(|t| t.trim().parse::<u64>().ok());
        let files = file("memory.stat").map_or(0, |t| file_pages(&t));
        let available = total - used.unwrap_or(0).saturating_sub(files).min(total);
        Some(SystemMemory { total, available })
    });
    Some(limits.fold(machine, |a, b| SystemMemory {
        total: a.total.min(b.total),
        available: a.available.min(b.available),
    }))
}

/// What `/proc/meminfo` says.
fn meminfo(text: &str) -> Option<SystemMemory> {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    Some(SystemMemory {
        total: field("MemTotal:")?,
        available: field("MemAvailable:")?,
    })
}

/// Bytes of files in memory, by a group's `memory.stat`: they count as used, but are dropped when
/// memory is short.
fn file_pages(stat: &str) -> u64 {
    let fields = stat.lines().filter_map(|line| line.split_once(' '));
    fields
        .filter(|(name, _)| ["active_file", "inactive_file"].contains(name))
        .filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok())
        .sum()
}

/// The directories of the process's group and of those above it, by `/proc/self/cgroup`. Those that
/// a container does not show are not there; the root always is.
fn groups(text: &str) -> Vec<String> {
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    let path = own
        .filter(|path| path.starts_with('/') && !path.contains("/.."))
        .unwrap_or("/");
    let paths = Path::new(path).ancestors().filter_map(Path::to_str);
    paths
        .map(|path| format!("{GROUPS}{}", path.trim_end_matches('/')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       16000 kB\nMemFree:  1 kB\nMemAvailable:    9000 kB\n";

    /// The memory where the files are these.
    fn memory(files: &[(&str, &str)]) -> Option<(u64, u64)> {
        let read = |path: &str| {
            let file = files.iter().find(|(name, _)| *name == path)?;
            Some(file.1.to_owned())
        };
        by_files(read).map(|m| (m.total, m.available))
    }

    #[test]
    fn without_control_groups_the_machine_is_the_limit() {
        assert_eq!(memory(&[]), None);
        assert_eq!(memory(&[("/proc/meminfo", "MemTotal: 1 kB\n")]), None);
        let machine = Some((16000 << 10, 9000 << 10));
        assert_eq!(memory(&[("/proc/meminfo", MEMINFO)]), machine);
        let unlimited = [
            ("/proc/meminfo", MEMINFO),
            ("/sys/fs/cgroup/memory.max", "max\n"),
            ("/sys/fs/cgroup/memory.current", "5000\n"),
        ];
        assert_eq!(memory(&unlimited), machine);
    }

    #[test]
    fn pages_of_files_can_be_used() {
        let stat = "anon 3000\nfile 2500\nactive_file 700\ninactive_file 1300\nfile_dirty 9\n";
        let files = [
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/memory.max", "8000\n"),
            ("/sys/fs/cgroup/memory.current", "6000\n"),
            ("/sys/fs/cgroup/memory.stat", stat),
        ];
        assert_eq!(memory(&files), Some((8000, 4000)));
        assert_eq!(memory(&files[..4]), Some((8000, 2000)));
        assert_eq!(memory(&files[..3]), Some((8000, 8000)));
    }

    #[test]
    fn the_tightest_group_up_the_tree_is_the_limit() {
        let files = [
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "4:memory:/old\n0::/a.slice/b\n"),
            ("/sys/fs/cgroup/a.slice/b/memory.max", "7000"),
            ("/sys/fs/cgroup/a.slice/b/memory.current", "1000"),
            ("/sys/fs/cgroup/a.slice/memory.max", "7500"),
            ("/sys/fs/cgroup/a.slice/memory.current", "9000"),
            ("/sys/fs/cgroup/memory.max", "max"),
        ];
        assert_eq!(memory(&files), Some((7000, 0)));
        assert_eq!(memory(&files[..4]), Some((7000, 6000)));
    }

    #[test]
    fn groups_that_cannot_be_seen_leave_the_root() {
        let root = ["/sys/fs/cgroup"];
        for text in ["", "3:cpu:/x\n", "0::/\n", "0::/../other\n", "0::odd\n"] {
            assert_eq!(groups(text), root, "{text:?}");
        }
        assert_eq!(
            groups("0::/a/b\n"),
            ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"]
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory() {
        let memory = system_memory().expect("Linux says what it has");
        assert!(0 < memory.available && memory.available <= memory.total);
    }
}
