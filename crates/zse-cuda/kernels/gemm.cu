// Products of a matrix [rows, cols] with many columns on tensor cores: y[t, r] = sum_k w[r, k] x[t, k],
// with f32 sums, by mma.sync m16n8k16; on Hopper gemm_hopper.cuh takes their place. x: [n, pitch] in 16 bits,
// pitch a multiple of 64 with zeros behind cols (quantize.cu). Quantized weights are unpacked from registers into shared memory, a group of 32
// a thread, while the step before is multiplied; 16-bit ones are copied there.
// A block takes BM columns and BN rows; x comes in STAGES steps of 64 along k by cp.async. Shared rows
// of 128 bytes are swizzled by 16-byte chunks. For gated products a block's rows are half gate, half
// up, and a warp holds both halves of each result.
// Floor: 2 * n * rows * cols over the bf16 rate, or the bytes of the matrix over bandwidth.
#include "fp8.cuh"
#include "gemv.cuh"
#include "mma.cuh"

#ifndef __CUDA_ARCH_FEAT_SM90_ALL

constexpr int BK = 64, STAGES = 3;

struct Gemm {
    Product p;            // xq, xs, x, route and n of experts are not used
    const uint8_t* x;     // [n, pitch] 16-bit
    const float* scale;   // [n]: factor on each row of x
    int pitch;
};

// Byte offset of 16-byte chunk `chunk` of row `row` in a tile of 128-byte rows.
__device__ __forceinline__ uint32_t swizzled(int row, int chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

// Quantized weights: raw bytes wait in registers for a step.
template <class L, int BN, int THREADS>
struct QuantizedTile {
    using Number = __nv_bfloat16;
    static constexpr int BUFFERS = 2, EACH = BN * 2 / THREADS;
    typename L::Raw raw[EACH];

    __device__ __forceinline__ void fetch(const Product& p, const size_t (&rows)[EACH], int step) {
        int groups = p.w.cols / 32;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int e = threadIdx.x + i * THREADS;
            int g = min(step * 2 + e % 2, groups - 1);
            const Matrix& m = rows[i] >> 63 ? p.up : p.w;
            raw[i] = L::load(m, (rows[i] & ~(size_t(1) << 63)) * groups + g);
        }
    }

    __device__ __forceinline__ void unpack(const Product& p, uint8_t* tile, int step) const {
        int groups = p.w.cols / 32;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int e = threadIdx.x + i * THREADS, row = e / 2, g = step * 2 + e % 2;
            Group group;
            L::group(raw[i], min(g, groups - 1), group);
            bool inside = g < groups;
#pragma unroll
            for (int c = 0; c < 4; c++) {
                uint32_t words[4];
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    float v[2];
#pragma unroll
                    for (int h = 0; h < 2; h++) {
                        int at = 8 * c + 2 * k + h;
                        v[h] = level<L>(group, at);
                        v[h] = L::MIN ? fmaf(v[h], group.w[at / 16], group.m[at / 16]) : v[h] * group.w[at / 16];
                    }
                    __nv_bfloat162 pair = __floats2bfloat162_rn(v[0], v[1]);
                    words[k] = inside ? *reinterpret_cast<uint32_t*>(&pair) : 0;
                }
                *reinterpret_cast<uint4*>(tile + swizzled(row, (e % 2) * 4 + c)) =
                    make_uint4(words[0], words[1], words[2], words[3]);
            }
        }
    }
};

// FP8 weights become f16 likewise; their rows are scaled at the end.
template <int BN, int THREADS>
struct QuantizedTile<Fp8, BN, THREADS> {
    using Number = __half;
    static constexpr int BUFFERS = 2, EACH = BN * 2 / THREADS;
    uint4 raw[EACH][2];

    __device__ __forceinline__ void fetch(const Product& p, const size_t (&rows)[EACH], int step) {
        int groups = p.w.cols / 32;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int e = threadIdx.x + i * THREADS;
            int g = min(step * 2 + e % 2, groups - 1);
            const Matrix& m = rows[i] >> 63 ? p.up : p.w;
            const uint8_t* from = m.q + ((rows[i] & ~(size_t(1) << 63)) * groups + g) * 32;
            raw[i][0] = stream16(from);
            raw[i][1] = stream16(from + 16);
        }
    }

    __device__ __forceinline__ void unpack(const Product& p, uint8_t* tile, int step) const {
        int groups = p.w.cols / 32;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int e = threadIdx.x + i * THREADS, row = e / 2;
            bool inside = step * 2 + e % 2 < groups;
#pragma unroll
            for (int c = 0; c < 4; c++) {
                uint32_t a = (&raw[i][c / 2].x)[c % 2 * 2], b = (&raw[i][c / 2].x)[c % 2 * 2 + 1];
                uint4 v = make_uint4(two_halves(a), two_halves(a >> 16), two_halves(b), two_halves(b >> 16));
                *reinterpret_cast<uint4*>(tile + swizzled(row, (e % 2) * 4 + c)) = inside ? v : make_uint4(0, 0, 0, 0);
            }
        }
    }
};

