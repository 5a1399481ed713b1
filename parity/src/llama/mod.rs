//! llama.cpp behind a small safe face: types, models, quantization, importance.
//!
//! Only this folder calls C. llama.cpp catches its own exceptions and reports failures by return
//! value; what it logs as an error becomes the text of ours.

mod context;
mod importance;
mod model;
mod quantize;
mod types;

pub(crate) use context::Context;
pub(crate) use importance::Importance;
pub(crate) use model::{Load, Model};
pub(crate) use quantize::{FileType, quantize};
pub(crate) use types::{decode, encode};

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr;
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Context as _, Result, anyhow};
use llama_cpp_sys_2 as sys;

/// What llama.cpp has logged as an error since it was last asked.
static ERRORS: Mutex<String> = Mutex::new(String::new());

/// Prepares llama.cpp; every face of this module that needs it calls it.
fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `Once` makes these the first calls and no others run meanwhile; `log` never
        // uses its null user data.
        unsafe {
            sys::llama_log_set(Some(log), ptr::null_mut());
            sys::llama_backend_init();
        }
    });
}

/// Keeps error messages and drops all others.
unsafe extern "C" fn log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if level == sys::GGML_LOG_LEVEL_ERROR && !text.is_null() {
        // SAFETY: llama.cpp passes a string that ends in NUL and lives during the call.
        let text = unsafe { CStr::from_ptr(text) };
        let mut errors = ERRORS.lock().unwrap_or_else(PoisonError::into_inner);
        errors.push_str(&text.to_string_lossy());
    }
}

/// The error of a call that failed at `what`, with what llama.cpp said about it.
fn failure(what: &str) -> anyhow::Error {
    let mut errors = ERRORS.lock().unwrap_or_else(PoisonError::into_inner);
    let said = std::mem::take(&mut *errors);
    match said.trim() {
        "" => anyhow!("llama.cpp: {what}"),
        said => anyhow!("llama.cpp: {what}: {said}"),
    }
}

/// The versions of llama.cpp and ggml, and of the crate that brings them.
pub(crate) fn version() -> String {
    // SAFETY: both return static strings.
    let [llama, ggml] = unsafe { [sys::llama_version(), sys::ggml_version()] }.map(|text| {
        // SAFETY: static strings that end in NUL.
        unsafe { CStr::from_ptr(text) }.to_string_lossy()
    });
    let crate_version = include_str!("../../Cargo.lock")
        .split("name = \"llama-cpp-sys-2\"\nversion = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or("unknown");
    format!("llama.cpp {llama} with ggml {ggml}, from crate llama-cpp-sys-2 {crate_version}")
}

/// `path` as C wants it.
fn c_path(path: &Path) -> Result<CString> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))?;
    CString::new(text).with_context(|| format!("{} holds a NUL", path.display()))
}
