// Products of a matrix [rows, cols] with more columns than gemm_bytes.cuh takes on Hopper: y[t, r] = sum_k w[r, k] x[t, k].
// Weights go from memory to registers, are unpacked there and multiplied by wgmma with activations that
// bulk copies bring to shared memory (tiles.cuh); both are on their way while others are multiplied. (16-bit
// weights by up to 64 columns wait in shared memory, ring.cuh; by more than 128: gemm_hopper_shared.cu.)
// A block takes tiles of 64 * WGS rows (of gated products: half of them gate, half up) by N columns, a
// warpgroup 64 of the rows. All tiles' steps along k are dealt out evenly, `per` to a block: a tile that
// several blocks share is put together by the one that comes last, in the order of k (Stream-K, Osama et
// al. 2023, arXiv:2301.03598, without waiting). Columns may be grouped by expert, and then meet its rows alone.
// Floor: 2 * n * rows * cols over the bf16 rate, or the bytes of the matrix over bandwidth.
#pragma once
#include "bulk.cuh"
#include "fp8.cuh"
#include "gemv.cuh"
#include "ring.cuh"
#include "tiles.cuh"
#include "wgmma.cuh"

struct Gemm {
    Product p;           // xq, xs, x, route and n of experts are not used
    const uint8_t* x;    // activations in tiles of 16 bits
    const float* scale;  // [n]: factor on each column, or null
    float* parts;        // sums of shared tiles: two for each block
    int* arrived;        // for each tile and warpgroup: blocks that have left theirs; 0 before and after
    const int4* groups;  // of a mixture: tiles of columns (moe.cu), as many as the first says; or null
    int beside;          // whether it may run beside the kernel before it, of which it reads nothing
    int atoms;           // columns of x / 8
    int steps;           // along k
    int per;             // steps of a block; with groups: at least
};

// Where a tile lies: the rows of the matrix before those of its expert, its first row there, and its columns.
struct Place {
    int before;
    int row;
    int column;
    int end;  // of the columns that count
};

// Tiles of ROWS by N numbers where all columns meet all rows, those of the same rows behind one another.
template <int N, int ROWS>
struct Whole {
    int columns, tiles, per;

    __device__ __forceinline__ explicit Whole(const Gemm& a)
        : columns((a.p.n + N - 1) / N), tiles((a.p.w.rows + ROWS - 1) / ROWS * columns), per(a.per) {}

    __device__ __forceinline__ Place place(const Gemm& a, int tile) const {
        return {0, tile / columns * ROWS, tile % columns * N, a.p.n};
    }
};

// Tiles where columns are grouped by expert, those of the same columns behind one another. How many there are
// only the device knows.
template <int N, int ROWS>
struct Grouped {
    int rows, tiles, per;

    __device__ __forceinline__ explicit Grouped(const Gemm& a)
        : rows((a.p.w.rows + ROWS - 1) / ROWS), tiles(a.groups->x * rows),
          per(max((tiles * a.steps + int(gridDim.x) - 1) / int(gridDim.x), a.per)) {}

    __device__ __forceinline__ Place place(const Gemm& a, int tile) const {
        int4 group = a.groups[1 + min(tile, tiles - 1) / rows];
        return {group.x * a.p.w.rows, tile % rows * ROWS, group.y, group.z};
    }
};

// A thread's weights of 64 rows by one step: of rows `lane / 4` and that + 8 of its warp.
template <class L>
struct Weights {
    using Number = __nv_bfloat16;
    static constexpr bool DIRECT = false;
    typename L::Raw raw[2];
    __nv_bfloat162 factor[2], least[2];

    // Units that a row is loaded in: groups.
    __device__ __forceinline__ static int units(int cols) { return cols / 32; }

    // `row`: the first units of two rows.
    __device__ __forceinline__ void fetch(const Matrix& a, const Matrix& b, const uint32_t (&row)[2], int step) {
        uint32_t g = min(4 * step + int(threadIdx.x) % 4, units(a.cols) - 1);
        raw[0] = L::load(a, row[0] + g);
        raw[1] = L::load(b, row[1] + g);
    }

