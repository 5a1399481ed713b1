//! What `/proc` and `/sys` say. A file that is not there gives nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Cache, Gpu};

/// The text of a file, without spaces around it.
fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The value of the first line `key: value` of a text.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// The bytes of a line such as `VmRSS:  1024 kB`.
fn kib_field(text: &str, key: &str) -> Option<u64> {
    Some(
        field(text, key)?
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()?
            * 1024,
    )
}

/// Bytes of memory that this process has in use.
pub(crate) fn resident_bytes() -> Option<u64> {
    kib_field(&read("/proc/self/status")?, "VmRSS")
}

/// The most bytes of memory that this process ever had in use.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    kib_field(&read("/proc/self/status")?, "VmHWM")
}

pub(super) fn cpu_name() -> Option<String> {
    let text = read("/proc/cpuinfo")?;
    let keys = ["model name", "Model", "Hardware", "Processor"];
    keys.into_iter()
        .find_map(|key| field(&text, key))
        .map(str::to_owned)
}

/// The directories of the CPUs.
fn cpus() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu") else {
        return Vec::new();
    };
    let is_cpu = |path: &PathBuf| {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        name.strip_prefix("cpu")
            .is_some_and(|n| n.parse::<usize>().is_ok())
    };
    entries
        .filter_map(Result::ok)
        .map(|e| e.path())
        .filter(is_cpu)
        .collect()
}

/// Cores, each counted once however many threads it runs.
pub(super) fn cores() -> Option<usize> {
    let ids: BTreeSet<_> = cpus()
        .iter()
        .filter_map(|cpu| {
            let topology = cpu.join("topology");
            Some((
                read(topology.join("physical_package_id"))?,
                read(topology.join("core_id"))?,
            ))
        })
        .collect();
    (!ids.is_empty()).then_some(ids.len())
}

pub(super) fn caches() -> Vec<Cache> {
    // A cache is told from another by the CPUs that share it.
    let mut seen = BTreeSet::new();
    for cpu in cpus() {
        for index in 0..8 {
            let dir = cpu.join(format!("cache/index{index}"));
            let parts = (|| {
                let level: u32 = read(dir.join("level"))?.parse().ok()?;
                let size = read(dir.join("size"))?;
                let bytes = size.strip_suffix('K')?.parse::<u64>().ok()? * 1024;
                let shared_by = read(dir.join("shared_cpu_list"))?;
                Some((level, read(dir.join("type"))?, bytes, shared_by))
            })();
            seen.extend(parts);
        }
    }
    let mut caches: Vec<Cache> = Vec::new();
    for (level, kind, bytes, _) in seen {
        match caches
            .iter_mut()
            .find(|c| (c.level, &c.kind, c.bytes) == (level, &kind, bytes))
        {
            Some(cache) => cache.count += 1,
            None => caches.push(Cache {
                level,
                kind,
                bytes,
                count: 1,
            }),
        }
    }
    caches
}

/// NVIDIA's GPUs, as their driver lists them.
pub(super) fn gpus() -> Vec<Gpu> {
    let Ok(entries) = fs::read_dir("/proc/driver/nvidia/gpus") else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
    paths.sort();
    let name = |path: PathBuf| {
        let text = read(path.join("information"))?;
        Some(Gpu {
            name: field(&text, "Model")?.to_owned(),
            ..Gpu::default()
        })
    };
    paths.into_iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "VmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        assert_eq!(kib_field(text, "VmRSS"), Some(1 << 20));
        assert_eq!(kib_field(text, "VmHWM"), Some(2 << 20));
        assert_eq!(kib_field(text, "RSS"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_memory() {
        let (now, peak) = (resident_bytes().unwrap(), peak_resident_bytes().unwrap());
        assert!(0 < now && now <= peak);
    }
}
