//! Running a model of llama.cpp: one sequence at a time, keys and values in f32.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;

use anyhow::{Result, ensure};
use llama_cpp_sys_2 as sys;

use super::failure;
use super::model::Model;

/// A function that sees every operation of a forward pass, with its data.
pub(super) type Observer = unsafe extern "C" fn(*mut sys::ggml_tensor, bool, *mut c_void) -> bool;

/// A sequence of up to `context` tokens.
pub(crate) struct Context<'a> {
    pointer: NonNull<sys::llama_context>,
    model: &'a Model,
    context: usize,
    /// What the observer writes to.
    observed: PhantomData<&'a mut ()>,
}

impl<'a> Context<'a> {
    /// For sequences of up to `context` tokens, on `threads` threads.
    ///
    /// # Errors
    /// If llama.cpp refuses.
    pub(crate) fn new(model: &'a Model, context: usize, threads: usize) -> Result<Self> {
        // SAFETY: there is no observer.
        unsafe { Self::create(model, context, threads, None) }
    }

    /// As [`new`](Self::new), with an observer that is given `target`.
    ///
    /// # Errors
    /// If llama.cpp refuses.
    ///
    /// # Safety
    /// `observer` must be sound for `target` as its last argument, in calls of this thread.
    pub(super) unsafe fn observed<T>(
        model: &'a Model,
        context: usize,
        threads: usize,
        observer: Observer,
        target: &'a mut T,
    ) -> Result<Self> {
        let target = (&raw mut *target).cast::<c_void>();
        // SAFETY: the caller's; `target` is borrowed as long as the context lives.
        unsafe { Self::create(model, context, threads, Some((observer, target))) }
    }

    /// # Safety
    /// The observer must be sound for the pointer beside it while the context lives.
    unsafe fn create(
        model: &'a Model,
        context: usize,
        threads: usize,
        observer: Option<(Observer, *mut c_void)>,
    ) -> Result<Self> {
        // SAFETY: takes no arguments.
        let mut params = unsafe { sys::llama_context_default_params() };
        let tokens = u32::try_from(context)?;
        (params.n_ctx, params.n_batch, params.n_ubatch) = (tokens, tokens, tokens);
        let threads = i32::try_from(threads)?;
        (params.n_threads, params.n_threads_batch) = (threads, threads);
        (params.type_k, params.type_v) = (sys::GGML_TYPE_F32, sys::GGML_TYPE_F32);
        // Flash attention would round queries to the type of the keys' products.
        params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_DISABLED;
        params.no_perf = true;
        if let Some((observer, target)) = observer {
            params.cb_eval = Some(observer);
            params.cb_eval_user_data = target;
        }
        // SAFETY: the model lives longer than the context, by the lifetime; the pointers of
        // `params` are the defaults' or the observer's.
        let pointer = unsafe { sys::llama_init_from_model(model.as_ptr(), params) };
        let pointer = NonNull::new(pointer).ok_or_else(|| failure("cannot make a context"))?;
        Ok(Self {
            pointer,
            model,
            context,
            observed: PhantomData,
        })
    }

    /// The logits after each of `ids`, which are a sequence of their own: `[ids.len(), vocab]`.
    ///
    /// # Errors
    /// If there are more tokens than the context has, or llama.cpp fails.
    pub(crate) fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.forward(ids)?;
        let count = ids.len() * self.model.vocab_size();
        // SAFETY: the context lives.
        let logits = unsafe { sys::llama_get_logits(self.pointer.as_ptr()) };
        ensure!(!logits.is_null(), failure("the model gives no logits"));
        // SAFETY: every token of the batch wanted its row of `vocab_size` logits, and they stay
        // until the next call.
        Ok(unsafe { slice::from_raw_parts(logits, count) }.to_vec())
    }

    /// The pooled embedding of `ids`: `[width]`.
    ///
    /// # Errors
    /// If there are more tokens than the context has, the model does not pool, or llama.cpp fails.
    pub(crate) fn embedding(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        // SAFETY: the context lives.
        unsafe { sys::llama_set_embeddings(self.pointer.as_ptr(), true) };
        self.forward(ids)?;
        // SAFETY: the context lives; 0 is the one sequence of `forward`.
        let embedding = unsafe { sys::llama_get_embeddings_seq(self.pointer.as_ptr(), 0) };
        ensure!(
            !embedding.is_null(),
            failure("the model gives no pooled embedding")
        );
        // SAFETY: a pooled embedding has the model's width, and stays until the next call.
        Ok(unsafe { slice::from_raw_parts(embedding, self.model.width()) }.to_vec())
    }

    /// Runs `ids` as sequence 0, from its start.
    pub(super) fn forward(&mut self, ids: &[u32]) -> Result<()> {
        ensure!(
            ids.len() <= self.context,
            "{} tokens in a context of {}",
            ids.len(),
            self.context
        );
        let vocab = self.model.vocab_size();
        ensure!(
            ids.iter().all(|&id| (id as usize) < vocab),
            "a token is not in the vocabulary"
        );
        let n = i32::try_from(ids.len())?;
        // SAFETY: the context lives; models without memory have none to clear.
        unsafe {
            let memory = sys::llama_get_memory(self.pointer.as_ptr());
            if !memory.is_null() {
                sys::llama_memory_clear(memory, true);
            }
        }
        // SAFETY: allocates arrays for `n` tokens of one sequence each.
        let mut batch = unsafe { sys::llama_batch_init(n, 0, 1) };
        batch.n_tokens = n;
        for (i, &id) in ids.iter().enumerate() {
            // SAFETY: `i < n`, the length of the batch's arrays, each with room for one sequence.
            unsafe {
                *batch.token.add(i) = id.cast_signed();
                *batch.pos.add(i) = i as i32;
                *batch.n_seq_id.add(i) = 1;
                **batch.seq_id.add(i) = 0;
                *batch.logits.add(i) = 1;
            }
        }
        // SAFETY: the context lives, the batch is filled.
        let status = unsafe { sys::llama_decode(self.pointer.as_ptr(), batch) };
        // SAFETY: made by `llama_batch_init`, freed once.
        unsafe { sys::llama_batch_free(batch) };
        ensure!(
            status == 0,
            failure(&format!("a forward pass gave status {status}"))
        );
        Ok(())
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `create`, freed once.
        unsafe { sys::llama_free(self.pointer.as_ptr()) }
    }
}
