// Activations in the forms that products read. x: [n, cols] f32.
//
// q8: for each group of 32 along k, int8 with one scale and the sums of its halves, as
// zse_quant::contract rounds them. A column takes `cols` bytes, first the lower 16 of every group,
// then the upper 16; `s` holds (scale, two 16-bit sums) for each group.
// 16-bit rows: [n, pitch], zeros behind `cols`; f16 rows are scaled by a power of two so that none
// overflows, which `scale` undoes.
// rows_bf16: the same without scales, eight numbers a thread, for cuBLASLt.
// Tiles: see tiles.cuh; 16-bit numbers for Hopper's products, scaled as rows are, or bytes as of q8.
// Floor: 4 bytes read a number, 1.25 (q8) or 2 written.
#include "common.cuh"
#include "mma.cuh"
#include "quantize.cuh"
#include "tiles.cuh"

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

extern "C" __global__ void rows_bf16(const float* x, __nv_bfloat16* y, int cols, int pitch) {
    wait_for_inputs();
    let_next_start();
    int c = (blockIdx.x * blockDim.x + threadIdx.x) * 8;
    if (c >= pitch) return;
    const float* from = x + size_t(blockIdx.y) * cols;
    float v[8];
    if (cols % 4 == 0 && c + 8 <= cols) {
        *reinterpret_cast<float4*>(v) = *reinterpret_cast<const float4*>(from + c);
        *reinterpret_cast<float4*>(v + 4) = *reinterpret_cast<const float4*>(from + c + 4);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = c + i < cols ? from[c + i] : 0.0f;
    }
    using M = Mma<__nv_bfloat16>;
    *reinterpret_cast<uint4*>(y + size_t(blockIdx.y) * pitch + c) =
        make_uint4(M::pack(v[0], v[1]), M::pack(v[2], v[3]), M::pack(v[4], v[5]), M::pack(v[6], v[7]));
}

// The exponent of a row's largest number, for a factor that makes it about 2^8: far from overflow, and from
// what f16 cannot tell from 0. Whole blocks take part.
__device__ __forceinline__ int exponent_of(const float* row, int cols) {
    __shared__ float scratch[32];
    float top = 0.0f;
    for (int c = threadIdx.x; c < cols; c += blockDim.x) top = fmaxf(top, fabsf(row[c]));
    top = block_max(top, scratch);
    int exponent = 0;
    if (top > 0.0f && top < INFINITY) frexpf(top, &exponent);
    // Rows so small that the factor would be infinite keep what f16 can tell of them: nothing.
    return max(exponent, -100);
}

extern "C" __global__ void to_f16(const float* x, __half* y, float* scale, int cols, int pitch) {
    wait_for_inputs();
    let_next_start();
    int row = blockIdx.x;
    const float* from = x + size_t(row) * cols;
    int exponent = exponent_of(from, cols);
    float down = ldexpf(1.0f, 8 - exponent);
    if (threadIdx.x == 0) scale[row] = ldexpf(1.0f, exponent - 8);
    for (int c = threadIdx.x; c < pitch; c += blockDim.x)
        y[size_t(row) * pitch + c] = __float2half(c < cols ? from[c] * down : 0.0f);
}

// What a product step of 16 takes of a column: two 16-byte chunks.
template <class T>
__device__ __forceinline__ void to_chunks(const float* x, const Tiles& to, int cols, int n, int step, int s,
                                          float factor) {
    bool groups = to.order == GROUPS, plain = to.order == PLAIN;
    uint32_t a[4], b[4];
#pragma unroll
    for (int t = 0; t < 4; t++) {
        int k = STEP * step + (plain ? 16 * s + 4 * t : groups ? 32 * t + 4 * s : 32 * (s / 2) + 8 * t + 4 * (s % 2));
        float v[4];
        if (cols % 4 == 0 && k < cols) {
            *reinterpret_cast<float4*>(v) = *reinterpret_cast<const float4*>(x + k);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) v[i] = k + i < cols ? x[k + i] : 0.0f;
        }
        a[t] = Mma<T>::pack(v[0] * factor, (groups ? v[2] : v[1]) * factor);
        b[t] = Mma<T>::pack((groups ? v[1] : v[2]) * factor, v[3] * factor);
    }
    *reinterpret_cast<uint4*>(to.at + tile_chunk(n, step, s, 0, to.atoms)) =
        plain ? make_uint4(a[0], b[0], a[1], b[1]) : make_uint4(a[0], a[1], a[2], a[3]);
    *reinterpret_cast<uint4*>(to.at + tile_chunk(n, step, s, 1, to.atoms)) =
        plain ? make_uint4(a[2], b[2], a[3], b[3]) : make_uint4(b[0], b[1], b[2], b[3]);
}

// Which row of x a column is, of a mixture's: `sources` has the pair of each, or -1 for columns that nobody reads;
// `share` pairs share a row, or with 0 columns are rows in their order, as without sources.
struct Sources {
    const int* pairs;
    int share;

    __device__ __forceinline__ int row_of(int n) const {
        if (!pairs) return n;
        int pair = pairs[n];
        return pair < 0 ? -1 : share ? pair / share : n;
    }
};

// blockIdx.y: columns; a thread for each step of 16 along k.
extern "C" __global__ void tiles_bf16(const float* x, Sources sources, Tiles to, int cols) {
    // The product behind this begins with weights.
    let_next_start();
    wait_for_inputs();
    int n = blockIdx.y, at = blockIdx.x * blockDim.x + threadIdx.x, steps = (cols + STEP - 1) / STEP;
    int row = sources.row_of(n);
    if (row < 0 || at >= 8 * steps) return;
    to_chunks<__nv_bfloat16>(x + size_t(row) * cols, to, cols, n, at / 8, at % 8, 1.0f);
}

// blockIdx.y: columns; a thread for each four numbers.
extern "C" __global__ void tiles_bytes(const float* x, Tiles to, int cols) {
    let_next_start();
    wait_for_inputs();
    int n = blockIdx.y, chunk = blockIdx.x * blockDim.x + threadIdx.x;
    bool inside = chunk < cols / 4;
    float4 v = reinterpret_cast<const float4*>(x + size_t(n) * cols)[inside ? chunk : 0];
    tile_quarter(v, inside, to, n, chunk);
}

// A block for each column.
extern "C" __global__ void tiles_f16(const float* x, Sources sources, Tiles to, float* scale, int cols) {
    wait_for_inputs();
    let_next_start();
    int n = blockIdx.x, steps = (cols + STEP - 1) / STEP, row = sources.row_of(n);
    if (row < 0) return;
    const float* from = x + size_t(row) * cols;
    int exponent = exponent_of(from, cols);
    float down = ldexpf(1.0f, 8 - exponent);
    if (threadIdx.x == 0) scale[n] = ldexpf(1.0f, exponent - 8);
    for (int at = threadIdx.x; at < 8 * steps; at += blockDim.x)
        to_chunks<__half>(from, to, cols, n, at / 8, at % 8, down);
}
