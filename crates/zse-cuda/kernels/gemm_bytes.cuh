// Products of a quantized matrix [rows, cols] with up to 16 columns of int8 activations on Hopper, by integer tensor
// cores: y[t, r] = sum_k w[r, k] x[t, k], the sums of each 32 along k scaled as in gemv_quant.cu. A warp takes 16 rows
// (of gated products: half of them gate, half up) through a ring of its own in shared memory, that cp.async fills
// RING - 1 steps ahead (bytes.cuh); activations, which all warps of a block share, come by bulk copies. Minima meet
// the activations' sums as one more product, of bf16: integers by sums in two parts.
// Steps along k of all tiles are dealt out evenly and tiles put together as in gemm_hopper.cuh, warp by warp.
// Floor: the bytes of the matrix over bandwidth. Instructions for 1,024 weights of a warp: about 55 and 20 for each
// 8 columns, of 160 that a multiprocessor has time for at 3.5 TB/s.
#pragma once
#include "bytes.cuh"
#include "gemm_hopper.cuh"

constexpr int BYTES_WARPS = 8;

// Leaves a warp's part of a shared tile's sums, and tells whether it was the last; then `c` holds those of all.
template <int LEN>
__device__ __forceinline__ bool put_warps_together(const Gemm& a, int tile, int slot, float (&c)[LEN]) {
    constexpr int AT_ONCE = 32 / LEN;  // parts on their way
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    auto at = [&](int slot) {
        return reinterpret_cast<float4*>(a.parts) + (size_t(slot) * BYTES_WARPS + warp) * (LEN / 4) * WARP + lane;
    };
    float4* own = at(slot);
#pragma unroll
    for (int i = 0; i < LEN / 4; i++) __stcg(own + i * WARP, make_float4(c[4 * i], c[4 * i + 1], c[4 * i + 2], c[4 * i + 3]));
    // One lane publishes what all have written, and sees what others' have: much cheaper than a fence of each.
    __syncwarp();
    int first = tile * a.steps / a.per, last = ((tile + 1) * a.steps - 1) / a.per, before = 0;
    if (lane == 0) {
        int* arrived = a.arrived + tile * BYTES_WARPS + warp;
        before = count_arrival(arrived);
        if (before == last - first) *arrived = 0;
    }
    if (__shfl_sync(ALL_LANES, before, 0) != last - first) return false;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < LEN; i++) c[i] = 0.0f;
    for (int base = first; base <= last; base += AT_ONCE) {
        float4 part[AT_ONCE][LEN / 4];
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
            int block = min(base + k, last);
            // The first of a block's two places is that of the tile it begins with.
            const float4* from = at(2 * block + (block * a.per / a.steps != tile));
#pragma unroll
            for (int i = 0; i < LEN / 4; i++) part[k][i] = __ldcg(from + i * WARP);
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++)
#pragma unroll
            for (int i = 0; i < LEN / 4; i++)
                if (base + k <= last) {
                    c[4 * i] += part[k][i].x;
                    c[4 * i + 1] += part[k][i].y;
                    c[4 * i + 2] += part[k][i].z;
                    c[4 * i + 3] += part[k][i].w;
                }
    }
    return true;
}

// J: columns / 8. STAGES: steps of activations in shared memory.
template <class L, int J, int RING, int STAGES, bool GATED>
__device__ __forceinline__ void gemm_bytes(const Gemm& a) {
    using B = Bytes<L>;
    using Slot = Slots<L>;
    constexpr int STAGE = J * BYTES_OF_EIGHT, WARPS = BYTES_WARPS, WARP_ROWS = GATED ? 8 : 16, LAG = 2;
    constexpr bool SPLIT = B::SCALES == 16;
    extern __shared__ __align__(1024) uint8_t shared[];
    __shared__ uint64_t full[STAGES], empty[STAGES];
    Whole<8 * J, WARPS * WARP_ROWS> deal(a);
    int begin = blockIdx.x * a.per, end = min(begin + a.per, deal.tiles * a.steps);
    if (begin >= end) return;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, last_row = a.p.w.rows - 1;
    uint32_t x = shared_address(shared), own = x + STAGES * STAGE + warp * (RING * Slot::SLOT + Slot::TABLE);
    uint32_t table = own + RING * Slot::SLOT;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            start_barrier(full + i, 1);
            start_barrier(empty + i, WARPS);
        }
        publish_barriers();
    }
    __syncthreads();

    // Row `r` of the warp's 16 in tile `tile`.
    auto row_of = [&](int tile, int r) { return min((tile * WARPS + warp) * WARP_ROWS + r % WARP_ROWS, last_row); };
    Slot next;
    int next_tile = begin / a.steps, next_step = begin % a.steps;
    auto to_tile = [&] { next.to_rows([&](int r) { return row_of(next_tile, r); }, a.steps, next_step); };
    auto send = [&](int slot) {
        next.send(own + slot * Slot::SLOT, a.p.w, GATED ? a.p.up : a.p.w);
        if (++next_step < a.steps) return;
        next_step = 0;
        next_tile++;
        to_tile();
    };
    to_tile();
