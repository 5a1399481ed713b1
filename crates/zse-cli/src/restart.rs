//! `zse serve` in its own place: where a GPU has failed so that its driver gives this process no other context, the
//! process becomes a new one of the same binary with the same arguments. Its number stays, so whoever watches over it
//! notices nothing, and so does its port: the new process gets the listener as its standard input, at which clients
//! wait meanwhile.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use zse::{Device, GpuState};
use zse_server::AskGpu;

use crate::log;

/// When the process started again before, in seconds since 1970: the new process finds its listener by it.
const VARIABLE: &str = "ZSE_SERVE_STARTED_AGAIN";
/// More often within this time it does not start again.
const MOST: usize = 5;
const WITHIN: Duration = Duration::from_secs(600);

/// How this process came to be, and how it starts again.
pub(crate) struct Restart {
    /// The path, and not what is open: an update that took its place meanwhile is the one to start.
    executable: io::Result<PathBuf>,
    /// When it started again before.
    times: Vec<u64>,
}

impl Restart {
    /// As this process was started; the listener, if it took the place of another that listened at `address`.
    pub(crate) fn begin(
        address: SocketAddr,
        device: Device,
    ) -> anyhow::Result<(Self, Option<TcpListener>)> {
        let executable = env::current_exe();
        let variable = env::var(VARIABLE).unwrap_or_default();
        let times: Vec<u64> = variable.split(' ').flat_map(str::parse).collect();
        let again = Self { executable, times };
        if again.times.is_empty() {
            return Ok((again, None));
        }
        if device == Device::Auto && !matches!(device.resolved(), Device::Cuda(_)) {
            bail!(
                "the GPU failed, and is not found any more: see `nvidia-smi` and the kernel's log (dmesg), or serve \
                 on the CPU (--device cpu)"
            );
        }
        let listener = inherited(address).context("cannot take the port over")?;
        Ok((again, Some(listener)))
    }

    /// Becomes a new process, which listens at `listener`; comes back only where that fails.
    pub(crate) fn again(mut self, listener: TcpListener) -> anyhow::Error {
        let executable = match self.executable {
            Ok(path) => path,
            Err(error) => return failed(error, "this program's own file is not found"),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        if !may_start(&mut self.times, now) {
            return anyhow::anyhow!(
                "the GPU has failed, and {MOST} times within {} minutes before: see `nvidia-smi` and the kernel's log \
                 (dmesg, `NVRM: Xid`), reset the GPU (`nvidia-smi --gpu-reset`) or the machine, or serve on the CPU \
                 (--device cpu)",
                WITHIN.as_secs() / 60
            );
        }
        log::warn(format_args!(
            "the GPU has failed, and its driver gives this process no other context: zse starts again (time {} of at \
             most {MOST} within {} minutes)",
            self.times.len(),
            WITHIN.as_secs() / 60
        ));
        let times: Vec<String> = self.times.iter().map(u64::to_string).collect();
        let mut arguments = env::args_os();
        let name = arguments.next().unwrap_or_else(|| OsString::from("zse"));
        let error = Command::new(&executable)
            .arg0(name)
            .args(arguments)
            .env(VARIABLE, times.join(" "))
            .stdin(OwnedFd::from(listener))
            .exec();
        failed(error, &format!("{} does not start", executable.display()))
    }
}

/// Why there is no new process.
fn failed(error: io::Error, what: &str) -> anyhow::Error {
    anyhow::Error::from(error).context(format!("the GPU has failed, and {what}: start zse again"))
}

/// Whether a process may start again `now` that did so at `times`. Keeps of these what counts, and adds `now`.
fn may_start(times: &mut Vec<u64>, now: u64) -> bool {
    times.retain(|&time| now.saturating_sub(time) < WITHIN.as_secs());
    times.push(now);
    times.len() <= MOST
}

/// The listener that the process before left as standard input, which is empty from then on.
fn inherited(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    let local = listener.local_addr()?;
    if local.ip() != address.ip() || ![0, local.port()].contains(&address.port()) {
        let what = format!("standard input listens at {local}, not at {address}");
        return Err(io::Error::other(what));
    }
    // Else the port would stay open until the process has ended.
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(listener)
}

/// What tells the server how the GPU is.
pub(crate) fn gpu_state() -> Option<AskGpu> {
    Some(Arc::new(|| match is_pretended() {
        true => GpuState::Broken,
        false => zse::gpu_state(),
    }))
}

/// Whether a test wants the GPU to be broken: by a file, which is removed. Not in what is released.
#[cfg(debug_assertions)]
fn is_pretended() -> bool {
    env::var_os("ZSE_TEST_BREAK_GPU").is_some_and(|file| std::fs::remove_file(file).is_ok())
}

#[cfg(not(debug_assertions))]
fn is_pretended() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_again_a_few_times_within_a_while() {
        let mut times = Vec::new();
        for i in 0..MOST as u64 {
            assert!(may_start(&mut times, 1000 + i));
        }
        assert!(!may_start(&mut times.clone(), 1010));
        // Once the first is long ago, and once all are.
        assert!(may_start(&mut times.clone(), 1000 + WITHIN.as_secs()));
        assert!(may_start(&mut times, 9000));
        assert_eq!(times, [9000]);
    }
}