    // word & mask | 128 and 128 in bf16, in one instruction.
    __device__ __forceinline__ static uint32_t on_128(uint32_t word, uint32_t mask) {
        uint32_t v;
        asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(v) : "r"(word), "r"(mask), "r"(0x43004300u));
        return v;
    }

    // Levels of bytes 0 and 2 of a word.
    __device__ __forceinline__ static __nv_bfloat162 levels(uint32_t word) {
        // On top of 128, which has 7 bits below it; a byte's upper bit takes another 128 away.
        uint32_t on = on_128(word, L::NIBBLES ? 0x000f000fu : 0x007f007fu);
        uint32_t off = L::SIGNED ? on_128(word, 0x00800080u) : 0x43004300u + 0x00010001u * L::ZERO;
        return __hsub2(reinterpret_cast<__nv_bfloat162&>(on), reinterpret_cast<__nv_bfloat162&>(off));
    }

    // The operands of four products of 16 along k; the lower half first, whose factors may serve both.
    __device__ __forceinline__ void unpack(int half, int step, int cols, uint32_t (&a)[4][4]) {
        int at = min(4 * step + int(threadIdx.x) % 4, cols / 32 - 1);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            Group g;
            L::group(raw[r], at, g);
            if (half == 0 || L::SPLIT) {
                factor[r] = __float2bfloat162_rn(g.w[half]);
                least[r] = __float2bfloat162_rn(L::MIN ? g.m[half] : 0.0f);
            }
            __nv_bfloat162 w = factor[r], m = least[r];
#pragma unroll
            for (int s = 0; s < 4; s++)
#pragma unroll
                for (int odd = 0; odd < 2; odd++) {
                    uint32_t word = uint32_t(g.q[4 * half + s]) >> (8 * odd);
                    if constexpr (L::NIBBLES) word = (&raw[r].q.x)[s] >> (4 * half + 8 * odd);
                    __nv_bfloat162 v = levels(word);
                    v = L::MIN ? __hfma2(v, w, m) : __hmul2(v, w);
                    a[s][2 * odd + r] = reinterpret_cast<uint32_t&>(v);
                }
        }
    }
};

// 16-bit weights are operands as they are: they stay until they are multiplied.
template <class T>
struct Direct {
    using Number = T;
    static constexpr bool DIRECT = true;
    uint4 raw[2][4];

    // Units that a row is loaded in: 16 bytes.
    __device__ __forceinline__ static int units(int cols) { return (cols + 7) / 8; }

    // `row`: the first units of two rows.
    __device__ __forceinline__ void fetch(const Matrix& a, const Matrix& b, const uint32_t (&row)[2], int step) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t at = min(16 * step + 4 * i + int(threadIdx.x) % 4, units(a.cols) - 1);
            raw[0][i] = stream16(a.q + size_t(row[0] + at) * 16);
            raw[1][i] = stream16(b.q + size_t(row[1] + at) * 16);
        }
    }

    // The same through `slot`, and back.
    template <int THREADS>
    __device__ __forceinline__ static void send(Slot<THREADS, 4> slot, const Matrix& a, const Matrix& b,
                                                const uint32_t (&row)[2], int step) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t at = min(16 * step + 4 * i + int(threadIdx.x) % 4, units(a.cols) - 1);
            copy16(slot.field(i, 0), a.q + size_t(row[0] + at) * 16, true);
            copy16(slot.field(i, 1), b.q + size_t(row[1] + at) * 16, true);
        }
    }
    template <int THREADS>
    __device__ __forceinline__ void receive(Slot<THREADS, 4> slot) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            raw[0][i] = shared16(slot.field(i, 0));
            raw[1][i] = shared16(slot.field(i, 1));
        }
    }

    __device__ __forceinline__ void unpack(int half, int, int, uint32_t (&a)[4][4]) const {
#pragma unroll
        for (int s = 0; s < 4; s++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const uint4& v = raw[r][2 * half + s / 2];
                a[s][r] = s % 2 ? v.z : v.x;
                a[s][2 + r] = s % 2 ? v.w : v.y;
            }
    }
};

// FP8 weights become f16, which holds them as they are; numbers in the order of quantized ones.
template <>
struct Weights<Fp8> {
    using Number = __half;
    static constexpr bool DIRECT = false;
    uint4 raw[2][2];

    // Units that a row is loaded in: groups.
    __device__ __forceinline__ static int units(int cols) { return cols / 32; }

