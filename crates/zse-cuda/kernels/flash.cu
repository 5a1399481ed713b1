// Attention on tensor cores (flash.cuh): few queries with the keys split over blocks, and many queries.
// Floor of the first: keys and values read once for each KV head; of the second: 4 * rows * keys * D
// operations at the bf16 rate, half of that under a causal mask.
#include "flash.cuh"
#include "quantize.cuh"

constexpr int WARPS = 4, STAGES = 3, MERGERS = 8;

// One token a sequence. Grid: splits, KV heads, tokens. The warps of a block take the slabs of its
// split in turn, each through its own ring in shared memory, and put their sums together at the end.
template <class T, int D>
__device__ __forceinline__ void split(const Attention& a) {
    extern __shared__ __align__(128) uint8_t shared[];
    wait_for_inputs();
    constexpr int SLAB_BYTES = SLAB * D * 2;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int part = blockIdx.x, head = blockIdx.y, t = blockIdx.z, group = a.heads / a.k.heads;
    uint32_t seq = a.seq[t];
    Range range = seen(a, t, seq);
    const uint32_t* table = a.tables + a.starts[seq];
    int from = max(range.begin / SLAB * SLAB, part * a.split), to = min(range.end, (part + 1) * a.split);
    // Splits without keys are not put together; the only one is.
    if (gridDim.x > 1 && (part < range.begin / a.split || part * a.split >= range.end)) return;

    uint32_t ring = shared_address(shared) + warp * STAGES * 2 * SLAB_BYTES;
    auto copy = [&](int i) {
        int first = from + (warp + i * WARPS) * SLAB;
        if (first < to) {
            uint32_t at = ring + i % STAGES * 2 * SLAB_BYTES;
#pragma unroll
            for (int e = 0; e < SLAB * D / 8 / WARP; e++) {
                copy_chunk<D>(a.k, table, head, first, to, at, lane + e * WARP);
                copy_chunk<D>(a.v, table, head, first, to, at + SLAB_BYTES, lane + e * WARP);
            }
        }
        commit_copies();
    };
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) copy(i);

    Rows<T, D> rows;
    auto query = [&](int r) {
        return r < group ? a.q + (size_t(t) * a.heads + head * group + r) * D : nullptr;
    };
    rows.init(query(lane / 4), query(lane / 4 + 8), a.softcap > 0.0f ? a.scale : a.scale * Rows<T, D>::LOG2E);
    rows.range[0] = rows.range[1] = {range.begin, to};
    for (int i = 0; from + (warp + i * WARPS) * SLAB < to; i++) {
        wait_copies<STAGES - 2>();
        __syncwarp();
        copy(i + STAGES - 1);
        uint32_t at = ring + i % STAGES * 2 * SLAB_BYTES;
        rows.take(at, at + SLAB_BYTES, from + (warp + i * WARPS) * SLAB, a.softcap);
        __syncwarp();
    }
    wait_copies<0>();
    rows.finish();
    let_next_start();

    // Sums of the warps: [WARPS, 16, D], and maxima and totals.
    __shared__ float2 weights[WARPS][16];
    float* sums = reinterpret_cast<float*>(shared);
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = lane / 4 + 8 * r;
        if (lane % 4 == 0) weights[warp][row] = make_float2(rows.top[r], rows.total[r]);
        if (row >= group) continue;
#pragma unroll
        for (int j = 0; j < D / 8; j++)
            *reinterpret_cast<float2*>(sums + (warp * 16 + row) * D + j * 8 + lane % 4 * 2) =
                make_float2(rows.o[j][2 * r], rows.o[j][2 * r + 1]);
    }
    __syncthreads();
    for (int e = threadIdx.x; e < group * D; e += WARPS * WARP) {
        int row = e / D;
        float top = -INFINITY, total = 0.0f, sum = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) top = fmaxf(top, weights[w][row].x);
        float base = top == -INFINITY ? 0.0f : top;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            float keep = exp2f(weights[w][row].x - base);
            total = fmaf(weights[w][row].y, keep, total);
            sum = fmaf(sums[(w * 16 + row) * D + e % D], keep, sum);
        }
        size_t at = size_t(t) * a.heads + head * group + row;
        if (gridDim.x == 1) {
            a.y[at * D + e % D] = sum / total;
        } else {
            at = at * gridDim.x + part;
            a.parts[at * D + e % D] = sum;
            if (e % D == 0) a.weights[at] = make_float2(top, total);
        }
    }
}

