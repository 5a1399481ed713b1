//! Compiles the kernels, twice: machine code for Hopper (`sm_90a`) and portable code that a driver
//! compiles when it loads it (PTX of `compute_80`). Each is a compressed image that the library embeds.
//! Does nothing without the feature `cuda`.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

/// Names of the targets and nvcc's arguments for them.
const TARGETS: [(&str, &str); 2] = [
    ("sm_90a", "arch=compute_90a,code=sm_90a"),
    ("compute_80", "arch=compute_80,code=compute_80"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    let nvcc = nvcc()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut sources: Vec<PathBuf> = fs::read_dir("kernels")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    sources.retain(|path| path.extension().is_some_and(|e| e == "cu"));
    sources.sort();

    let mut table = String::from("[\n");
    let mut jobs = Vec::new();
    for source in &sources {
        let name = source
            .file_stem()
            .and_then(|s| s.to_str())
            .ok_or("a kernel's name")?;
        table.push_str(&format!("    Image {{ name: {name:?}"));
        for (target, arch) in TARGETS {
            let image = out.join(format!("{name}.{target}.fatbin"));
            table.push_str(&format!(", {target}: include_bytes!({image:?})"));
            jobs.push((source.clone(), arch, image));
        }
        table.push_str(" },\n");
    }
    table.push_str("]\n");
    fs::write(out.join("images.rs"), table)?;
    compile_all(&nvcc, jobs)
}

/// `nvcc` in `CUDA_HOME`, or on the path.
fn nvcc() -> Result<PathBuf, String> {
    if let Some(home) = env::var_os("CUDA_HOME") {
        let nvcc = Path::new(&home).join("bin/nvcc");
        return if nvcc.exists() {
            Ok(nvcc)
        } else {
            Err(format!(
                "CUDA_HOME is set, but there is no {}",
                nvcc.display()
            ))
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|dir| dir.join("nvcc"))
        .find(|nvcc| nvcc.exists())
        .ok_or_else(|| {
            "the feature `cuda` needs nvcc of CUDA 13.0: install the CUDA toolkit and set CUDA_HOME, or \
             build without the feature"
                .to_owned()
        })
}

/// Compiles what has changed, on as many threads as cargo allows.
fn compile_all(nvcc: &Path, jobs: Vec<(PathBuf, &str, PathBuf)>) -> Result<(), Box<dyn Error>> {
    let threads = env::var("NUM_JOBS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    let (jobs, failed) = (Mutex::new(jobs), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some((source, arch, image)) = jobs.lock().ok().and_then(|mut j| j.pop())
                    else {
                        return;
                    };
                    if let Err(error) = compile(nvcc, &source, arch, &image)
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.push(error);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\n").into())
    }
}

/// Compiles `source`, unless its image is there and newer than all kernels' sources.
fn compile(nvcc: &Path, source: &Path, arch: &str, image: &Path) -> Result<(), String> {
    if is_current(source, image) {
        return Ok(());
    }
    let output = Command::new(nvcc)
        .args([
            "-std=c++17",
            "-O3",
            "-fatbin",
            "--compress-mode=size",
            "-gencode",
            arch,
            "-o",
        ])
        .arg(image)
        .arg(source)
        .output()
        .map_err(|e| format!("cannot run {}: {e}", nvcc.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!(
        "nvcc cannot compile {} for {arch}:\n{said}",
        source.display()
    ))
}

/// Whether `image` is newer than `source` and every header that it includes.
fn is_current(source: &Path, image: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let Some(made) = changed(image) else {
        return false;
    };
    let mut files = vec![source.to_owned()];
    let mut at = 0;
    while let Some(file) = files.get(at).cloned() {
        at += 1;
        let text = fs::read_to_string(&file).unwrap_or_default();
        for line in text.lines() {
            let name = line
                .strip_prefix("#include \"")
                .and_then(|rest| rest.strip_suffix('"'));
            let header = name.map(|name| file.with_file_name(name));
            files.extend(header.filter(|header| !files.contains(header)));
        }
    }
    files
        .iter()
        .all(|path| changed(path).is_some_and(|at| at < made))
}
