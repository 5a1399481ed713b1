// Products of 16-bit weights with more than 128 columns on Hopper: as gemm_hopper.cuh, with weights in shared
// memory, where they are copied several steps ahead of the products. A block takes tiles of 128 rows (of gated
// products: half of them gate, half up) by 256 columns, in steps of 64 along k; a warpgroup copies its own 64
// rows of weights by cp.async.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "gemm_hopper.cuh"

constexpr int N = 256, WGS = 2, STAGES = 4, HALF_STEP = STEP / 2;
constexpr int ROWS_BYTES = 64 * HALF_STEP * 2, X_BYTES = N * HALF_STEP * 2, STAGE = WGS * ROWS_BYTES + X_BYTES;

template <class T, bool GATED>
__device__ __forceinline__ void gemm_shared(const Gemm& a) {
    constexpr int WARPS = 4 * WGS, WARP_ROWS = GATED ? 8 : 16, TILE_ROWS = WARPS * WARP_ROWS;
    extern __shared__ __align__(1024) uint8_t shared[];
    __shared__ uint64_t full[STAGES], empty[STAGES];
    Whole<N, TILE_ROWS> deal(a);
    int steps = 2 * a.steps, columns = deal.columns;
    int begin = 2 * blockIdx.x * a.per, end = min(begin + 2 * a.per, deal.tiles * steps);
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, group = warp / 4;
    uint32_t at = shared_address(shared);
    let_next_start();
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            start_barrier(full + i, 1);
            start_barrier(empty + i, WARPS);
        }
        publish_barriers();
    }
    __syncthreads();

    // Of eight threads a row: of the 16 rows of a warp's products this one's, of which the upper 8 are of `up`.
    int thread = threadIdx.x % 128, chunk = thread % 8, of_warp = thread / 8, last = a.p.w.rows - 1;
    const uint8_t* weights = GATED && of_warp >= 8 ? a.p.up.q : a.p.w.q;
    int pitch = (a.p.w.cols + 7) / 8;
    uint32_t to_row = group * ROWS_BYTES + of_warp * 128 + ((chunk ^ of_warp % 8) << 4);
    auto first_of = [&](int tile) { return tile / columns * TILE_ROWS + 4 * group * WARP_ROWS + of_warp % WARP_ROWS; };
    // Tile and step of what is copied next; one division a tile.
    int w_tile = begin / steps, w_step = begin % steps, first = first_of(w_tile);
    auto copy_weights = [&](int stage) {
        int from = w_step * 8 + chunk;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            size_t row = min(first + i * WARP_ROWS, last);
            copy16(at + stage * STAGE + to_row + i * 16 * 128, weights + (row * pitch + min(from, pitch - 1)) * 16,
                   from < pitch);
        }
        if (++w_step < steps) return;
        w_step = 0;
        first = first_of(++w_tile);
    };
    int x_tile = w_tile, x_step = w_step;
    auto copy_columns = [&](int stage) {
        expect_bytes(full + stage, X_BYTES);
        const uint8_t* from = a.x + (size_t(x_step) * a.atoms + x_tile % columns * (N / 8)) * 1024;
        copy_bulk(at + stage * STAGE + WGS * ROWS_BYTES, from, X_BYTES, full + stage);
        if (++x_step < steps) return;
        x_step = 0;
        x_tile++;
    };
    int tile = w_tile, step = w_step;
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (begin + s < end) copy_weights(s);
        commit_copies();
    }
    wait_for_inputs();
    if (threadIdx.x == 0)
        for (int s = 0; s < min(STAGES, end - begin); s++) copy_columns(s);
    float c[N / 2];
    Place place = deal.place(a, tile);
    auto row = [&] { return place.row + warp * WARP_ROWS; };
    begin_tile<N, GATED>(a, c, step == 0, row(), place);
    for (int u = begin; u < end; u++) {
        int i = u - begin, stage = i % STAGES;
        uint32_t w = at + stage * STAGE + group * ROWS_BYTES, x = at + stage * STAGE + WGS * ROWS_BYTES;
        wait_copies<STAGES - 2>();
        publish_shared();
        // Also: the warpgroup is done with the weights of the step before.
        sync_threads_of(1 + group, 128);
        wait_barrier(full + stage, i / STAGES % 2);
        fence_warpgroup();
#pragma unroll
        for (int s = 0; s < HALF_STEP / 16; s++) SharedWarpgroup<T>::run(c, descriptor(w + 32 * s), descriptor(x + 32 * s));
        commit_warpgroup();
        if (u + STAGES - 1 < end) copy_weights((i + STAGES - 1) % STAGES);
        commit_copies();
        if (threadIdx.x == 0 && i && u - 1 + STAGES < end) {
            wait_barrier(empty + (i - 1) % STAGES, (i - 1) / STAGES % 2);
            copy_columns((i - 1) % STAGES);
        }
        __syncwarp();
        wait_warpgroup<0>();
        if (lane == 0) arrive(empty + stage);
        if (++step < steps && u + 1 < end) continue;
        settle(c);
        bool whole = tile * steps >= begin && step == steps;
        int slot = 2 * blockIdx.x + (tile * steps > begin);
        if (whole || put_together<WGS>(a, a.per, tile, slot, c)) {
            store_tile<N, GATED>(a, c, row(), place);
        }
        step = 0;
        tile++;
        place = deal.place(a, tile);
        begin_tile<N, GATED>(a, c, u + 1 < end, row(), place);
    }
}

#define GEMM_SHARED(T, NAME)                                                                                       \
    extern "C" __global__ void __launch_bounds__(128 * WGS, 1) gemm_##NAME##_256(const __grid_constant__ Gemm a) { \
        gemm_shared<T, false>(a);                                                                                  \
    }                                                                                                              \
    extern "C" __global__ void __launch_bounds__(128 * WGS, 1)                                                \
        gemm_gated_##NAME##_256(const __grid_constant__ Gemm a) {                                                  \
        gemm_shared<T, true>(a);                                                                                   \
    }
GEMM_SHARED(__half, f16)
GEMM_SHARED(__nv_bfloat16, bf16)
#endif
