// Activations in the forms that products read. x: [n, cols] f32.
//
// q8: for each group of 32 along k, int8 with one scale and the sums of its halves, as
// zse_quant::contract rounds them. A column takes `cols` bytes, first the lower 16 of every group,
// then the upper 16; `s` holds (scale, two 16-bit sums) for each group.
// 16-bit rows: [n, pitch], zeros behind `cols`; f16 rows are scaled by a power of two so that none
// overflows, which `scale` undoes.
// Floor: 4 bytes read a number, 1.25 (q8) or 2 written.
#include "common.cuh"
#include "quantize.cuh"

extern "C" __global__ void quantize_q8(const float* x, uint8_t* q, float2* s, int groups, int n) {
    wait_for_inputs();
    let_next_start();
    int warp = (blockIdx.x * blockDim.x + threadIdx.x) / WARP, lane = threadIdx.x % WARP;
    if (warp >= groups * n) return;
    int column = warp / groups, g = warp % groups;
    float v = x[size_t(column) * groups * 32 + g * 32 + lane];
    quantize_group(v, lane, q + size_t(column) * groups * 32, s + size_t(column) * groups, g, groups);
}

extern "C" __global__ void to_bf16(const float* x, __nv_bfloat16* y, float* scale, int cols, int pitch, int n) {
    wait_for_inputs();
    let_next_start();
    int row = blockIdx.y;
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c == 0) scale[row] = 1.0f;
    if (c < pitch) y[size_t(row) * pitch + c] = __float2bfloat16(c < cols ? x[size_t(row) * cols + c] : 0.0f);
}

extern "C" __global__ void to_f16(const float* x, __half* y, float* scale, int cols, int pitch) {
    __shared__ float scratch[32];
    wait_for_inputs();
    let_next_start();
    int row = blockIdx.x;
    const float* from = x + size_t(row) * cols;
    float top = 0.0f;
    for (int c = threadIdx.x; c < cols; c += blockDim.x) top = fmaxf(top, fabsf(from[c]));
    top = block_max(top, scratch);
    // The largest becomes about 2^8: far from overflow, and from what f16 cannot tell from 0.
    int exponent = 0;
    if (top > 0.0f && top < INFINITY) frexpf(top, &exponent);
    // Rows so small that the factor would be infinite keep what f16 can tell of them: nothing.
    exponent = max(exponent, -100);
    float down = ldexpf(1.0f, 8 - exponent);
    if (threadIdx.x == 0) scale[row] = ldexpf(1.0f, exponent - 8);
    for (int c = threadIdx.x; c < pitch; c += blockDim.x)
        y[size_t(row) * pitch + c] = __float2half(c < cols ? from[c] * down : 0.0f);
}
