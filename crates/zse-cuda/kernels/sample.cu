// The most likely token of each row of logits [rows, vocab] (ties to the lower), and its
// log-probability. A row is cut into gridDim.x parts; the second kernel puts them together.
// Floor: the logits read once.
#include "common.cuh"

struct Best {
    float logit;
    uint32_t token;
    float total;   // sum of exp(logit - best)
    uint32_t bad;  // whether a logit is NaN or positive infinity
};

// Of nothing: token ~0 and a total of 0.
__device__ __forceinline__ Best join(const Best& a, const Best& b) {
    bool first = a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
    const Best &best = first ? a : b, &other = first ? b : a;
    float total = best.total;
    if (other.total > 0.0f) total += other.total * expf(other.logit - best.logit);
    return {best.logit, best.token, total, a.bad | b.bad};
}

__device__ __forceinline__ Best join_block(Best best) {
    __shared__ Best warps[32];
    for (int i = WARP / 2; i > 0; i /= 2) {
        Best other = {__shfl_xor_sync(ALL_LANES, best.logit, i), __shfl_xor_sync(ALL_LANES, best.token, i),
                      __shfl_xor_sync(ALL_LANES, best.total, i), __shfl_xor_sync(ALL_LANES, best.bad, i)};
        best = join(best, other);
    }
    if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = best;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int i = 1; i < blockDim.x / WARP; i++) best = join(best, warps[i]);
    return best;
}

extern "C" __global__ void best_of_parts(const float* logits, Best* parts, int vocab) {
    wait_for_inputs();
    let_next_start();
    const float* row = logits + size_t(blockIdx.y) * vocab;
    int part = (vocab + gridDim.x - 1) / gridDim.x;
    int from = part * blockIdx.x, to = min(from + part, vocab);
    Best best = {-INFINITY, 0xffffffffu, 0.0f, 0};
    for (int i = from + threadIdx.x; i < to; i += blockDim.x) {
        float v = row[i];
        if (isnan(v) || v == INFINITY) best.bad = 1;
        else if (v > -INFINITY) best = join(best, {v, uint32_t(i), 1.0f, 0});
    }
    best = join_block(best);
    if (threadIdx.x == 0) parts[size_t(blockIdx.y) * gridDim.x + blockIdx.x] = best;
}

// `logit` of the result is the log-probability.
extern "C" __global__ void best_of_rows(const Best* parts, Best* rows, int n) {
    wait_for_inputs();
    let_next_start();
    Best best = {-INFINITY, 0xffffffffu, 0.0f, 0};
    for (int i = threadIdx.x; i < n; i += blockDim.x) best = join(best, parts[size_t(blockIdx.x) * n + i]);
    best = join_block(best);
    if (threadIdx.x == 0) rows[blockIdx.x] = {-logf(best.total), best.token, best.total, best.bad};
}