    // `row`: the first units of two rows.
    __device__ __forceinline__ void fetch(const Matrix& a, const Matrix& b, const uint32_t (&row)[2], int step) {
        uint32_t g = min(4 * step + int(threadIdx.x) % 4, units(a.cols) - 1);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            raw[0][half] = stream16(a.q + size_t(row[0] + g) * 32 + half * 16);
            raw[1][half] = stream16(b.q + size_t(row[1] + g) * 32 + half * 16);
        }
    }

    __device__ __forceinline__ void unpack(int half, int, int, uint32_t (&a)[4][4]) const {
#pragma unroll
        for (int r = 0; r < 2; r++)
#pragma unroll
            for (int s = 0; s < 4; s++) {
                // Bytes 0 and 2, then 1 and 3.
                uint32_t word = __byte_perm((&raw[r][half].x)[s], 0, 0x3120);
                a[s][r] = two_halves(word);
                a[s][2 + r] = two_halves(word >> 16);
            }
    }
};

template <>
struct Weights<__half> : Direct<__half> {};
template <>
struct Weights<__nv_bfloat16> : Direct<__nv_bfloat16> {};

// Where a thread's weights begin, which moves on from step to step and from tile to tile.
template <class Tile, class Deal, bool GATED>
struct Cursor {
    uint32_t row[2];  // in units
    int tile, step;

    __device__ __forceinline__ void to_tile(const Gemm& a, const Deal& deal) {
        int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, last = a.p.w.rows - 1;
        Place place = deal.place(a, tile);
        int first = place.row + warp * (GATED ? 8 : 16) + lane / 4;
        row[0] = (place.before + min(first, last)) * Tile::units(a.p.w.cols);
        row[1] = GATED ? row[0] : (place.before + min(first + 8, last)) * Tile::units(a.p.w.cols);
    }

    __device__ __forceinline__ void advance(const Gemm& a, const Deal& deal) {
        if (++step < a.steps) return;
        step = 0;
        tile++;
        to_tile(a, deal);
    }
};

// Counts one more arrival; what the thread knows of memory is known to those that count later.
__device__ __forceinline__ int count_arrival(int* arrived) {
    int before;
    asm volatile("atom.add.acq_rel.gpu.global.s32 %0, [%1], 1;" : "=r"(before) : "l"(arrived) : "memory");
    return before;
}

// Leaves a part of a shared tile's sums, and tells whether it was the last; then `c` holds those of all.
template <int WGS, int LEN>
__device__ __forceinline__ bool put_together(const Gemm& a, int per, int tile, int slot, float (&c)[LEN]) {
    __shared__ int before[WGS];
    int group = threadIdx.x / 128, lane = threadIdx.x % 128;
    auto at = [&](int slot) { return a.parts + (size_t(slot) * WGS + group) * LEN * 128 + lane; };
    constexpr int AT_ONCE = LEN <= 16 ? 32 / LEN : LEN == 32 ? 2 : 1;  // parts on their way
    float* own = at(slot);
#pragma unroll
    for (int i = 0; i < LEN; i++) __stcg(own + i * 128, c[i]);
    // One thread publishes what all have written, and sees what others' have: cheaper than a fence of each.
    sync_threads_of(1 + group, 128);
    int first = tile * a.steps / per, last = ((tile + 1) * a.steps - 1) / per;
    int* arrived = a.arrived + tile * WGS + group;
    if (lane == 0) {
        before[group] = count_arrival(arrived);
        if (before[group] == last - first) *arrived = 0;
    }
    sync_threads_of(1 + group, 128);
    if (before[group] != last - first) return false;
#pragma unroll
    for (int i = 0; i < LEN; i++) c[i] = 0.0f;
    for (int base = first; base <= last; base += AT_ONCE) {
        float part[AT_ONCE][LEN];
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
            int block = min(base + k, last);
            // The first of a block's two places is that of the tile it begins with.
            const float* from = at(2 * block + (block * per / a.steps != tile));
#pragma unroll
            for (int i = 0; i < LEN; i++) part[k][i] = __ldcg(from + i * 128);
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++)
#pragma unroll
            for (int i = 0; i < LEN; i++)
                if (base + k <= last) c[i] += part[k][i];
    }
    return true;
}

// Sums begin with what is added to the product, in the block that multiplies the tile's `first` step: so it is
// read all at once. Scaled sums get it at the end. `first_row`: of the warp.
template <int N, bool GATED, int LEN>
__device__ __forceinline__ void begin_tile(const Gemm& a, float (&c)[LEN], bool first, int first_row, const Place& place) {
    const float* add = GATED || !first || a.scale ? nullptr : a.p.add;
    int lane = threadIdx.x % WARP, rows = a.p.w.rows;
#pragma unroll
    for (int i = 0; i < LEN; i++) {
        int t = place.column + i / 4 * 8 + lane % 4 * 2 + i % 2, row = first_row + lane / 4 + i / 2 % 2 * 8;
        c[i] = add && t < place.end && row < rows ? add[size_t(t) * rows + row] : 0.0f;
    }
}

