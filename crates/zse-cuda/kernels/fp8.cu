// Rows of numbers as FP8 with one scale each: weights when they are loaded, and activations for products that
// multiply FP8 by FP8 (cuBLASLt), with what has to be done to the results of those. A block takes a row.
// Floor: each number read and written once; rows longer than registers hold are read twice, from the cache.
#include "fp8.cuh"
#include "mma.cuh"

__device__ __forceinline__ float widened(float v) { return v; }
__device__ __forceinline__ float widened(__half v) { return __half2float(v); }
__device__ __forceinline__ float widened(__nv_bfloat16 v) { return __bfloat162float(v); }

// Weights as they are stored, rows of `cols` behind one another. A row that is not finite gets a scale that is no number.
template <class T>
__device__ __forceinline__ void weights(const T* from, uint8_t* q, float* scale, int cols) {
    __shared__ float scratch[32];
    const T* row = from + size_t(blockIdx.x) * cols;
    float top = 0.0f;
    bool bad = false;
    for (int c = threadIdx.x; c < cols; c += blockDim.x) {
        float v = widened(row[c]);
        bad |= !isfinite(v);
        top = fmaxf(top, fabsf(v));
    }
    bad = __syncthreads_or(bad);
    top = block_max(top, scratch);
    float by = factor_of(top);
    uint32_t* to = reinterpret_cast<uint32_t*>(q + size_t(blockIdx.x) * cols);
    for (int c = threadIdx.x; c < cols / 4; c += blockDim.x) {
        float4 v = make_float4(widened(row[4 * c]), widened(row[4 * c + 1]), widened(row[4 * c + 2]), widened(row[4 * c + 3]));
        to[c] = bad ? 0 : four_bytes(times(v, by));
    }
    if (threadIdx.x == 0) scale[blockIdx.x] = bad ? NAN : scale_of(top);
}

#define WEIGHTS(T, NAME)                                                                                  \
    extern "C" __global__ void fp8_weights_##NAME(const T* from, uint8_t* q, float* scale, int cols) {     \
        weights(from, q, scale, cols);                                                                    \
    }
WEIGHTS(float, f32)
WEIGHTS(__half, f16)
WEIGHTS(__nv_bfloat16, bf16)

// Rows of f32 activations.
extern "C" __global__ void __launch_bounds__(512) rows_fp8(const float4* x, uint32_t* q, float* scale, int cols) {
    constexpr int KEPT = 4;
    __shared__ float scratch[32];
    wait_for_inputs();
    let_next_start();
    int chunks = cols / 4;
    const float4* row = x + size_t(blockIdx.x) * chunks;
    uint32_t* to = q + size_t(blockIdx.x) * chunks;
    float4 kept[KEPT];
    float top = 0.0f;
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int c = i * blockDim.x + threadIdx.x;
        kept[i] = c < chunks ? row[c] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        top = fmaxf(top, largest(kept[i]));
    }
    for (int c = KEPT * blockDim.x + threadIdx.x; c < chunks; c += blockDim.x) top = fmaxf(top, largest(row[c]));
    top = block_max(top, scratch);
    float by = factor_of(top);
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int c = i * blockDim.x + threadIdx.x;
        if (c < chunks) to[c] = four_bytes(times(kept[i], by));
    }
    for (int c = KEPT * blockDim.x + threadIdx.x; c < chunks; c += blockDim.x) to[c] = four_bytes(times(row[c], by));
    if (threadIdx.x == 0) scale[blockIdx.x] = scale_of(top);
}

// rms_norm_rows (norm.cu) whose result goes to FP8 rows; a thread for each 4 numbers, or up to four times as many.
extern "C" __global__ void rms_norm_fp8(const float* x, const float* weight, float eps, float* y, uint32_t* q,
                                        float* scale, int cols) {
    constexpr int KEPT = 4;
    __shared__ float scratch[32];
    const float4* weights = reinterpret_cast<const float4*>(weight);
    int chunks = cols / 4;
    float4 factor[KEPT], kept[KEPT];
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int c = i * blockDim.x + threadIdx.x;
        if (c < chunks) factor[i] = weights[c];
    }
    let_next_start();
    wait_for_inputs();
    const float4* row = reinterpret_cast<const float4*>(x) + size_t(blockIdx.x) * chunks;
    float squares = 0.0f, top = 0.0f;
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int c = i * blockDim.x + threadIdx.x;
        float4 v = kept[i] = c < chunks ? row[c] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        squares += fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, v.w * v.w)));
    }
    float by = 1.0f / sqrtf(block_sum(squares, scratch) / float(cols) + eps);
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int c = i * blockDim.x + threadIdx.x;
        if (c >= chunks) continue;
        float4 v = times(kept[i], by), w = factor[i];
        kept[i] = make_float4(v.x * w.x, v.y * w.y, v.z * w.z, v.w * w.w);
        if (y) reinterpret_cast<float4*>(y)[size_t(blockIdx.x) * chunks + c] = kept[i];
        top = fmaxf(top, largest(kept[i]));
    }
    top = block_max(top, scratch);
    float down = factor_of(top);
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int c = i * blockDim.x + threadIdx.x;
        if (c < chunks) q[size_t(blockIdx.x) * chunks + c] = four_bytes(times(kept[i], down));
    }
    if (threadIdx.x == 0) scale[blockIdx.x] = scale_of(top);
}

