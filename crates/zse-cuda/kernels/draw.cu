// Draws a token from rows of logits [rows, vocab] as zse_model::sampler defines it: penalties and biases, mask,
// top-k, top-p and min-p, temperature and Gumbel noise. What truncates is a cut through the tokens in falling
// order of logit, of equals in rising order of id. Sums are made in f64, in an order of their own: a cut by top-p
// can differ from the CPU's where a sum meets the mass to seven digits.
// A block takes a row. Floor: the logits read once; here up to five times, mostly from the L2 cache.
#include "common.cuh"

constexpr int THREADS = 1024, BUCKETS = THREADS, CAPACITY = 2 * THREADS;
constexpr uint32_t NONE = 0xffffffffu, UNDECIDED = 0xfffffffeu;

// How a token is drawn from a row.
struct Draw {
    uint64_t key;       // of the noise
    float temperature;  // 0: the most likely token
    int top_k;          // 0: all
    float top_p;        // 1: all
    float floor;        // logarithm of min-p; negative infinity: all
    float repetition;
    float presence;
    float frequency;
    int row;
    int mask;           // first word of its mask; -1: none
    int begin;          // of its changes
    int end;
};

// A logit that is not the model's own, for the time of the draw.
struct Change {
    uint32_t token;
    float bias;
    uint32_t count;  // how often the token was said
    float kept;      // the model's own
};

// sample.cu's results.
struct Best {
    float logprob;
    uint32_t token;
    float total;
    uint32_t bad;
};

__device__ __forceinline__ float finite(float x) { return isnan(x) ? -INFINITY : fminf(x, 3.402823466e38f); }

extern "C" __global__ void draw_change(float* logits, const Draw* draws, Change* changes, int vocab) {
    wait_for_inputs();
    let_next_start();
    const Draw& d = draws[blockIdx.x];
    float* row = logits + size_t(d.row) * vocab;
    for (int i = d.begin + threadIdx.x; i < d.end; i += blockDim.x) {
        Change& c = changes[i];
        float v = c.kept = row[c.token];
        if (c.bias != 0.0f) v = finite(__fadd_rn(v, c.bias));
        if (c.count) {
            v = v <= 0.0f ? __fmul_rn(v, d.repetition) : __fdiv_rn(v, d.repetition);
            v = finite(__fsub_rn(v, __fadd_rn(__fmul_rn(float(c.count), d.frequency), d.presence)));
        }
        row[c.token] = v;
    }
}

// Puts the model's own logits back. results: for each draw its token and the logarithm of its probability.
extern "C" __global__ void draw_finish(float* logits, const Draw* draws, const Change* changes, const Best* best,
                                       const uint32_t* tokens, uint2* results, int vocab) {
    wait_for_inputs();
    let_next_start();
    const Draw& d = draws[blockIdx.x];
    float* row = logits + size_t(d.row) * vocab;
    for (int i = d.begin + threadIdx.x; i < d.end; i += blockDim.x) row[changes[i].token] = changes[i].kept;
    __syncthreads();
    if (threadIdx.x) return;
    uint32_t token = tokens[blockIdx.x];
    const Best& b = best[d.row];
    float logprob = 0.0f;
    if (token < uint32_t(vocab) && b.token < uint32_t(vocab))
        logprob = float(double(row[token]) - (double(row[b.token]) + log(double(b.total))));
    results[blockIdx.x] = make_uint2(token, __float_as_uint(logprob));
}

// Rises with the logit, of equals with falling id; above 0.
__device__ __forceinline__ uint64_t rank_of(float v, uint32_t id) {
    uint32_t bits = __float_as_uint(v + 0.0f);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return uint64_t(bits) << 32 | ~id;
}
__device__ __forceinline__ uint32_t id_of(uint64_t rank) { return ~uint32_t(rank); }
__device__ __forceinline__ float logit_of(uint64_t rank) {
    uint32_t bits = uint32_t(rank >> 32);
    return __uint_as_float(bits >> 31 ? bits & 0x7fffffffu : ~bits);
}

// zse_model::sampler's e^x for x <= 0.
__device__ __forceinline__ float exp_of(float x) {
    float clamped = x < -87.0f ? -87.0f : x;
    float shifted = __fadd_rn(__fmul_rn(clamped, 1.44269504088896341f), 12582912.0f);
    float n = __fsub_rn(shifted, 12582912.0f);
    float r = __fsub_rn(__fsub_rn(clamped, __fmul_rn(n, 0.6933594f)), __fmul_rn(n, -2.1219444e-4f));
    float p = 1.9875691e-4f;
    const float coefficients[] = {1.3982e-3f, 8.333452e-3f, 4.1665796e-2f, 1.6666665e-1f, 0.5f};
#pragma unroll
    for (float c : coefficients) p = __fadd_rn(__fmul_rn(p, r), c);
    float y = __fadd_rn(__fadd_rn(__fmul_rn(__fmul_rn(p, r), r), r), 1.0f);
    float power = __uint_as_float((__float_as_uint(shifted) - 0x4b400000u + 127u) << 23);
    return x < -87.0f ? 0.0f : __fmul_rn(y, power);
}

