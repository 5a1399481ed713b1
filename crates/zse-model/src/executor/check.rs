//! What every executor refuses before it touches memory.

use crate::program::{EmbedIndex, Op, Program, ProgramOutput, StateKind};

use super::{AdapterId, Batch, Budget, ExecError, KvOp, LoadError, TokenSource, Want};

impl Budget {
    /// Checks that the budget can hold something and that its KV type fits `program`.
    ///
    /// # Errors
    /// Says what contradicts what.
    pub fn check(&self, program: &Program) -> Result<(), LoadError> {
        let fail = |what: String| Err(LoadError::Budget(what));
        for (name, n) in [
            ("kv_blocks", self.kv_blocks),
            ("block_len", self.block_len),
            ("max_tokens", self.max_tokens),
            ("max_outputs", self.max_outputs),
        ] {
            if n == 0 {
                return fail(format!("{name} is 0"));
            }
        }
        for (name, n) in [
            ("max_tokens", self.max_tokens),
            ("max_outputs", self.max_outputs),
        ] {
            if u32::try_from(n).is_err() {
                return fail(format!(
                    "{name} is {n}, but columns are numbered in 32 bits"
                ));
            }
        }
        if let Some(n) = self.threads.filter(|&n| n > Self::MAX_THREADS) {
            return fail(format!("{n} threads, at most {}", Self::MAX_THREADS));
        }
        for state in &program.states {
            let StateKind::Paged(p) = state.kind;
            if let Some(dim) = [p.k_dim, p.v_dim]
                .into_iter()
                .find(|&d| self.kv_type.head_bytes(d).is_none())
            {
                return fail(format!(
                    "KV type {} stores blocks of {} numbers, but a head has {dim}; choose f16",
                    self.kv_type,
                    self.kv_type.block_len()
                ));
            }
        }
        if self
            .kv_bytes(program)
            .is_none_or(|bytes| usize::try_from(bytes).is_err())
        {
            return fail(format!(
                "{} KV blocks are too many to address",
                self.kv_blocks
            ));
        }
        Ok(())
    }
}

impl Batch {
    /// Checks every index of the batch against `program` and `budget`, for an executor without
    /// adapters.
    ///
    /// # Errors
    /// [`ExecError::BadBatch`] naming the first index that is out of range.
    pub fn check(&self, program: &Program, budget: &Budget) -> Result<(), ExecError> {
        self.check_with(program, budget, |_| false)
    }

    /// As [`check`](Self::check), for an executor that has loaded some adapters.
    ///
    /// # Errors
    /// As there.
    pub fn check_with(
        &self,
        program: &Program,
        budget: &Budget,
        is_loaded: impl Fn(AdapterId) -> bool,
    ) -> Result<(), ExecError> {
        let n_groups = program.kv_groups().len();
        let ensure = |ok: bool, what: &dyn Fn() -> String| {
            if ok {
                Ok(())
            } else {
                Err(ExecError::BadBatch(what()))
            }
        };
        let known = |b: u32| (b as usize) < budget.kv_blocks;
        for op in &self.kv_ops {
            match *op {
                KvOp::Copy { group, from, to } => {
                    ensure(group < n_groups && known(from) && known(to), &|| {
                        format!("copy of block {from} to {to} in group {group}")
                    })
                }
                KvOp::SwapOut { from: block, .. } | KvOp::SwapIn { to: block, .. } => {
                    ensure(known(block), &|| format!("swap of block {block}"))
                }
            }?;
        }
        let n = self.tokens.len();
        ensure(n > 0 && n <= budget.max_tokens, &|| {
            format!("{n} tokens, at most {}", budget.max_tokens)
        })?;
        ensure(self.positions.len() == n, &|| {
            format!("{} positions", self.positions.len())
        })?;
        self.check_ids(program)?;
        self.check_sequences(program, budget)?;
        self.check_adapters(is_loaded)?;

        for node in &program.nodes {
            let Op::Hidden { cols } = node.op else {
                continue;
            };
            ensure(self.hidden.len() == n * cols, &|| {
                format!("{} hidden numbers for {n} tokens", self.hidden.len())
            })?;
        }

        let vocab = program.value(program.output.value()).cols;
        let (has_rows, n_outputs) = match program.output {
            ProgramOutput::Logits(_) => (true, self.outputs.len()),
            ProgramOutput::Pooled(_) => (false, self.seqs.len()),
            ProgramOutput::Hidden(_) => (false, 0),
        };
        ensure(has_rows || self.outputs.is_empty(), &|| {
            "outputs of a program that pools or is gone on from".into()
        })?;
        ensure(n_outputs <= budget.max_outputs, &|| {
            format!("{n_outputs} outputs, at most {}", budget.max_outputs)
        })?;
        ensure(self.outputs.is_sorted_by(|a, b| a.token < b.token), &|| {
            "outputs not in rising order of their tokens".into()
        })?;
        for (row, output) in self.outputs.iter().enumerate() {
            ensure(output.token < n, &|| {
                format!("output {row} of token {}", output.token)
            })?;
            if let Want::LogProb(t) = output.want {
                ensure((t as usize) < vocab, &|| {
                    format!("output {row} wants token {t}")
                })?;
            }
        }
        Ok(())
    }