// A gate and what it lets through, rows of `cols` bf16, to FP8 rows: act(gate + its bias) * (up + its bias). Where the
// two lack their scales, `columns` has those of the rows here, `gates` and `ups` those of the matrices' rows.
struct Gated {
    const uint4* gate;
    const uint4* up;
    const float* gate_bias;  // or null
    const float* up_bias;    // or null
    const float* columns;    // or null
    const float* gates;
    const float* ups;
    int act;
    int cols;
};

__device__ __forceinline__ void eight_gated(const Gated& g, int chunk, float column, float (&v)[8]) {
    union Eight {
        uint4 bits;
        __nv_bfloat162 pairs[4];
    } a, b;
    size_t at = size_t(blockIdx.x) * (g.cols / 8) + chunk;
    a.bits = g.gate[at];
    b.bits = g.up[at];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 x = __bfloat1622float2(a.pairs[i]), y = __bfloat1622float2(b.pairs[i]);
        int c = 8 * chunk + 2 * i;
        if (g.columns) {
            x = make_float2(x.x * column * g.gates[c], x.y * column * g.gates[c + 1]);
            y = make_float2(y.x * column * g.ups[c], y.y * column * g.ups[c + 1]);
        }
        if (g.gate_bias) x = make_float2(x.x + g.gate_bias[c], x.y + g.gate_bias[c + 1]);
        if (g.up_bias) y = make_float2(y.x + g.up_bias[c], y.y + g.up_bias[c + 1]);
        v[2 * i] = activate(g.act, x.x) * y.x;
        v[2 * i + 1] = activate(g.act, x.y) * y.y;
    }
}

extern "C" __global__ void __launch_bounds__(1024) glu_fp8(const __grid_constant__ Gated g, uint2* q, float* scale) {
    constexpr int KEPT = 3;
    __shared__ float scratch[32];
    wait_for_inputs();
    let_next_start();
    int chunks = g.cols / 8;
    float column = g.columns ? g.columns[blockIdx.x] : 1.0f, top = 0.0f;
    float kept[KEPT][8];
    auto raise = [&](const float(&v)[8]) {
#pragma unroll
        for (int i = 0; i < 8; i++) top = fmaxf(top, fabsf(v[i]));
    };
#pragma unroll
    for (int k = 0; k < KEPT; k++) {
        int c = k * blockDim.x + threadIdx.x;
        if (c >= chunks) continue;
        eight_gated(g, c, column, kept[k]);
        raise(kept[k]);
    }
    for (int c = KEPT * blockDim.x + threadIdx.x; c < chunks; c += blockDim.x) {
        float v[8];
        eight_gated(g, c, column, v);
        raise(v);
    }
    top = block_max(top, scratch);
    float by = factor_of(top);
    uint2* to = q + size_t(blockIdx.x) * chunks;
    auto put = [&](int c, const float(&v)[8]) {
        to[c] = make_uint2(four_bytes(times(make_float4(v[0], v[1], v[2], v[3]), by)),
                           four_bytes(times(make_float4(v[4], v[5], v[6], v[7]), by)));
    };
#pragma unroll
    for (int k = 0; k < KEPT; k++) {
        int c = k * blockDim.x + threadIdx.x;
        if (c < chunks) put(c, kept[k]);
    }
    for (int c = KEPT * blockDim.x + threadIdx.x; c < chunks; c += blockDim.x) {
        float v[8];
        eight_gated(g, c, column, v);
        put(c, v);
    }
    if (threadIdx.x == 0) scale[blockIdx.x] = scale_of(top);
}

// What a product lacks: y = y * its scales + bias + add.
struct Finish {
    float4* y;
    const float4* rows;   // scales of the matrix's rows, or null: it has both
    const float4* bias;   // or null
    const float4* add;    // or null
    int chunks;           // rows of the matrix / 4
};

struct Finishes {
    Finish of[3];
};

// blockIdx.y: columns, of which `columns` has the scales; blockIdx.z: the product.
extern "C" __global__ void finish_fp8(const __grid_constant__ Finishes all, const float* columns) {
    wait_for_inputs();
    let_next_start();
    const Finish& f = all.of[blockIdx.z];
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= f.chunks) return;
    size_t at = size_t(blockIdx.y) * f.chunks + c;
    float4 v = f.y[at];
    if (f.rows) {
        float4 r = f.rows[c];
        v = times(make_float4(v.x * r.x, v.y * r.y, v.z * r.z, v.w * r.w), columns[blockIdx.y]);
    }
    if (f.bias) {
        float4 b = f.bias[c];
        v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
    }
    if (f.add) {
        float4 b = f.add[at];
        v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
    }
    f.y[at] = v;
}