// Over the block, in every thread.
template <class T, class Join>
__device__ __forceinline__ T reduce(T v, Join join) {
    __shared__ T of_warps[THREADS / WARP];
#pragma unroll
    for (int i = WARP / 2; i > 0; i /= 2) v = join(v, __shfl_xor_sync(ALL_LANES, v, i));
    __syncthreads();
    if (threadIdx.x % WARP == 0) of_warps[threadIdx.x / WARP] = v;
    __syncthreads();
    v = of_warps[threadIdx.x % WARP];
#pragma unroll
    for (int i = WARP / 2; i > 0; i /= 2) v = join(v, __shfl_xor_sync(ALL_LANES, v, i));
    return v;
}

// The sum of `v` of this thread and all before it.
template <class T>
__device__ __forceinline__ T sum_to_here(T v) {
    __shared__ T of_warps[THREADS / WARP];
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    auto scan = [&](T v) {
#pragma unroll
        for (int i = 1; i < WARP; i *= 2) {
            T before = __shfl_up_sync(ALL_LANES, v, i);
            if (lane >= i) v += before;
        }
        return v;
    };
    v = scan(v);
    __syncthreads();
    if (lane == WARP - 1) of_warps[warp] = v;
    __syncthreads();
    if (warp == 0) of_warps[lane] = scan(of_warps[lane]);
    __syncthreads();
    return warp ? v + of_warps[warp - 1] : v;
}

// Sorts `len` ranks, a power of two, so that they fall.
__device__ __forceinline__ void sort_falling(uint64_t* ranks, int len) {
    for (int run = 2; run <= len; run *= 2)
        for (int apart = run / 2; apart > 0; apart /= 2) {
            __syncthreads();
            int i = 2 * threadIdx.x - (threadIdx.x & (apart - 1)), j = i + apart;
            if (j >= len) continue;
            bool falls = (i & run) == 0;
            uint64_t a = ranks[i], b = ranks[j];
            if ((a < b) == falls) ranks[i] = b, ranks[j] = a;
        }
    __syncthreads();
}

// The noise of zse_model::sampler::Noise.
struct Noise {
    uint64_t bits;
    __device__ __forceinline__ Noise(uint64_t key, uint32_t token) {
        uint64_t z = key + (uint64_t(token) + 1) * 0x9e3779b97f4a7c15ull;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        bits = (z ^ (z >> 31)) >> 12;
    }
    // It is not above this.
    __device__ __forceinline__ double bound() const {
        return double(min(__clzll(bits << 12), 52) + 1) * 0.693147180559945309417 + 1e-9;
    }
    __device__ __forceinline__ double gumbel() const {
        double v = (double(bits) + 0.5) * (1.0 / 4503599627370496.0);
        return -log(-log1p(-v));
    }
};

struct Score {
    double score;
    uint32_t id;
};

// The tokens of a row that may be drawn.
struct Row {
    const float* logits;
    const uint64_t* mask;  // or null
    int vocab;

    // Calls `take` with each of this thread's, and its logit.
    template <class Take>
    __device__ __forceinline__ void each(Take take) const {
        for (int id = threadIdx.x; id < vocab; id += THREADS) {
            float v = logits[id];
            bool allowed = v > -INFINITY && (!mask || mask[id / 64] >> (id % 64) & 1);
            if (allowed) take(v, uint32_t(id));
        }
    }
};

