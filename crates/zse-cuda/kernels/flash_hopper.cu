// Attention of many queries on Hopper, for caches of 16 bits or of 8 (packed.cuh) with heads of D = 64 or 128: as the tiles of flash.cu, by
// warpgroup products. A block takes 64 rows for each of its 2 or 3 warpgroups (a row is a head of a
// token), and 64 keys at a time. The
// next scores are made while the sums of values of the keys before run (Shah and others 2024, arXiv:2407.08608).
// Floor: 4 * rows * keys * D operations at the bf16 rate, half of that under a causal mask.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "attention.cuh"
#include "packed.cuh"
#include "wgmma.cuh"

constexpr int KEYS = 64, STAGES = 4;
// Of packed caches: tiles of numbers, which products read, and tiles as they are kept, which are unpacked beside those.
constexpr int UNPACKED = 3, KEPT = 3;
constexpr float LOG2E = 1.4426950408889634f;

// c [64, 64] = or += a [64, 16] x [16, 64], both in shared memory.
template <class T>
struct Scores;

#define SCORES(T, TYPE)                                                                                         \
    template <>                                                                                                 \
    struct Scores<T> {                                                                                          \
        __device__ __forceinline__ static void run(float (&c)[32], uint64_t a, uint64_t x, int add) {           \
            asm volatile("{ .reg .pred add; setp.ne.b32 add, %34, 0; "                                          \
                         "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " {" SUMS_32 "}, %32, %33, " \
                         "add, 1, 1, 0, 0; }"                                                                   \
                         : SUM_32(0)                                                                            \
                         : "l"(a), "l"(x), "r"(add));                                                           \
        }                                                                                                       \
    };
SCORES(__nv_bfloat16, "bf16")
SCORES(__half, "f16")

// c [64, D] += a [64, 16] x [16, D], a in registers; rows of x lie along D.
template <class T, int D>
struct Values;

#define VALUES(T, TYPE, D, LEN, A, X)                                                                             \
    template <>                                                                                                   \
    struct Values<T, D> {                                                                                         \
        __device__ __forceinline__ static void run(float (&c)[LEN], const uint32_t (&a)[4], uint64_t x) {         \
            asm volatile("{ .reg .pred add; setp.ne.b32 add, 1, 0; "                                              \
                         "wgmma.mma_async.sync.aligned.m64n" #D "k16.f32." TYPE "." TYPE " {" SUMS_##LEN "}, {" A \
                         "}, " X ", add, 1, 1, 1; }"                                                              \
                         : SUM_##LEN(0)                                                                           \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(x));                                   \
        }                                                                                                         \
    };
VALUES(__nv_bfloat16, "bf16", 64, 32, "%32, %33, %34, %35", "%36")
VALUES(__half, "f16", 64, 32, "%32, %33, %34, %35", "%36")
VALUES(__nv_bfloat16, "bf16", 128, 64, "%64, %65, %66, %67", "%68")
VALUES(__half, "f16", 128, 64, "%64, %65, %66, %67", "%68")

// Rows of 64 numbers, one for each step along the sum, as the instruction takes them transposed: 1,024 bytes for each 8,
// further numbers of the rows behind all KEYS.
__device__ __forceinline__ uint64_t descriptor_of_rows(uint32_t at) {
    return uint64_t((at & 0x3ffff) >> 4) | uint64_t(KEYS * 128 >> 4) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}

__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// What a thread knows of its two rows.
struct Sums {
    float top[2], total[2];
    Range range[2];

    // Turns scores of keys from `first` on into weights; the factors that what came before takes go to `keep`. All rows
    // see all of the keys if they are `whole`.
    __device__ __forceinline__ void weigh(float (&s)[KEYS / 2], float (&keep)[2], int first, bool whole, float softcap) {
        if (softcap > 0.0f) {
#pragma unroll
            for (int i = 0; i < KEYS / 2; i++) s[i] = softcap * tanhf(s[i] / softcap) * LOG2E;
        }
        if (!whole) {
            first += threadIdx.x % 4 * 2;
#pragma unroll
            for (int i = 0; i < KEYS / 2; i++) {
                int key = first + i / 4 * 8 + i % 2;
                const Range& r = range[i / 2 % 2];
                if (key < r.begin || key >= r.end) s[i] = -INFINITY;
            }
        }
        float base[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float next = top[r];
#pragma unroll
            for (int i = 0; i < KEYS / 2; i++)
                if (i / 2 % 2 == r) next = fmaxf(next, s[i]);
            next = fmaxf(next, __shfl_xor_sync(ALL_LANES, next, 1));
            next = fmaxf(next, __shfl_xor_sync(ALL_LANES, next, 2));
            base[r] = next == -INFINITY ? 0.0f : next;
            keep[r] = power_of_two(top[r] - base[r]);
            top[r] = next;
            total[r] *= keep[r];
        }
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            s[i] = power_of_two(s[i] - base[i / 2 % 2]);
            total[i / 2 % 2] += s[i];
        }
    }
};

// Grid: tiles of 64 * WGS rows of the longest sequence, KV heads, sequences.
template <int TYPE, int D, int WGS>
__device__ __forceinline__ void tile(const Attention& a) {
    extern __shared__ __align__(1024) uint8_t shared[];
    wait_for_inputs();
    using T = typename Cache<TYPE>::Number;
    constexpr bool packed = PACKED<TYPE>;
    // Queries of a warpgroup, keys or values of a tile: [D / 64, 64, 64 numbers], swizzled.
    constexpr int ROWS = 64 * WGS, SIDE = KEYS * D * 2, STAGE = 2 * SIDE;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, wg = warp / 4;
    int head = blockIdx.y, seq = blockIdx.z, group = a.heads / a.k.heads;
    int start = a.spans[seq], rows_of_seq = (a.spans[seq + 1] - start) * group;
    // The last tiles see the most keys, and go first.
    int first_row = (gridDim.x - 1 - blockIdx.x) * ROWS;
    if (first_row >= rows_of_seq) return;
    int last_row = min(first_row + ROWS, rows_of_seq) - 1;
    const uint32_t* table = a.tables + a.starts[seq];
    Range of_first = seen(a, start + first_row / group, seq), of_last = seen(a, start + last_row / group, seq);
    int from = of_first.begin / KEYS * KEYS, to = of_last.end, tiles = (to - from + KEYS - 1) / KEYS;
    auto is_whole = [&](int i) {
        int first = from + i * KEYS;
        return first >= of_last.begin && first + KEYS <= of_first.end;
    };

    uint32_t queries = shared_address(shared), stages = queries + WGS * 64 * D * 2;
    auto stage_of = [&](int i) { return stages + i % (packed ? UNPACKED : STAGES) * STAGE; };
    // Where chunk `chunk` of row `row` of a tile's keys or values goes.
    auto place = [](uint32_t side, int row, int chunk) {
        return side + chunk / 8 * (KEYS * 128) + row * 128 + ((chunk % 8 ^ row % 8) << 4);
    };
    // Each of eight warps has 16 keys, or their values.
    constexpr int RAW_BYTES = SLAB * ROW_BYTES<TYPE, D>;
    auto raw_of = [&](int i) { return stages + UNPACKED * STAGE + (i % KEPT * 8 + warp) * RAW_BYTES; };
    auto copy_kept = [&](int i) {
        int first = from + i * KEYS + warp % 4 * SLAB;
        if (i < tiles && warp < 8 && first < to)
            copy_packed<TYPE, D>(warp < 4 ? a.k : a.v, table, head, first, to, raw_of(i));
        commit_copies();
    };
    // What is behind the last key is as before: it is masked, and must be a number, which zeros are.
    auto unpack_kept = [&](int i) {
        if (i >= tiles || warp >= 8) return;
        int own = warp % 4 * SLAB;
        uint32_t side = stage_of(i) + warp / 4 * SIDE;
        if (from + i * KEYS + own < to) {
            unpack<TYPE, D>(raw_of(i), [&](int row, int chunk) { return place(side, own + row, chunk); });
        } else {
            for (int e = lane; e < SLAB * D / 8; e += WARP)
                asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(place(side, own + e / (D / 8), e % (D / 8))), "r"(0)
                             : "memory");
        }
    };
    // Each of eight warps copies 16 keys, which lie in one block, or their values; zeros from `to` on, because what is masked is
    // multiplied all the same.
    auto copy = [&](int i) {
        if (i < tiles && warp < 8) {
            const Plane& p = warp < 4 ? a.k : a.v;
            int own = warp % 4 * 16, first = from + i * KEYS + own;
            const uint8_t* rows = first < to ? kv_row(p, table[first / p.block_len], head, first % p.block_len) : p.data;
            uint32_t side = stage_of(i) + warp / 4 * SIDE;
#pragma unroll
            for (int e = 0; e < 16 * D / 8 / WARP; e++) {
                int row = (lane + e * WARP) / (D / 8), chunk = lane % (D / 8);
                copy16(place(side, own + row, chunk), rows + row * p.row_bytes + chunk * 16, first + row < to);
            }
        }
        commit_copies();
    };
    if constexpr (packed) {
#pragma unroll
        for (int i = 0; i < KEPT; i++) copy_kept(i);
    } else {
#pragma unroll
        for (int i = 0; i < STAGES - 1; i++) copy(i);
    }

    float scale = a.softcap > 0.0f ? a.scale : a.scale * LOG2E;
    uint32_t own = queries + wg * 64 * D * 2;
#pragma unroll
    for (int e = 0; e < 64 * D / 8 / 128; e++) {
        int at = threadIdx.x % 128 + e * 128, row = at / (D / 8), chunk = at % (D / 8), of_seq = first_row + wg * 64 + row;
        uint4 packed = make_uint4(0, 0, 0, 0);
        if (of_seq <= last_row) {
            size_t head_of_token = size_t(start + of_seq / group) * a.heads + head * group + of_seq % group;
            const float4* q = reinterpret_cast<const float4*>(a.q + head_of_token * D + chunk * 8);
            float4 x = q[0], y = q[1];
            packed = make_uint4(Mma<T>::pack(x.x * scale, x.y * scale), Mma<T>::pack(x.z * scale, x.w * scale),
                                Mma<T>::pack(y.x * scale, y.y * scale), Mma<T>::pack(y.z * scale, y.w * scale));
        }
        uint32_t to_chunk = own + chunk / 8 * (64 * 128) + row * 128 + ((chunk % 8 ^ row % 8) << 4);
        asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to_chunk), "r"(packed.x), "r"(packed.y),
                     "r"(packed.z), "r"(packed.w)
                     : "memory");
    }

    Sums sums;
    int row_of_lane = first_row + warp * 16 + lane / 4;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        sums.range[r] = seen(a, start + min(row_of_lane + 8 * r, last_row) / group, seq);
        sums.top[r] = -INFINITY;
        sums.total[r] = 0.0f;
    }
    float o[D / 2], s[KEYS / 2], keep[2];