// ROWS: sums lack the scales of the matrix's rows.
template <int N, bool GATED, bool ROWS = false, int LEN>
__device__ __forceinline__ void store_tile(const Gemm& a, const float (&c)[LEN], int first_row, const Place& place) {
    const Product& p = a.p;
    int lane = threadIdx.x % WARP, rows = p.w.rows;
#pragma unroll
    for (int r = 0; r < (GATED ? 1 : 2); r++) {
        int row = first_row + lane / 4 + 8 * r;
        if (row >= rows) continue;
        float bias = p.bias ? p.bias[row] : 0.0f, up_bias = GATED && p.up_bias ? p.up_bias[row] : 0.0f;
        float by = ROWS ? row_scales(p.w)[row] : 1.0f, up_by = GATED && ROWS ? row_scales(p.up)[row] : 1.0f;
#pragma unroll
        for (int i = 0; i < N / 4; i++) {
            int t = place.column + i / 2 * 8 + lane % 4 * 2 + i % 2, e = i / 2 * 4 + i % 2;
            if (t >= place.end) continue;
            float scale = a.scale ? a.scale[t] : 1.0f;
            size_t at = size_t(t) * rows + row;
            float v = fmaf(c[e + 2 * r], ROWS ? scale * by : scale, bias);
            if (GATED) v = activate(p.act, v) * fmaf(c[e + 2], ROWS ? scale * up_by : scale, up_bias);
            else if (p.add && a.scale) v += p.add[at];
            p.y[at] = v;
        }
    }
}