// Where top-k and top-p cut: the candidates that are left lie behind `ranks`, falling; how many, or -1 where they
// cannot be told.
__device__ __forceinline__ int cut(const Draw& d, const Row& row, float max, uint64_t* ranks) {
    __shared__ int counts[BUCKETS], collected, last_bucket, in_buckets, end;
    int k = d.top_k > 0 && d.top_k < row.vocab ? d.top_k : 0;
    if (k > CAPACITY) return -1;
    // Sixteen buckets for a factor of e in probability; the last takes the rest.
    auto bucket_of = [&](float v) { return int(fminf(__fmul_rn(__fsub_rn(max, v), 16.0f), float(BUCKETS - 1))); };
    counts[threadIdx.x] = 0;
    if (threadIdx.x == 0) collected = 0, last_bucket = -1;
    __syncthreads();
    row.each([&](float v, uint32_t) { atomicAdd(counts + bucket_of(v), 1); });
    __syncthreads();
    int own = counts[threadIdx.x], upto = sum_to_here(own);
    __syncthreads();
    counts[threadIdx.x] = upto;
    __syncthreads();
    bool is_last = threadIdx.x == BUCKETS - 1;
    // The fewest buckets that hold k, or the most that there is room for.
    bool found = k ? upto - own < k && (upto >= k || is_last)
                   : upto <= CAPACITY && (is_last || counts[threadIdx.x + 1] > CAPACITY);
    if (found) last_bucket = threadIdx.x, in_buckets = upto;
    __syncthreads();
    int len = in_buckets, last = last_bucket;
    if (last < 0 || len > CAPACITY) return -1;
    row.each([&](float v, uint32_t id) {
        if (bucket_of(v) <= last) ranks[atomicAdd(&collected, 1)] = rank_of(v, id);
    });
    int room = WARP;
    while (room < len) room *= 2;
    __syncthreads();
    for (int i = len + threadIdx.x; i < room; i += THREADS) ranks[i] = 0;
    sort_falling(ranks, room);
    bool all = last == BUCKETS - 1;
    if (k) len = min(len, k);
    if (d.top_p >= 1.0f) return len;
    auto join = [](double a, double b) { return a + b; };
    double total = 0.0, mine[2];
    auto weight = [&](int i) { return i < len ? double(exp_of(__fsub_rn(logit_of(ranks[i]), max))) : 0.0; };
    if (k) {
        for (int i = threadIdx.x; i < len; i += THREADS) total += weight(i);
    } else {
        row.each([&](float v, uint32_t) { total += double(exp_of(__fsub_rn(v, max))); });
    }
    total = reduce(total, join);
#pragma unroll
    for (int i = 0; i < 2; i++) mine[i] = weight(2 * threadIdx.x + i) / total;
    double upto_here = sum_to_here(mine[0] + mine[1]), before = upto_here - mine[0] - mine[1], mass = double(d.top_p);
    if (threadIdx.x == 0) end = CAPACITY + 1;
    __syncthreads();
    // Sums fall nowhere, but for rounding: the first counts.
    if (before + mine[0] >= mass) atomicMin(&end, 2 * threadIdx.x + 1);
    else if (upto_here >= mass) atomicMin(&end, 2 * threadIdx.x + 2);
    __syncthreads();
    return end <= len ? end : k || all ? len : -1;
}

// tokens: of each draw, NONE where none is allowed, UNDECIDED where more would have to be sorted than there is
// room for.
extern "C" __global__ void __launch_bounds__(THREADS) draw_tokens(const float* logits, const Draw* draws,
                                                                  const uint64_t* masks, uint32_t* tokens, int vocab) {
    __shared__ uint64_t ranks[CAPACITY];
    wait_for_inputs();
    let_next_start();
    const Draw d = draws[blockIdx.x];
    Row row = {logits + size_t(d.row) * vocab, d.mask < 0 ? nullptr : masks + d.mask, vocab};
    auto answer = [&](uint32_t token) {
        if (threadIdx.x == 0) tokens[blockIdx.x] = token;
    };
    uint64_t best = 0;
    row.each([&](float v, uint32_t id) { best = max(best, rank_of(v, id)); });
    best = reduce(best, [](uint64_t a, uint64_t b) { return max(a, b); });
    if (best == 0) return answer(NONE);
    if (d.temperature == 0.0f) return answer(id_of(best));
    float top = logit_of(best), floor = __fadd_rn(top, d.floor);
    double sharpness = 1.0 / double(d.temperature);
    Score mine = {-INFINITY, NONE};
    auto consider = [&](float v, uint32_t id) {
        if (v < floor) return;
        double scaled = (double(v) - double(top)) * sharpness;
        Noise noise(d.key, id);
        if (scaled + noise.bound() < mine.score) return;
        double score = scaled + noise.gumbel();
        if (score > mine.score || (score == mine.score && id < mine.id)) mine = {score, id};
    };
    bool cuts = (d.top_k > 0 && d.top_k < vocab) || d.top_p < 1.0f;
    if (cuts) {
        int len = cut(d, row, top, ranks);
        if (len < 0) return answer(UNDECIDED);
        for (int i = threadIdx.x; i < len; i += THREADS) consider(logit_of(ranks[i]), id_of(ranks[i]));
    } else {
        row.each(consider);
    }
    double score = reduce(mine.score, [](double a, double b) { return fmax(a, b); });
    uint32_t id = mine.score == score ? mine.id : NONE;
    answer(reduce(id, [](uint32_t a, uint32_t b) { return min(a, b); }));
}
