// Mixtures of experts: who is chosen, which pairs of a token and an expert each is asked for, and the sum of
// what they say.
#include "common.cuh"

// logits: [n, experts] -> route: [n, 2 * top_k], expert numbers (best first, ties to the lower), then
// weights. A warp takes a row. Floor: latency.
extern "C" __global__ void moe_route(const float* logits, float* route, int experts, int top_k, int normalize,
                                     float scale, int n) {
    wait_for_inputs();
    let_next_start();
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / WARP, lane = threadIdx.x % WARP;
    if (row >= n) return;
    const float* x = logits + size_t(row) * experts;
    float* to = route + size_t(row) * 2 * top_k;
    float top = -INFINITY;
    for (int e = lane; e < experts; e += WARP) top = fmaxf(top, x[e]);
    top = warp_max(top);
    float total = 0.0f;
    for (int e = lane; e < experts; e += WARP) total += expf(x[e] - top);
    total = warp_sum(total);
    float last = INFINITY, chosen = 0.0f;
    int last_expert = -1;
    for (int k = 0; k < top_k; k++) {
        // The best of those behind the last in the order of the route.
        float best = -INFINITY;
        int best_expert = experts;
        for (int e = lane; e < experts; e += WARP) {
            float v = x[e];
            bool behind = v < last || (v == last && e > last_expert);
            if (behind && (v > best || best_expert == experts)) best = v, best_expert = e;
        }
        for (int i = WARP / 2; i > 0; i /= 2) {
            float v = __shfl_xor_sync(ALL_LANES, best, i);
            int e = __shfl_xor_sync(ALL_LANES, best_expert, i);
            if (e < experts && (best_expert == experts || v > best || (v == best && e < best_expert))) best = v, best_expert = e;
        }
        // Logits that are not numbers choose nobody: any expert will do, the NaN stays in the weights.
        best_expert = best_expert < experts ? best_expert : 0;
        float weight = expf(best - top) / total;
        if (lane == 0) {
            to[k] = float(best_expert);
            to[top_k + k] = weight;
        }
        chosen += weight;
        last = best;
        last_expert = best_expert;
    }
    float factor = normalize ? scale / chosen : scale;
    __syncwarp();
    for (int k = lane; k < top_k; k += WARP) to[top_k + k] *= factor;
}

__device__ __forceinline__ int expert_of(const float* route, int pair, int top_k) {
    return int(route[size_t(pair / top_k) * 2 * top_k + pair % top_k]);
}

// counts[e]: pairs of expert e, a block for each expert. Floor: latency.
extern "C" __global__ void moe_count(const float* route, int* counts, int top_k, int pairs) {
    wait_for_inputs();
    let_next_start();
    int count = 0;
    for (int base = 0; base < pairs; base += blockDim.x) {
        int pair = base + threadIdx.x;
        count += __syncthreads_count(pair < pairs && expert_of(route, pair, top_k) == int(blockIdx.x));
    }
    if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

// The order in which experts get their pairs.
struct Groups {
    const int* counts;
    int* sources;  // [slots]: the pair of each column, -1 where columns of an expert are filled up to whole eights
    int* slots;    // [pairs]: the column of each pair
    int4* tiles;   // how many there are, then (expert, first column, behind its last column) of each
    int wide;      // columns of a tile
};

// A block of at most 1,024 threads for each expert. Pairs keep their order. Floor: latency.
extern "C" __global__ void moe_place(const float* route, Groups to, int top_k, int pairs, int slots) {
    __shared__ float scratch[32];
    __shared__ int of_warps[32];
    wait_for_inputs();
    let_next_start();
    int expert = blockIdx.x, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    // Exact in f32: fewer than 2^24.
    float columns = 0.0f, tiles = 0.0f;
    for (int e = threadIdx.x; e < expert; e += blockDim.x) {
        columns += float((to.counts[e] + 7) / 8 * 8);
        tiles += float((to.counts[e] + to.wide - 1) / to.wide);
    }
    int first = int(block_sum(columns, scratch)), tile = int(block_sum(tiles, scratch));
    int count = to.counts[expert], end = first + (count + 7) / 8 * 8;
    int next = first;
    for (int base = 0; base < pairs; base += blockDim.x) {
        int pair = base + threadIdx.x;
        bool mine = pair < pairs && expert_of(route, pair, top_k) == expert;
        unsigned lanes = __ballot_sync(ALL_LANES, mine);
        __syncthreads();
        if (lane == 0) of_warps[warp] = __popc(lanes);
        __syncthreads();
        int slot = next + __popc(lanes & ((1u << lane) - 1));
        for (int w = 0; w < warps; w++) {
            slot += w < warp ? of_warps[w] : 0;
            next += of_warps[w];
        }
        if (!mine) continue;
        to.sources[slot] = pair;
        to.slots[pair] = slot;
    }
    bool is_last = expert == gridDim.x - 1;
    for (int slot = first + count + threadIdx.x; slot < (is_last ? slots : end); slot += blockDim.x) to.sources[slot] = -1;
    int own = (count + to.wide - 1) / to.wide;
    for (int i = threadIdx.x; i < own; i += blockDim.x)
        to.tiles[1 + tile + i] = make_int4(expert, first + i * to.wide, first + count, 0);
    if (is_last && threadIdx.x == 0) to.tiles[0] = make_int4(tile + own, 0, 0, 0);
}

// y[t] = sum of the pairs of token t, in the order of the route. A pair's numbers are row `slots[pair]` of x, or
// its own number where there are no slots.
extern "C" __global__ void moe_sum(const float* x, const float* route, const int* slots, float* y, int top_k, int cols) {
    wait_for_inputs();
    let_next_start();
    int c = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y;
    if (c >= cols) return;
    const float* weights = route + size_t(t) * 2 * top_k + top_k;
    float sum = 0.0f;
    for (int k = 0; k < top_k; k++) {
        size_t pair = size_t(t) * top_k + k;
        sum = fmaf(weights[k], x[(slots ? slots[pair] : pair) * cols + c], sum);
    }
    y[size_t(t) * cols + c] = sum;
}
