// Normalised rows, summed in f32 over the block's fixed tree. x, y: [rows, cols]; rms norms take runs
// of `cols` numbers (a row, or a head). `q`, `s`, if given, take the result as q8 columns (quantize.cu), `to` as tiles,
// `narrow` as bf16 rows of `pitch`, zeros behind `cols`.
// Floor: x read once, each output written once; at decode the latency of two reductions.
#include "mma.cuh"
#include "quantize.cuh"
#include "tiles.cuh"

// Runs of any length.
extern "C" __global__ void rms_norm(const float* x, const float* weight, float eps, float* y, int cols) {
    __shared__ float scratch[32];
    wait_for_inputs();
    let_next_start();
    size_t at = size_t(blockIdx.x) * cols;
    float squares = 0.0f;
    for (int c = threadIdx.x; c < cols; c += blockDim.x) squares = fmaf(x[at + c], x[at + c], squares);
    float scale = 1.0f / sqrtf(block_sum(squares, scratch) / float(cols) + eps);
    for (int c = threadIdx.x; c < cols; c += blockDim.x) y[at + c] = x[at + c] * scale * weight[c];
}

constexpr int KEPT = 4;  // times 4 numbers of a row that a thread keeps in registers

// Rows of whole groups of 32; `y`, `q`, tiles or `narrow` may be null.
extern "C" __global__ void rms_norm_rows(const float* x, const float* weight, float eps, float* y, uint8_t* q,
                                         float2* s, Tiles to, __nv_bfloat16* narrow, int pitch, int cols) {
    __shared__ float scratch[32];
    const float4* weights = reinterpret_cast<const float4*>(weight);
    int chunks = cols / 4;
    float4 factor[KEPT], kept[KEPT];
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int c = i * blockDim.x + threadIdx.x;
        if (c < chunks) factor[i] = weights[c];
    }
    // Products behind this begin with weights.
    let_next_start();
    wait_for_inputs();
    size_t at = size_t(blockIdx.x) * cols;
    const float4* row = reinterpret_cast<const float4*>(x + at);
    auto square = [](const float4& v) { return fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, v.w * v.w))); };
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int c = i * blockDim.x + threadIdx.x;
        kept[i] = c < chunks ? row[c] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        squares += square(kept[i]);
    }
    for (int c = KEPT * blockDim.x + threadIdx.x; c < chunks; c += blockDim.x) squares += square(row[c]);
    float scale = 1.0f / sqrtf(block_sum(squares, scratch) / float(cols) + eps);
    auto finish = [&](int c, float4 v, const float4& w) {
        bool inside = c < chunks;
        v = inside ? make_float4(v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z, v.w * scale * w.w)
                   : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (y && inside) reinterpret_cast<float4*>(y + at)[c] = v;
        if (q) quantize_quarter(v, inside, q + at, s + at / 32, c, cols / 32);
        if (to.at && to.order == BYTES) tile_quarter(v, inside, to, blockIdx.x, c);
        else if (to.at && inside) store_four(to, blockIdx.x, 4 * c, v);
        if (narrow && 4 * c < pitch)
            reinterpret_cast<uint2*>(narrow + size_t(blockIdx.x) * pitch)[c] =
                make_uint2(Mma<__nv_bfloat16>::pack(v.x, v.y), Mma<__nv_bfloat16>::pack(v.z, v.w));
    };
#pragma unroll
    for (int i = 0; i < KEPT; i++)
        if (i * blockDim.x < chunks) finish(i * blockDim.x + threadIdx.x, kept[i], factor[i]);
    for (int base = KEPT * blockDim.x; base < chunks; base += blockDim.x) {
        int c = base + threadIdx.x, from = min(c, chunks - 1);
        finish(c, row[from], weights[from]);
    }
    // Steps are whole.
    int c = chunks + threadIdx.x;
    if (to.at && to.order != BYTES && c < (cols + STEP - 1) / STEP * STEP / 4) store_four(to, blockIdx.x, 4 * c, make_float4(0.0f, 0.0f, 0.0f, 0.0f));
    if (narrow && c < pitch / 4) reinterpret_cast<uint2*>(narrow + size_t(blockIdx.x) * pitch)[c] = make_uint2(0, 0);
}

extern "C" __global__ void layer_norm(const float* x, const float* weight, const float* bias, float eps, float* y,
                                      int cols) {
    __shared__ float scratch[32];
    wait_for_inputs();
    let_next_start();
    size_t at = size_t(blockIdx.x) * cols;
    float sum = 0.0f, squares = 0.0f;
    for (int c = threadIdx.x; c < cols; c += blockDim.x) sum += x[at + c];
    float mean = block_sum(sum, scratch) / float(cols);
    for (int c = threadIdx.x; c < cols; c += blockDim.x) {
        float v = x[at + c] - mean;
        squares = fmaf(v, v, squares);
    }
    float scale = 1.0f / sqrtf(block_sum(squares, scratch) / float(cols) + eps);
    for (int c = threadIdx.x; c < cols; c += blockDim.x)
        y[at + c] = (x[at + c] - mean) * scale * weight[c] + (bias ? bias[c] : 0.0f);
}
