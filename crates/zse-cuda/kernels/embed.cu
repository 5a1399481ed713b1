// Rows of a table, decoded with the bits of zse_quant::decode: y[t] = table[ids[t]], [n, cols] f32.
// Without `ids` all are row `fixed`. Floor: the rows read and written, once.
#include "layouts.cuh"

template <class L>
__device__ __forceinline__ void embed(const Matrix& m, const uint32_t* ids, int fixed, float* y) {
    wait_for_inputs();
    let_next_start();
    int groups = m.cols / 32, t = blockIdx.y;
    int g = blockIdx.x * blockDim.x + threadIdx.x;
    if (g >= groups) return;
    size_t row = ids ? ids[t] : fixed;
    size_t at = row * groups + g;
    Group group;
    L::group(L::load(m, at), at, group);
    float4* to = reinterpret_cast<float4*>(y + size_t(t) * m.cols + 32 * g);
#pragma unroll
    for (int i = 0; i < 8; i++)
        to[i] = make_float4(weight<L>(group, 4 * i), weight<L>(group, 4 * i + 1), weight<L>(group, 4 * i + 2),
                            weight<L>(group, 4 * i + 3));
}

template <class T>
__device__ __forceinline__ void embed_float(const Matrix& m, const uint32_t* ids, int fixed, float* y) {
    wait_for_inputs();
    let_next_start();
    int c = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y;
    if (c >= m.cols) return;
    constexpr int LEN = 16 / sizeof(T);
    size_t pitch = (m.cols + LEN - 1) / LEN * LEN;
    size_t row = ids ? ids[t] : fixed;
    y[size_t(t) * m.cols + c] = float(reinterpret_cast<const T*>(m.q)[row * pitch + c]);
}

#define KERNEL(L, NAME)                                                                                    \
    extern "C" __global__ void embed_##NAME(Matrix m, const uint32_t* ids, int fixed, float* y) {          \
        embed<L>(m, ids, fixed, y);                                                                        \
    }
#define FLOAT(T, NAME)                                                                                     \
    extern "C" __global__ void embed_##NAME(Matrix m, const uint32_t* ids, int fixed, float* y) {          \
        embed_float<T>(m, ids, fixed, y);                                                                  \
    }
FOR_QUANTIZED(KERNEL)
FLOAT(__half, f16)
FLOAT(__nv_bfloat16, bf16)
FLOAT(float, f32)