// Puts splits together. Grid: heads, tokens; MERGERS threads for each number of a head take the splits in
// turn. With `q`, the result goes there rounded (quantize.cu), and not to y.
extern "C" __global__ void flash_merge(const __grid_constant__ Attention a, int splits, uint8_t* q, float2* s) {
    __shared__ float sums[MERGERS][128];
    __shared__ float2 weights[MERGERS];
    wait_for_inputs();
    let_next_start();
    int head = blockIdx.x, t = blockIdx.y, dim = blockDim.x / MERGERS;
    int i = threadIdx.x % dim, merger = threadIdx.x / dim;
    size_t at = size_t(t) * a.heads + head;
    Range range = seen(a, t, a.seq[t]);
    int first = range.begin / a.split, end = (range.end + a.split - 1) / a.split;
    const float2* of = a.weights + at * splits;
    const float* parts = a.parts + at * splits * dim + i;
    float top = -INFINITY, total = 0.0f, sum = 0.0f;
#pragma unroll 4
    for (int part = first + merger; part < end; part += MERGERS) top = fmaxf(top, of[part].x);
    float base = top == -INFINITY ? 0.0f : top;
#pragma unroll 4
    for (int part = first + merger; part < end; part += MERGERS) {
        float2 w = of[part];
        float keep = exp2f(w.x - base);
        total = fmaf(w.y, keep, total);
        sum = fmaf(parts[size_t(part) * dim], keep, sum);
    }
    sums[merger][i] = sum;
    if (i == 0) weights[merger] = make_float2(top, total);
    __syncthreads();
    if (merger) return;
#pragma unroll
    for (int m = 0; m < MERGERS; m++) top = fmaxf(top, weights[m].x);
    total = sum = 0.0f;
#pragma unroll
    for (int m = 0; m < MERGERS; m++) {
        float keep = exp2f(weights[m].x - top);
        total = fmaf(weights[m].y, keep, total);
        sum = fmaf(sums[m][i], keep, sum);
    }
    float v = sum / total;
    if (!q) {
        a.y[at * dim + i] = v;
        return;
    }
    int groups = a.heads * dim / 32;
    size_t column = size_t(t) * groups;
    quantize_group(v, i % 32, q + column * 32, s + column, (head * dim + i) / 32, groups);
}

// Many tokens a sequence. Grid: tiles of 64 rows of the longest sequence, KV heads, sequences; a row is
// a head of a token, those of a token side by side. The warps of a block share tiles of 64 keys.
template <class T, int D>
__device__ __forceinline__ void tile(const Attention& a) {
    extern __shared__ __align__(128) uint8_t shared[];
    wait_for_inputs();
    constexpr int KEYS = 64, SLAB_BYTES = SLAB * D * 2, TILE_BYTES = KEYS * D * 2;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int head = blockIdx.y, seq = blockIdx.z, group = a.heads / a.k.heads;
    int start = a.spans[seq], rows_of_seq = (a.spans[seq + 1] - start) * group;
    // The last tiles see the most keys, and go first.
    int first_row = (gridDim.x - 1 - blockIdx.x) * 16 * WARPS;
    if (first_row >= rows_of_seq) return;
    int last_row = min(first_row + 16 * WARPS, rows_of_seq) - 1;
    const uint32_t* table = a.tables + a.starts[seq];
    int from = seen(a, start + first_row / group, seq).begin / KEYS * KEYS;
    int to = seen(a, start + last_row / group, seq).end;

    uint32_t at = shared_address(shared);
    auto copy = [&](int i) {
        int first = from + i * KEYS;
        uint32_t keys = at + i % 2 * 2 * TILE_BYTES;
        for (int s = 0; s < KEYS / SLAB; s++) {
            if (first + s * SLAB >= to) break;
#pragma unroll
            for (int e = 0; e < SLAB * D / 8 / (WARPS * WARP); e++) {
                int chunk = threadIdx.x + e * WARPS * WARP;
                copy_chunk<D>(a.k, table, head, first + s * SLAB, to, keys + s * SLAB_BYTES, chunk);
                copy_chunk<D>(a.v, table, head, first + s * SLAB, to, keys + TILE_BYTES + s * SLAB_BYTES, chunk);
            }
        }
        commit_copies();
    };
    copy(0);

    Rows<T, D> rows;
    const float* queries[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = first_row + warp * 16 + lane / 4 + 8 * r;
        int t = start + min(row, last_row) / group;
        rows.range[r] = seen(a, t, seq);
        queries[r] = row <= last_row ? a.q + (size_t(t) * a.heads + head * group + row % group) * D : nullptr;
    }
    rows.init(queries[0], queries[1], a.softcap > 0.0f ? a.scale : a.scale * Rows<T, D>::LOG2E);
    for (int i = 0; from + i * KEYS < to; i++) {
        copy(i + 1);
        wait_copies<1>();
        __syncthreads();
        uint32_t keys = at + i % 2 * 2 * TILE_BYTES;
        for (int s = 0; s < KEYS / SLAB; s++) {
            int first = from + i * KEYS + s * SLAB;
            if (first >= to) break;
            rows.take(keys + s * SLAB_BYTES, keys + TILE_BYTES + s * SLAB_BYTES, first, a.softcap);
        }
        __syncthreads();
    }
    let_next_start();
    rows.finish();
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = first_row + warp * 16 + lane / 4 + 8 * r;
        if (row > last_row) continue;
        float* y = a.y + (size_t(start + row / group) * a.heads + head * group + row % group) * D;
#pragma unroll
        for (int j = 0; j < D / 8; j++)
            *reinterpret_cast<float2*>(y + j * 8 + lane % 4 * 2) =
                make_float2(rows.o[j][2 * r] / rows.total[r], rows.o[j][2 * r + 1] / rows.total[r]);
    }
}

#define KERNEL(T, NAME, D)                                                                               \
    extern "C" __global__ void __launch_bounds__(128) flash_split_##NAME##_##D(const __grid_constant__ Attention a) { \
        split<T, D>(a);                                                                                  \
    }                                                                                                    \
    extern "C" __global__ void __launch_bounds__(128) flash_tile_##NAME##_##D(const __grid_constant__ Attention a) { \
        tile<T, D>(a);                                                                                   \
    }
KERNEL(__half, f16, 64)
KERNEL(__half, f16, 128)
KERNEL(__nv_bfloat16, bf16, 64)
KERNEL(__nv_bfloat16, bf16, 128)