#pragma unroll
    for (int i = 0; i < D / 2; i++) o[i] = 0.0f;
    uint32_t p[KEYS / 16][4];
    auto pack = [&] {
#pragma unroll
        for (int t = 0; t < KEYS / 16; t++)
#pragma unroll
            for (int i = 0; i < 4; i++) p[t][i] = Mma<T>::pack(s[8 * t + 2 * i], s[8 * t + 2 * i + 1]);
    };
    auto score = [&](int i) {
        uint32_t keys = stage_of(i);
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
            uint32_t part = k / 4 * (64 * 128) + k % 4 * 32;
            Scores<T>::run(s, descriptor(own + part), descriptor(keys + part), k);
        }
        commit_warpgroup();
    };

    if constexpr (packed) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            wait_copies<KEPT - 1>();
            __syncwarp();
            unpack_kept(i);
            __syncwarp();
            copy_kept(i + KEPT);
        }
    } else {
        wait_copies<STAGES - 2>();
    }
    publish_shared();
    __syncthreads();
    fence_warpgroup();
    score(0);
    wait_warpgroup<0>();
    settle(s);
    sums.weigh(s, keep, from, is_whole(0), a.softcap);
    pack();
    auto add_values = [&](int i) {
        uint32_t values = stage_of(i) + SIDE;
#pragma unroll
        for (int t = 0; t < KEYS / 16; t++) Values<T, D>::run(o, p[t], descriptor_of_rows(values + t * 16 * 128));
        commit_warpgroup();
    };
    for (int i = 0; i < tiles - 1; i++) {
        // The tile behind this is there, and all are done with the one before.
        if constexpr (!packed) wait_copies<STAGES - 3>();
        publish_shared();
        __syncthreads();
        if constexpr (!packed) copy(i + STAGES - 1);
        fence_warpgroup();
        score(i + 1);
        add_values(i);
        if constexpr (packed) {
            wait_copies<KEPT - 1>();
            __syncwarp();
            unpack_kept(i + 2);
            __syncwarp();
            copy_kept(i + 2 + KEPT);
        }
        wait_warpgroup<1>();
        settle(s);
        sums.weigh(s, keep, from + (i + 1) * KEYS, is_whole(i + 1), a.softcap);
        wait_warpgroup<0>();
        settle(o);
#pragma unroll
        for (int e = 0; e < D / 2; e++) o[e] *= keep[e / 2 % 2];
        pack();
    }
    fence_warpgroup();
    add_values(tiles - 1);
    wait_warpgroup<0>();
    settle(o);
    wait_copies<0>();
    let_next_start();
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float total = sums.total[r];
        total += __shfl_xor_sync(ALL_LANES, total, 1);
        total += __shfl_xor_sync(ALL_LANES, total, 2);
        int row = row_of_lane + 8 * r;
        if (row > last_row) continue;
        float* y = a.y + (size_t(start + row / group) * a.heads + head * group + row % group) * D + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < D / 8; j++)
            *reinterpret_cast<float2*>(y + j * 8) = make_float2(o[4 * j + 2 * r] / total, o[4 * j + 2 * r + 1] / total);
    }
}

#define KERNEL(TYPE, NAME, D, WGS)                                                                 \
    extern "C" __global__ void __launch_bounds__(128 * WGS, 1)                                     \
        flash_hopper_##NAME##_##D##_##WGS(const __grid_constant__ Attention a) {                   \
        tile<TYPE, D, WGS>(a);                                                                     \
    }
#define KERNELS(D, WGS)                                         \
    KERNEL(KV_F16, f16, D, WGS) KERNEL(KV_BF16, bf16, D, WGS)   \
    KERNEL(KV_Q8_0, q8_0, D, WGS) KERNEL(KV_FP8, fp8, D, WGS)
KERNELS(64, 2)
KERNELS(64, 3)
KERNELS(128, 2)
KERNELS(128, 3)
#endif