    /// Every table row that the program looks up exists.
    fn check_ids(&self, program: &Program) -> Result<(), ExecError> {
        for node in &program.nodes {
            let Op::Embed { table, index } = node.op else {
                continue;
            };
            let rows = program.tensor(table).rows as u64;
            let largest = match index {
                EmbedIndex::Token => self.tokens.iter().map(|&TokenSource::Id(id)| id).max(),
                EmbedIndex::Position => self.positions.iter().copied().max(),
                EmbedIndex::Fixed(row) => Some(row),
                EmbedIndex::Segment { .. } => Some(1),
            };
            if let Some(id) = largest.filter(|&id| u64::from(id) >= rows) {
                return Err(ExecError::BadBatch(format!(
                    "row {id} of '{}', which has {rows}",
                    program.tensor(table).name
                )));
            }
        }
        Ok(())
    }

    /// Adapters are loaded, and named in order.
    fn check_adapters(&self, is_loaded: impl Fn(AdapterId) -> bool) -> Result<(), ExecError> {
        for (i, seq) in self.seqs.iter().enumerate() {
            let fail = |what: String| Err(ExecError::BadBatch(format!("sequence {i}: {what}")));
            let adapters = &seq.adapters;
            if let Some(used) = adapters.iter().find(|used| !is_loaded(used.adapter)) {
                return fail(format!("adapter {} is not loaded", used.adapter.0));
            }
            if !adapters.is_sorted_by(|a, b| a.adapter < b.adapter) {
                return fail("adapters not in rising order".to_owned());
            }
            if let Some(used) = adapters.iter().find(|used| !used.scale.is_finite()) {
                return fail(format!("adapter {} times {}", used.adapter.0, used.scale));
            }
        }
        Ok(())
    }

    /// Sequences cover the tokens, and their tables hold them.
    fn check_sequences(&self, program: &Program, budget: &Budget) -> Result<(), ExecError> {
        let n_groups = program.kv_groups().len();
        let fail =
            |seq: usize, what: String| Err(ExecError::BadBatch(format!("sequence {seq}: {what}")));
        let mut next = 0;
        for (i, seq) in self.seqs.iter().enumerate() {
            if seq.tokens.start != next || seq.tokens.end <= next {
                return fail(
                    i,
                    format!("rows {:?}, expected to begin at {next}", seq.tokens),
                );
            }
            next = seq.tokens.end;
            if program.takes_whole_sequences() && seq.first > 0 {
                let first = seq.first;
                return fail(i, format!("begins at token {first}, must be whole"));
            }
            let Some(len) = seq.first.checked_add(seq.tokens.len()) else {
                return fail(i, format!("has {} tokens before it", seq.first));
            };
            let blocks = len.div_ceil(budget.block_len);
            if seq.tables.len() != n_groups || seq.tables.iter().any(|t| t.len() < blocks) {
                return fail(i, format!("needs {n_groups} tables of {blocks} blocks"));
            }
            if let Some(b) = seq
                .tables
                .iter()
                .flatten()
                .find(|&&b| b as usize >= budget.kv_blocks)
            {
                return fail(i, format!("block {b} of {}", budget.kv_blocks));
            }
        }
        if next != self.tokens.len() {
            return fail(
                self.seqs.len(),
                format!("tokens from {next} on belong to no sequence"),
            );
        }
        Ok(())
    }
}