// Row of the matrix behind row `r` of the tile; the top bit says that it is of `up`.
template <int BN, bool GATED>
__device__ __forceinline__ size_t tile_row(const Product& p, int first, int r) {
    if (!GATED) return min(first + r, p.w.rows - 1);
    bool up = r >= BN / 2;
    return size_t(min(first + r % (BN / 2), p.w.rows - 1)) | (up ? size_t(1) << 63 : 0);
}

// The sums of a warp: MF x NF fragments of 16 columns by 8 rows.
template <class T, int MF, int NF, int BN, int WN>
struct Sums {
    float c[MF][NF][4];

    // First row in the tile of fragment `j`: the lower half of a warp's are in the tile's lower half.
    __device__ __forceinline__ static int row_of(int wn, int j) {
        constexpr int HALF = NF / 2;
        return j < HALF ? wn * HALF * 8 + j * 8 : BN / 2 + wn * HALF * 8 + (j - HALF) * 8;
    }

    __device__ __forceinline__ void multiply(uint32_t x, uint32_t w, int wm, int wn) {
        int lane = threadIdx.x % WARP;
#pragma unroll
        for (int k = 0; k < BK / 16; k++) {
            uint32_t a[MF][4], b[NF / 2][4];
#pragma unroll
            for (int i = 0; i < MF; i++)
                load_matrices(a[i], x + swizzled((wm * MF + i) * 16 + lane % 16, 2 * k + lane / 16));
#pragma unroll
            for (int j = 0; j < NF; j += 2)
                load_matrices(b[j / 2], w + swizzled(row_of(wn, j + lane / 16) + lane % 8, 2 * k + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < MF; i++)
#pragma unroll
                for (int j = 0; j < NF; j++)
                    Mma<T>::run(c[i][j], a[i], b[j / 2][2 * (j % 2)], b[j / 2][2 * (j % 2) + 1]);
        }
    }

    // ROWS: sums lack the scales of the matrix's rows.
    template <bool GATED, bool ROWS = false>
    __device__ __forceinline__ void finish(const Gemm& a, int first_column, int first_row, int wm, int wn) const {
        const Product& p = a.p;
        int lane = threadIdx.x % WARP;
#pragma unroll
        for (int i = 0; i < MF; i++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int t = first_column + (wm * MF + i) * 16 + lane / 4 + 8 * half;
                if (t >= p.n) continue;
                float scale = a.scale[t];
#pragma unroll
                for (int j = 0; j < (GATED ? NF / 2 : NF); j++) {
                    int row = first_row + row_of(wn, j) + lane % 4 * 2;
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        if (row + e >= p.w.rows) continue;
                        size_t at = size_t(t) * p.w.rows + row + e;
                        float by = ROWS ? scale * row_scales(p.w)[row + e] : scale;
                        float v = c[i][j][2 * half + e] * by + (p.bias ? p.bias[row + e] : 0.0f);
                        if (GATED) {
                            float up_by = ROWS ? scale * row_scales(p.up)[row + e] : scale;
                            float up = c[i][j + NF / 2][2 * half + e] * up_by + (p.up_bias ? p.up_bias[row + e] : 0.0f);
                            v = activate(p.act, v) * up;
                        } else if (p.add) {
                            v += p.add[at];
                        }
                        p.y[at] = v;
                    }
                }
            }
    }
};

// Copies step `step` of BM columns of x.
template <int BM, int THREADS>
__device__ __forceinline__ void copy_columns(const Gemm& a, uint32_t to, int first, int step) {
#pragma unroll
    for (int i = 0; i < BM * 8 / THREADS; i++) {
        int e = threadIdx.x + i * THREADS, row = e / 8, chunk = e % 8;
        int t = min(first + row, a.p.n - 1);
        copy16(to + swizzled(row, chunk), a.x + (size_t(t) * a.pitch + step * BK + chunk * 8) * 2, true);
    }
}

