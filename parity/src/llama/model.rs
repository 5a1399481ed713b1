//! A model in llama.cpp, and its tokenizer.

use std::path::Path;
use std::ptr::{self, NonNull};

use anyhow::{Result, ensure};
use llama_cpp_sys_2 as sys;

use super::{c_path, failure, init};

/// What of a file is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// The whole model.
    All,
    /// Its tokenizer only.
    Vocabulary,
}

/// A model, on the CPU.
pub(crate) struct Model {
    pointer: NonNull<sys::llama_model>,
}

impl Model {
    /// Loads the GGUF file `path`.
    ///
    /// # Errors
    /// If llama.cpp refuses it.
    pub(crate) fn open(path: &Path, load: Load) -> Result<Self> {
        init();
        let name = c_path(path)?;
        // SAFETY: takes no arguments.
        let mut params = unsafe { sys::llama_model_default_params() };
        params.n_gpu_layers = 0;
        params.vocab_only = load == Load::Vocabulary;
        // SAFETY: `name` ends in NUL and outlives the call; `params` are the defaults, whose
        // pointers are null.
        let model = unsafe { sys::llama_model_load_from_file(name.as_ptr(), params) };
        let pointer = NonNull::new(model)
            .ok_or_else(|| failure(&format!("cannot load {}", path.display())))?;
        Ok(Self { pointer })
    }

    /// For calls that take the model.
    pub(super) fn as_ptr(&self) -> *mut sys::llama_model {
        self.pointer.as_ptr()
    }

    fn vocab(&self) -> *const sys::llama_vocab {
        // SAFETY: the model lives; the vocabulary is a part of it.
        unsafe { sys::llama_model_get_vocab(self.as_ptr()) }
    }

    /// Entries of the vocabulary.
    pub(crate) fn vocab_size(&self) -> usize {
        // SAFETY: the vocabulary of a living model.
        usize::try_from(unsafe { sys::llama_vocab_n_tokens(self.vocab()) }).unwrap_or(0)
    }

    /// Width of an embedding.
    pub(super) fn width(&self) -> usize {
        // SAFETY: the model lives.
        usize::try_from(unsafe { sys::llama_model_n_embd(self.as_ptr()) }).unwrap_or(0)
    }

    /// The tokens of `text`; the flags mean what they mean in ZSE's tokenizer.
    ///
    /// # Errors
    /// If llama.cpp fails or the text is beyond its lengths.
    pub(crate) fn tokenize(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<u32>> {
        let length = i32::try_from(text.len())?;
        let call = |tokens: &mut [i32]| {
            let room = i32::try_from(tokens.len())?;
            let start = if tokens.is_empty() {
                ptr::null_mut()
            } else {
                tokens.as_mut_ptr()
            };
            // SAFETY: reads `length` bytes of `text`, writes up to `room` tokens.
            let n = unsafe {
                sys::llama_tokenize(
                    self.vocab(),
                    text.as_ptr().cast(),
                    length,
                    start,
                    room,
                    add_special,
                    parse_special,
                )
            };
            anyhow::Ok(n)
        };
        // Without room, it says how many there are as a negative number.
        let needed = call(&mut [])?.unsigned_abs() as usize;
        let mut tokens = vec![0; needed];
        let written = if needed == 0 { 0 } else { call(&mut tokens)? };
        ensure!(
            usize::try_from(written) == Ok(needed),
            failure("cannot tokenize a text")
        );
        Ok(tokens.into_iter().map(i32::cast_unsigned).collect())
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: loaded by `open`, freed once; contexts borrow the model and are gone.
        unsafe { sys::llama_model_free(self.as_ptr()) }
    }
}
