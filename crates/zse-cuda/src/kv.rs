//! Keys and values in blocks on the device: `[blocks, heads, block_len, row]` for each state and side.

use zse_model::executor::{BlockId, Budget, ExecError, KvOp, KvType, LoadError};
use zse_model::program::{KvGroup, Program, StateId};

use crate::device::{Arena, Device, DeviceMemory, Ptr};

/// One side of a state as kernels take it (`Plane` of `kernels/kv.cuh`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Plane {
    data: Ptr,
    pub(crate) heads: i32,
    pub(crate) dim: i32,
    row_bytes: i32,
    pub(crate) block_len: i32,
}

impl Plane {
    /// Rows of f32, `[n, heads * dim]`, as a plane of blocks of one token.
    pub(crate) fn rows(data: Ptr, heads: usize, dim: usize) -> Self {
        Self {
            data,
            heads: heads as i32,
            dim: dim as i32,
            row_bytes: 4 * dim as i32,
            block_len: 1,
        }
    }

    fn block_bytes(&self) -> usize {
        self.heads as usize * self.block_len as usize * self.row_bytes as usize
    }

    /// Where block `id` lies.
    fn block(&self, id: BlockId) -> Ptr {
        self.data.offset(id as usize * self.block_bytes())
    }
}

/// Keys and values of a state.
pub(crate) struct State {
    pub(crate) keys: Plane,
    pub(crate) values: Plane,
    /// Index of its group.
    pub(crate) group: usize,
}

impl State {
    fn planes(&self) -> [&Plane; 2] {
        [&self.keys, &self.values]
    }
}

/// The blocks of every state.
pub(crate) struct KvStore {
    memory: DeviceMemory,
    states: Vec<State>,
    groups: Vec<KvGroup>,
    pub(crate) ty: KvType,
}

/// Bytes of all blocks as they are laid out.
pub(crate) fn bytes(program: &Program, budget: &Budget) -> u64 {
    layout(program, budget).0.bytes() as u64
}

/// The arena, and the offsets of keys and values of each state.
fn layout(program: &Program, budget: &Budget) -> (Arena, Vec<[usize; 2]>) {
    let mut arena = Arena::default();
    let tokens = budget.kv_blocks.saturating_mul(budget.block_len);
    let offsets = (0..program.states.len())
        .map(|i| {
            let paged = program.paged(StateId(i as u32));
            [paged.k_dim, paged.v_dim].map(|dim| {
                let row = budget.kv_type.head_bytes(dim).unwrap_or(0);
                arena.take(tokens.saturating_mul(paged.kv_heads).saturating_mul(row))
            })
        })
        .collect();
    (arena, offsets)
}

impl KvStore {
    /// Blocks for a budget that was checked.
    pub(crate) fn new(
        device: &Device,
        program: &Program,
        budget: &Budget,
    ) -> Result<Self, LoadError> {
        let (arena, offsets) = layout(program, budget);
        let memory = device.allocate("keys and values", arena.bytes())?;
        // What a mask forbids is multiplied by 0, and must be a number.
        device.clear(&memory)?;
        let groups = program.kv_groups();
        let states = offsets
            .iter()
            .enumerate()
            .map(|(i, [k, v])| {
                let id = StateId(i as u32);
                let paged = program.paged(id);
                let plane = |offset: usize, dim: usize| Plane {
                    data: memory.at().offset(offset),
                    heads: paged.kv_heads as i32,
                    dim: dim as i32,
                    row_bytes: budget.kv_type.head_bytes(dim).unwrap_or(0) as i32,
                    block_len: budget.block_len as i32,
                };
                State {
                    keys: plane(*k, paged.k_dim),
                    values: plane(*v, paged.v_dim),
                    group: groups
                        .iter()
                        .position(|g| g.states.contains(&id))
                        .unwrap_or(0),
                }
            })
            .collect();
        Ok(Self {
            memory,
            states,
            groups,
            ty: budget.kv_type,
        })
    }

    pub(crate) fn state(&self, id: StateId) -> &State {
        &self.states[id.index()]
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.memory.bytes() as u64
    }

    /// Copies a block, in the order of the stream; what is swapped out is there on return.
    ///
    /// # Errors
    /// If bytes to swap in are not those of a block, or the device fails.
    pub(crate) fn apply(&self, device: &Device, op: &KvOp) -> Result<(), ExecError> {
        match op {
            KvOp::Copy { from, to, .. } if from == to => {}
            KvOp::Copy { group, from, to } => {
                for id in &self.groups[*group].states {
                    for plane in self.state(*id).planes() {
                        let (from, to) = (plane.block(*from), plane.block(*to));
                        // SAFETY: both blocks exist (`Batch::check`) and differ.
                        unsafe { device.copy(to, from, plane.block_bytes()) }?;
                    }
                }
            }
            KvOp::SwapOut { from, to } => {
                let mut bytes = to.lock();
                bytes.clear();
                bytes.resize(self.block_bytes(), 0);
                let mut rest = &mut bytes[..];
                for plane in self.states.iter().flat_map(State::planes) {
                    let (part, behind) = rest.split_at_mut(plane.block_bytes());
                    // SAFETY: the block exists (`Batch::check`); waited for below.
                    unsafe { device.download(part, plane.block(*from)) }?;
                    rest = behind;
                }
                device.synchronize()?;
            }
            KvOp::SwapIn { from, to } => {
                let bytes = from.filled(self.block_bytes())?;
                let mut rest = &bytes[..];
                for plane in self.states.iter().flat_map(State::planes) {
                    let (part, behind) = rest.split_at(plane.block_bytes());
                    // SAFETY: the block exists (`Batch::check`); the bytes are not pinned.
                    unsafe { device.upload(plane.block(*to), part) }?;
                    rest = behind;
                }
            }
        }
        Ok(())
    }

    /// Bytes of a block of all groups.
    fn block_bytes(&self) -> usize {
        let planes = self.states.iter().flat_map(State::planes);
        planes.map(Plane::block_bytes).sum()
    }
}