template <class L, int BM, int BN, int WM, int WN, bool GATED>
__device__ __forceinline__ void gemm_quantized(const Gemm& a) {
    constexpr int THREADS = WM * WN * WARP, MF = BM / WM / 16, NF = BN / WN / 8;
    using Tile = QuantizedTile<L, BN, THREADS>;
    extern __shared__ __align__(128) uint8_t shared[];
    uint8_t* w = shared + STAGES * BM * BK * 2;
    uint32_t x = shared_address(shared), w_address = shared_address(w);
    int first_column = blockIdx.x * BM, first_row = blockIdx.y * (GATED ? BN / 2 : BN);
    int warp = threadIdx.x / WARP, wm = warp % WM, wn = warp / WM;
    int steps = a.pitch / BK;

    Tile tile;
    size_t rows[Tile::EACH];
#pragma unroll
    for (int i = 0; i < Tile::EACH; i++)
        rows[i] = tile_row<BN, GATED>(a.p, first_row, (threadIdx.x + i * THREADS) / 2);
    let_next_start();
    tile.fetch(a.p, rows, 0);
    wait_for_inputs();
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps) copy_columns<BM, THREADS>(a, x + s * BM * BK * 2, first_column, s);
        commit_copies();
    }
    tile.unpack(a.p, w, 0);
    if (steps > 1) tile.fetch(a.p, rows, 1);

    Sums<typename Tile::Number, MF, NF, BN, WN> sums = {};
    for (int step = 0; step < steps; step++) {
        wait_copies<STAGES - 2>();
        __syncthreads();
        uint32_t x_step = x + step % STAGES * BM * BK * 2, w_step = w_address + step % 2 * BN * BK * 2;
        int next = step + STAGES - 1;
        if (next < steps) copy_columns<BM, THREADS>(a, x + next % STAGES * BM * BK * 2, first_column, next);
        commit_copies();
        if (step + 1 < steps) {
            tile.unpack(a.p, w + (step + 1) % 2 * BN * BK * 2, step + 1);
            if (step + 2 < steps) tile.fetch(a.p, rows, step + 2);
        }
        sums.multiply(x_step, w_step, wm, wn);
    }
    sums.template finish<GATED, ROW_SCALED<L>>(a, first_column, first_row, wm, wn);
}

// 16-bit weights [rows, pitch of 8]; their tiles come by cp.async beside those of x.
template <class T, int BM, int BN, int WM, int WN, bool GATED>
__device__ __forceinline__ void gemm_float(const Gemm& a) {
    constexpr int THREADS = WM * WN * WARP, MF = BM / WM / 16, NF = BN / WN / 8;
    constexpr int STAGE = (BM + BN) * BK * 2;
    extern __shared__ __align__(128) uint8_t shared[];
    uint32_t at = shared_address(shared);
    int first_column = blockIdx.x * BM, first_row = blockIdx.y * (GATED ? BN / 2 : BN);
    int warp = threadIdx.x / WARP, wm = warp % WM, wn = warp / WM;
    int steps = a.pitch / BK, pitch = (a.p.w.cols + 7) / 8 * 8;
    auto copy = [&](int step) {
        uint32_t to = at + step % STAGES * STAGE;
        copy_columns<BM, THREADS>(a, to, first_column, step);
#pragma unroll
        for (int i = 0; i < BN * 8 / THREADS; i++) {
            int e = threadIdx.x + i * THREADS, row = e / 8, k = step * BK + e % 8 * 8;
            size_t from = tile_row<BN, GATED>(a.p, first_row, row);
            const Matrix& m = from >> 63 ? a.p.up : a.p.w;
            from = (from & ~(size_t(1) << 63)) * pitch + min(k, pitch - 8);
            copy16(to + BM * BK * 2 + swizzled(row, e % 8), m.q + 2 * from, k < pitch);
        }
    };
    let_next_start();
    wait_for_inputs();
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps) copy(s);
        commit_copies();
    }
    Sums<T, MF, NF, BN, WN> sums = {};
    for (int step = 0; step < steps; step++) {
        wait_copies<STAGES - 2>();
        __syncthreads();
        uint32_t from = at + step % STAGES * STAGE;
        if (step + STAGES - 1 < steps) copy(step + STAGES - 1);
        commit_copies();
        sums.multiply(from, from + BM * BK * 2, wm, wn);
    }
    sums.template finish<GATED>(a, first_column, first_row, wm, wn);
}

// Three tiles: for up to 32, up to 64 and more columns.
#define KERNEL(FUNCTION, L, NAME, TILE, BM, BN, WM, WN)                                                      \
    extern "C" __global__ void __launch_bounds__(WM* WN* WARP, 2) gemm_##NAME##_##TILE(const __grid_constant__ Gemm a) { \
        FUNCTION<L, BM, BN, WM, WN, false>(a);                                                               \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(WM* WN* WARP, 2)                                            \
        gemm_gated_##NAME##_##TILE(const __grid_constant__ Gemm a) {                                         \
        FUNCTION<L, BM, BN, WM, WN, true>(a);                                                                \
    }
#define TILES(FUNCTION, L, NAME)                      \
    KERNEL(FUNCTION, L, NAME, small, 32, 64, 1, 4)    \
    KERNEL(FUNCTION, L, NAME, medium, 64, 64, 2, 2)   \
    KERNEL(FUNCTION, L, NAME, large, 128, 128, 2, 4)
#define QUANTIZED(L, NAME) TILES(gemm_quantized, L, NAME)
FOR_QUANTIZED(QUANTIZED)
QUANTIZED(Fp8, fp8)
TILES(gemm_float, __half, f16)
TILES(gemm_float, __nv_bfloat16, bf16)
#endif
