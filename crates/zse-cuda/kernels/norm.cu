// Normalised rows, summed in f32 over the block's fixed tree. x, y: [rows, cols]; rms norms take runs
// of `cols` numbers (a row, or a head). `add`, if given, is added to x first, and the sum stored in
// `sum`. `q`, `s`, if given, take the result as q8 columns (quantize.cu); y may then be null.
// Floor: x read once, each output written once; at decode the latency of two reductions.
#include "quantize.cuh"

constexpr int KEPT = 8;  // numbers of a row that a thread keeps in registers

extern "C" __global__ void rms_norm(const float* x, const float* add, float* sum, const float* weight, float eps,
                                    float* y, uint8_t* q, float2* s, int cols) {
    __shared__ float scratch[32];
    wait_for_inputs();
    let_next_start();
    size_t at = size_t(blockIdx.x) * cols;
    float kept[KEPT], squares = 0.0f;
    auto number = [&](int c) {
        float v = x[at + c];
        return add ? v + add[at + c] : v;
    };
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int c = i * blockDim.x + threadIdx.x;
        kept[i] = c < cols ? number(c) : 0.0f;
        squares = fmaf(kept[i], kept[i], squares);
        if (sum && c < cols) sum[at + c] = kept[i];
    }
    for (int c = KEPT * blockDim.x + threadIdx.x; c < cols; c += blockDim.x) {
        float v = number(c);
        squares = fmaf(v, v, squares);
        if (sum) sum[at + c] = v;
    }
    float scale = 1.0f / sqrtf(block_sum(squares, scratch) / float(cols) + eps);
    auto finish = [&](int c, float v) {
        // With q8 columns, cols is a multiple of 32, and so whole warps come here.
        float normed = c < cols ? v * scale * weight[c] : 0.0f;
        if (y && c < cols) y[at + c] = normed;
        if (q && c < cols)
            quantize_group(normed, c % 32, q + at, s + at / 32, c / 32, cols / 32);
    };
#pragma unroll
    for (int i = 0; i < KEPT; i++) finish(i * blockDim.x + threadIdx.x, kept[i]);
    for (int c = KEPT * blockDim.x + threadIdx.x; c < cols; c += blockDim.x) finish(c, number(c));
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
