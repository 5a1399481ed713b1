// Mixtures of experts: who is chosen, and the sum of what they say.
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

// y[t] = sum of the pairs of token t, x: [n * top_k, cols], in the order of the route.
extern "C" __global__ void moe_sum(const float* x, const float* route, float* y, int top_k, int cols) {
    wait_for_inputs();
    let_next_start();
    int c = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y;
    if (c >= cols) return;
    const float* weights = route + size_t(t) * 2 * top_k + top_k;
    float sum = 0.0f;
    for (int k = 0; k < top_k; k++) sum = fmaf(weights[k], x[(size_t(t) * top_k + k) * cols + c], sum);
    y[size_t(t) * cols + c] = sum;
}
