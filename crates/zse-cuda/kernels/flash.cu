// Attention on tensor cores (flash.cuh): few queries with the keys split over blocks, and many queries.
// Floor of the first: keys and values read once for each KV head; of the second: 4 * rows * keys * D
// operations at the bf16 rate, half of that under a causal mask.
#include "flash.cuh"
#include "quantize.cuh"

constexpr int WARPS = 4, STAGES = 3, MERGERS = 8;

// Warps of a block that share a split: of the widest heads so many as have room.
template <int D>
constexpr int SHARERS = D > 128 ? 2 : 4;

// One token a sequence. Grid: splits, KV heads, tokens. The warps of a block take the slabs of its
// split in turn, each through its own ring in shared memory, and put their sums together at the end.
template <int TYPE, int D>
__device__ __forceinline__ void split(const Attention& a) {
    extern __shared__ __align__(128) uint8_t shared[];
    wait_for_inputs();
    using T = typename Cache<TYPE>::Number;
    constexpr int WARPS = SHARERS<D>;
    // Of keys as well as of values: as they are copied, and behind the ring, of packed ones, as numbers.
    constexpr int RAW_BYTES = SLAB * ROW_BYTES<TYPE, D>, SLAB_BYTES = SLAB * D * 2;
    constexpr int RING_BYTES = STAGES * 2 * RAW_BYTES, OWN_BYTES = RING_BYTES + (PACKED<TYPE> ? 2 * SLAB_BYTES : 0);
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int part = blockIdx.x, head = blockIdx.y, t = blockIdx.z, group = a.heads / a.k.heads;
    uint32_t seq = a.seq[t];
    Range range = seen(a, t, seq);
    const uint32_t* table = a.tables + a.starts[seq];
    int from = max(range.begin / SLAB * SLAB, part * a.split), to = min(range.end, (part + 1) * a.split);
    // Splits without keys are not put together; the only one is.
    if (gridDim.x > 1 && (part < range.begin / a.split || part * a.split >= range.end)) return;

    uint32_t ring = shared_address(shared) + warp * OWN_BYTES;
    auto copy = [&](int i) {
        int first = from + (warp + i * WARPS) * SLAB;
        if (first < to) {
            uint32_t at = ring + i % STAGES * 2 * RAW_BYTES;
            if constexpr (PACKED<TYPE>) {
                copy_packed<TYPE, D>(a.k, table, head, first, to, at);
                copy_packed<TYPE, D>(a.v, table, head, first, to, at + RAW_BYTES);
            } else {
#pragma unroll
                for (int e = 0; e < SLAB * D / 8 / WARP; e++) {
                    copy_chunk<D>(a.k, table, head, first, to, at, lane + e * WARP);
                    copy_chunk<D>(a.v, table, head, first, to, at + RAW_BYTES, lane + e * WARP);
                }
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
        uint32_t at = ring + i % STAGES * 2 * RAW_BYTES;
        if constexpr (PACKED<TYPE>) {
            uint32_t raw = at;
            at = ring + RING_BYTES;
#pragma unroll
            for (int side = 0; side < 2; side++)
                unpack<TYPE, D>(raw + side * RAW_BYTES, [&](int row, int chunk) {
                    return at + side * SLAB_BYTES + slab_offset<D>(row, chunk);
                });
            __syncwarp();
        }
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

// Puts splits together. Grid: heads, tokens; up to MERGERS threads for each number of a head take the splits in
// turn. With `q`, the result goes there rounded (quantize.cu), and not to y.
extern "C" __global__ void flash_merge(const __grid_constant__ Attention a, int splits, uint8_t* q, float2* s) {
    __shared__ float sums[MERGERS * 128];
    __shared__ float2 weights[MERGERS];
    wait_for_inputs();
    let_next_start();
    int head = blockIdx.x, t = blockIdx.y, dim = a.v.dim, mergers = blockDim.x / dim;
    int i = threadIdx.x % dim, merger = threadIdx.x / dim;
    size_t at = size_t(t) * a.heads + head;
    Range range = seen(a, t, a.seq[t]);
    int first = range.begin / a.split, end = (range.end + a.split - 1) / a.split;
    const float2* of = a.weights + at * splits;
    const float* parts = a.parts + at * splits * dim + i;
    float top = -INFINITY, total = 0.0f, sum = 0.0f;
#pragma unroll 4
    for (int part = first + merger; part < end; part += mergers) top = fmaxf(top, of[part].x);
    float base = top == -INFINITY ? 0.0f : top;
#pragma unroll 4
    for (int part = first + merger; part < end; part += mergers) {
        float2 w = of[part];
        float keep = exp2f(w.x - base);
        total = fmaf(w.y, keep, total);
        sum = fmaf(parts[size_t(part) * dim], keep, sum);
    }
    sums[threadIdx.x] = sum;
    if (i == 0) weights[merger] = make_float2(top, total);
    __syncthreads();
    if (merger) return;
    for (int m = 0; m < mergers; m++) top = fmaxf(top, weights[m].x);
    total = sum = 0.0f;
    for (int m = 0; m < mergers; m++) {
        float keep = exp2f(weights[m].x - top);
        total = fmaf(weights[m].y, keep, total);
        sum = fmaf(sums[m * dim + i], keep, sum);
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
// a head of a token, those of a token side by side. The warps of a block share tiles of 64 keys, of the widest heads 32.
template <int TYPE, int D>
__device__ __forceinline__ void tile(const Attention& a) {
    extern __shared__ __align__(128) uint8_t shared[];
    wait_for_inputs();
    using T = typename Cache<TYPE>::Number;
    // Keys, and values, of a tile as numbers; packed ones are in `raw` before, and are copied there twice, these once.
    constexpr int KEYS = D > 128 ? 32 : 64, SLABS = KEYS / SLAB, SLAB_BYTES = SLAB * D * 2, TILE_BYTES = KEYS * D * 2;
    constexpr int RAW_BYTES = SLAB * ROW_BYTES<TYPE, D>;
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

    uint32_t at = shared_address(shared), raw = at + 2 * TILE_BYTES;
    // Which slab a warp unpacks, of keys or values.
    auto slab_of = [&](int i, int e) { return raw + ((i % 2 * 2 * SLABS) + warp + e * WARPS) * RAW_BYTES; };
    auto copy = [&](int i) {
        int first = from + i * KEYS;
        if constexpr (PACKED<TYPE>) {
#pragma unroll
            for (int e = 0; e < 2 * SLABS / WARPS; e++) {
                int slab = warp + e * WARPS, key = first + slab % SLABS * SLAB;
                if (key < to) copy_packed<TYPE, D>(slab < SLABS ? a.k : a.v, table, head, key, to, slab_of(i, e));
            }
            commit_copies();
            return;
        }
        uint32_t keys = at + i % 2 * 2 * TILE_BYTES;
        for (int s = 0; s < SLABS; s++) {
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
        uint32_t keys = at;
        if constexpr (PACKED<TYPE>) {
            __syncwarp();
#pragma unroll
            for (int e = 0; e < 2 * SLABS / WARPS; e++) {
                int slab = warp + e * WARPS;
                uint32_t side = at + slab / SLABS * TILE_BYTES + slab % SLABS * SLAB_BYTES;
                if (from + i * KEYS + slab % SLABS * SLAB < to)
                    unpack<TYPE, D>(slab_of(i, e), [&](int row, int chunk) { return side + slab_offset<D>(row, chunk); });
            }
        } else {
            keys += i % 2 * 2 * TILE_BYTES;
        }
        __syncthreads();
        for (int s = 0; s < SLABS; s++) {
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

#define KERNEL(TYPE, NAME, D)                                                                                 \
    extern "C" __global__ void __launch_bounds__(WARP * SHARERS<D>)                                           \
        flash_split_##NAME##_##D(const __grid_constant__ Attention a) {                                       \
        split<TYPE, D>(a);                                                                                    \
    }                                                                                                         \
    extern "C" __global__ void __launch_bounds__(128) flash_tile_##NAME##_##D(const __grid_constant__ Attention a) { \
        tile<TYPE, D>(a);                                                                                     \
    }
#define KERNELS(TYPE, NAME) KERNEL(TYPE, NAME, 64) KERNEL(TYPE, NAME, 128) KERNEL(TYPE, NAME, 256)
KERNELS(KV_F16, f16)
KERNELS(KV_BF16, bf16)
KERNELS(KV_Q8_0, q8_0)
KERNELS(KV_FP8, fp8)