#pragma unroll
    for (int i = 0; i < RING - 1; i++) {
        if (begin + i < end) send(i);
        commit_copies();
    }
    if (!a.beside) wait_for_inputs();
    // Only now: who runs beside this needs the same inputs.
    let_next_start();
    int x_step = begin % a.steps, x_stage = 0, x_left = end - begin, x_phase = 0;
    auto copy = [&] {
        expect_bytes(full + x_stage, STAGE);
        copy_bulk(x + x_stage * STAGE, a.x + size_t(x_step) * STAGE, STAGE, full + x_stage);
        x_left--;
        if (++x_step == a.steps) x_step = 0;
        if (++x_stage == STAGES) x_stage = 0;
    };
    if (threadIdx.x == 0)
        for (int i = 0; i < STAGES && x_left; i++) copy();

    float c[4 * J];
    int tile = begin / a.steps, step = begin % a.steps;
    auto begin_sums = [&](bool first) {
        Place place = deal.place(a, tile);
        begin_tile<8 * J, GATED>(a, c, first, place.row + warp * WARP_ROWS, place);
    };
    begin_sums(step == 0);
    int slot = 0, stage = 0, phase = 0;
    for (int u = begin; u < end; u++) {
        wait_copies<RING - 2>();
        // All lanes' copies are there, and all are done with what the step before read.
        __syncwarp();
        uint32_t at = own + slot * Slot::SLOT;
        if (u + RING - 1 < end) send(slot ? slot - 1 : RING - 1);
        commit_copies();
        int odd = B::D4 ? (row_of(tile, lane / 2) * a.steps + step) & 1 : 0;
        B::scales(at + Slot::S, at + Slot::D, table, table + Slot::MINS, odd);
        __syncwarp();
        float w[2][8];
        if constexpr (!SPLIT)
#pragma unroll
            for (int i = 0; i < 4; i++)
                *reinterpret_cast<float4*>(&w[i / 2][4 * (i % 2)]) =
                    shared_floats(table + B::place(lane / 4 + 8 * (i / 2), i % 2));
        wait_barrier(full + stage, phase);
        uint32_t columns = x + stage * STAGE;
#pragma unroll
        for (int p = 0; p < 4; p++) {
            uint32_t q[4], operands[2][4];
            load_matrices(q, at + (Strip<8>::place(lane % 16, lane / 16) ^ (p << 5)));
            B::operands(q, at + Slot::H, p, operands);
            if constexpr (SPLIT)
#pragma unroll
                for (int r = 0; r < 2; r++)
                    *reinterpret_cast<float4*>(&w[r][0]) = shared_floats(table + B::place(lane / 4 + 8 * r, p));
#pragma unroll
            for (int j = 0; j < J; j++) {
                uint4 b = shared16(columns + j * BYTES_OF_EIGHT + p * 512 + lane * 16);
                float4 scale = shared_floats(columns + j * BYTES_OF_EIGHT + SCALES_OF_EIGHT + p * 64 + lane % 4 * 16);
                const float xs[2][2] = {{scale.x, scale.y}, {scale.z, scale.w}};
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const uint32_t(&o)[4] = operands[e];
                    int low[4], high[4];
                    if constexpr (SPLIT) {
                        multiply_bytes(low, o[0], o[1], e ? b.z : b.x);
                        multiply_bytes(high, o[2], o[3], e ? b.w : b.y);
                    } else {
                        multiply_bytes(low, o, e ? b.z : b.x, e ? b.w : b.y);
                    }
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        int g = 2 * e;
                        if constexpr (!SPLIT) g = B::at(2 * p + e);
                        // TOP times a scale is exact: scales have few bits.
                        float by = w[i / 2][g], v = fmaf(__int_as_float(low[i]), by, -TOP * by);
                        if constexpr (SPLIT) v = fmaf(__int_as_float(high[i]) - TOP, w[i / 2][g + 1], v);
                        c[4 * j + i] = fmaf(v, xs[e][i % 2], c[4 * j + i]);
                    }
                }
            }
        }
        if constexpr (B::MIN) {
            uint32_t mins = table + Slot::MINS + lane * 4, a0 = shared4(mins), a1 = shared4(mins + 128);
            float least[2] = {B::least(at + Slot::S, lane / 4), B::least(at + Slot::S, lane / 4 + 8)};
#pragma unroll
            for (int j = 0; j < J; j++) {
                uint2 sums = shared8(columns + j * BYTES_OF_EIGHT + SUMS_OF_EIGHT + lane * 8);
                float v[4];
                multiply_twice(v, a0, a1, sums.x, sums.y);
#pragma unroll
                for (int i = 0; i < 4; i++) c[4 * j + i] = fmaf(-least[i / 2], v[i], c[4 * j + i]);
            }
        }
        __syncwarp();
        if (lane == 0) arrive(empty + stage);
        // What the step LAG before was multiplied with gives way to what comes STAGES after it.
        if (threadIdx.x == 0 && u - begin >= LAG && x_left) {
            wait_barrier(empty + x_stage, x_phase);
            copy();
            if (x_stage == 0) x_phase ^= 1;
        }
        if (++slot == RING) slot = 0;
        if (++stage == STAGES) stage = 0, phase ^= 1;
        if (++step < a.steps && u + 1 < end) continue;
        bool whole = tile * a.steps >= begin && step == a.steps;
        if (whole || put_warps_together(a, tile, 2 * blockIdx.x + (tile != begin / a.steps), c)) {
            Place place = deal.place(a, tile);
            store_tile<8 * J, GATED>(a, c, place.row + warp * WARP_ROWS, place);
        }
        step = 0;
        tile++;
        begin_sums(u + 1 < end);
    }
    // What comes next relies on the end of all before.
    if (a.beside) wait_for_inputs();
}

// THREADS: those that registers are limited for, twice on a multiprocessor.
#define GEMM_BYTES(L, NAME, J, RING, STAGES, THREADS)                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) gemm_bytes_##NAME##_##J(const __grid_constant__ Gemm a) {       \
        gemm_bytes<L, J, RING, STAGES, false>(a);                                                                            \
    }                                                                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) gemm_bytes_gated_##NAME##_##J(const __grid_constant__ Gemm a) { \
        gemm_bytes<L, J, RING, STAGES, true>(a);                                                                             \
    }