// DEPTH: steps of weights on their way to registers; RING: those that have slots in shared memory, or 0. STAGES:
// steps of activations in shared memory.
template <class L, int N, int WGS, int DEPTH, int RING, int STAGES, bool GATED, class Deal>
__device__ __forceinline__ void gemm(const Gemm& a, const Deal& deal) {
    constexpr int HALF = N * 128, STAGE = 2 * HALF, WARPS = 4 * WGS, THREADS = 128 * WGS;
    static_assert(RING == 0 || DEPTH == 1);
    extern __shared__ __align__(1024) uint8_t shared[];
    __shared__ uint64_t full[STAGES], empty[STAGES];
    int begin = blockIdx.x * deal.per, end = min(begin + deal.per, deal.tiles * a.steps);
    if (begin >= end) return;
    uint32_t x = shared_address(shared), ring = x + STAGES * STAGE;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            start_barrier(full + i, 1);
            start_barrier(empty + i, WARPS);
        }
        publish_barriers();
    }
    __syncthreads();

    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    // Counted on by the thread that copies columns.
    int x_tile = begin / a.steps, x_step = begin % a.steps, x_stage = 0, x_phase = 0, x_left = end - begin;
    const uint8_t* x_from = nullptr;
    auto copy = [&] {
        expect_bytes(full + x_stage, STAGE);
        copy_bulk(x + x_stage * STAGE, x_from, HALF, full + x_stage);
        copy_bulk(x + x_stage * STAGE + HALF, x_from + size_t(a.atoms) * 1024, HALF, full + x_stage);
        if (++x_stage == STAGES) x_stage = 0;
        x_from += size_t(a.atoms) * 2048;
        if (--x_left == 0 || ++x_step < a.steps) return;
        x_step = 0;
        x_from = a.x + size_t(deal.place(a, ++x_tile).column / 8) * 1024;
    };

    using Tile = Weights<L>;
    using Through = Slot<THREADS, 4>;
    Tile weights[DEPTH];
    const Matrix& second = GATED ? a.p.up : a.p.w;
    Cursor<Tile, Deal, GATED> next = {{}, begin / a.steps, begin % a.steps};
    next.to_tile(a, deal);
    auto send = [&](int slot) {
        if constexpr (RING > 0)
            Tile::send(Through{ring + slot * Through::BYTES}, a.p.w, second, next.row, next.step);
        next.advance(a, deal);
    };
    if constexpr (RING > 0) {
#pragma unroll
        for (int i = 0; i < RING - 1; i++) {
            if (begin + i < end) send(i);
            commit_copies();
        }
    } else {
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            weights[d].fetch(a.p.w, second, next.row, next.step);
            next.advance(a, deal);
        }
    }
    if (!a.beside) wait_for_inputs();
    // Only now: who runs beside this needs the same inputs.
    let_next_start();
    if (threadIdx.x == 0) {
        x_from = a.x + (size_t(2 * x_step) * a.atoms + deal.place(a, x_tile).column / 8) * 1024;
        for (int i = 0; i < STAGES && x_left; i++) copy();
    }
    float c[N / 2];
    uint32_t low[4][4], high[4][4];
    int tile = begin / a.steps, step = begin % a.steps;
    Place place = deal.place(a, tile);
    auto row = [&] { return place.row + warp * (GATED ? 8 : 16); };
    begin_tile<N, GATED>(a, c, step == 0, row(), place);
    int stage = 0, phase = 0;
    uint64_t columns = descriptor(x);
    // Multiplies step `u` with `own` weights.
    auto multiply = [&](int u, Tile& own) {
        int i = u - begin;
        uint64_t at = columns + stage * (STAGE >> 4);
        if constexpr (RING > 0) {
            wait_copies<RING - 2>();
            own.receive(Through{ring + i % RING * Through::BYTES});
            if (u + RING - 1 < end) send((i + RING - 1) % RING);
            commit_copies();
        }
        own.unpack(0, step, a.p.w.cols, low);
        wait_barrier(full + stage, phase);
        fence_warpgroup();
#pragma unroll
        for (int s = 0; s < 4; s++) Warpgroup<typename Tile::Number, N>::run(c, low[s], at + 2 * s);
        commit_warpgroup();
        own.unpack(1, step, a.p.w.cols, high);
        if (RING == 0 && !Tile::DIRECT) {
            own.fetch(a.p.w, second, next.row, next.step);
            next.advance(a, deal);
        }
        fence_warpgroup();
#pragma unroll
        for (int s = 0; s < 4; s++)
            Warpgroup<typename Tile::Number, N>::run(c, high[s], at + (HALF >> 4) + 2 * s);
        commit_warpgroup();
        // What the step before was multiplied with gives way to what comes STAGES after it.
        if (threadIdx.x == 0 && i && x_left) {
            wait_barrier(empty + x_stage, x_phase);
            copy();
            if (x_stage == 0) x_phase ^= 1;
        }
        __syncwarp();
        wait_warpgroup<0>();
        if (lane == 0) arrive(empty + stage);
        if (++stage == STAGES) stage = 0, phase ^= 1;
        if (RING == 0 && Tile::DIRECT) {
            own.fetch(a.p.w, second, next.row, next.step);
            next.advance(a, deal);
        }
        step++;
    };
    // Stores a tile, or this block's part of it, and begins the next.
    auto finish = [&](bool more) {
        settle(c);
        bool whole = tile * a.steps >= begin && step == a.steps;
        if (whole || put_together<WGS>(a, deal.per, tile, 2 * blockIdx.x + (tile != begin / a.steps), c)) {
            store_tile<N, GATED, ROW_SCALED<L>>(a, c, row(), place);
        }
        step = 0;
        tile++;
        place = deal.place(a, tile);
        begin_tile<N, GATED>(a, c, more, row(), place);
    };
    for (int base = begin; base < end; base += DEPTH) {
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            int u = base + d;
            if (u >= end) break;
            multiply(u, weights[d]);
            if (step == a.steps || u + 1 == end) finish(u + 1 < end);
        }
    }
    // What comes next relies on the end of all before.
    if (a.beside) wait_for_inputs();
}

// Kernels of plain and of gated products; of a mixture, what comes before may still be at work on the groups.
#define GEMM_OF(KIND, DEAL, BEGIN, L, NAME, N, WGS, DEPTH, RING, STAGES)                                          \
    extern "C" __global__ void __launch_bounds__(128 * WGS, 1) gemm_##KIND##NAME##_##N(const __grid_constant__ Gemm a) { \
        BEGIN;                                                                                                    \
        gemm<L, N, WGS, DEPTH, RING, STAGES, false>(a, DEAL<N, 64 * WGS>(a));                                     \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(128 * WGS, 1)                                               \
        gemm_##KIND##gated_##NAME##_##N(const __grid_constant__ Gemm a) {                                         \
        BEGIN;                                                                                                    \
        gemm<L, N, WGS, DEPTH, RING, STAGES, true>(a, DEAL<N, 32 * WGS>(a));                                      \
    }
#define GEMM(...) GEMM_OF(, Whole, , __VA_ARGS__)
#define GEMM_EXPERTS(...) GEMM_OF(experts_, Grouped, wait_for_inputs(), __VA_ARGS__)
