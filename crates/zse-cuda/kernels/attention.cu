// Softmax attention of each query over the keys that its mask allows, of any head size and cache type.
// A block takes one head of one token and goes over the keys 128 at a time with a running maximum; it
// is the definition for the faster kernels, and the path of what they do not take.
// q: [n, heads * k_dim], y: [n, heads * v_dim]. Floor: keys and values read once for each KV head.
#include "attention.cuh"

constexpr int THREADS = 128, WIDEST = 1024;

template <int TYPE>
__device__ __forceinline__ void attend(const Attention& a) {
    __shared__ float q[WIDEST], p[THREADS], scratch[32];
    __shared__ const uint8_t* rows[THREADS];
    wait_for_inputs();
    int head = blockIdx.x, t = blockIdx.y, kv_head = head / (a.heads / a.k.heads);
    uint32_t seq = a.seq[t];
    auto [begin, end] = seen(a, t, seq);
    const uint32_t* table = a.tables + a.starts[seq];
    for (int i = threadIdx.x; i < a.k.dim; i += THREADS) q[i] = a.q[(size_t(t) * a.heads + head) * a.k.dim + i];
    float out[WIDEST / THREADS] = {}, top = -INFINITY, total = 0.0f;
    for (int base = begin; base < end; base += THREADS) {
        __syncthreads();
        int at = base + threadIdx.x;
        float score = -INFINITY;
        if (at < end) {
            uint32_t block = table[at / a.k.block_len];
            const uint8_t* row = kv_row(a.k, block, kv_head, at % a.k.block_len);
            rows[threadIdx.x] = kv_row(a.v, block, kv_head, at % a.k.block_len);
            float dot = 0.0f;
            for (int i = 0; i < a.k.dim; i++) dot = fmaf(q[i], kv_number<TYPE>(row, i), dot);
            score = dot * a.scale;
            if (a.softcap > 0.0f) score = a.softcap * tanhf(score / a.softcap);
        }
        float next = fmaxf(top, block_max(score, scratch));
        float weight = at < end ? expf(score - next) : 0.0f, keep = expf(top - next);
        p[threadIdx.x] = weight;
        total = total * keep + block_sum(weight, scratch);
        top = next;
        int keys = min(THREADS, end - base);
#pragma unroll
        for (int j = 0; j < WIDEST / THREADS; j++) {
            int i = j * THREADS + threadIdx.x;
            if (i >= a.v.dim) break;
            float sum = out[j] * keep;
            for (int key = 0; key < keys; key++) sum = fmaf(p[key], kv_number<TYPE>(rows[key], i), sum);
            out[j] = sum;
        }
    }
    let_next_start();
#pragma unroll
    for (int j = 0; j < WIDEST / THREADS; j++) {
        int i = j * THREADS + threadIdx.x;
        if (i < a.v.dim) a.y[(size_t(t) * a.heads + head) * a.v.dim + i] = out[j] / total;
    }
}

#define KERNEL(TYPE, NAME) \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_##NAME(const __grid_constant__ Attention a) { attend<TYPE>(a); }
KERNEL(KV_F32, f32)
KERNEL(KV_F16, f16)
KERNEL(KV_BF16, bf16)
KERNEL(KV_Q8_0, q8_0)
KERNEL(KV_Q4_0, q4_0)
KERNEL(KV_FP8, fp8)
