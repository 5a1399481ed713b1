// What all kernels share: programmatic dependent launch, reductions and activation functions.
//
// Every kernel calls `wait_for_inputs()` before it touches what an earlier kernel wrote: kernels of
// a stream may start while the one before them ends, and only that call orders their memory.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// Blocks until all that came before in the stream is done and visible.
__device__ __forceinline__ void wait_for_inputs() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel of the stream start, as far as it does not wait for this one's results.
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int i = WARP / 2; i > 0; i /= 2) v += __shfl_xor_sync(ALL_LANES, v, i);
    return v;
}

__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int i = WARP / 2; i > 0; i /= 2) v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, i));
    return v;
}

// Sum over the block, in every thread; `scratch` holds a float for each warp, at most 32.
__device__ __forceinline__ float block_sum(float v, float* scratch) {
    v = warp_sum(v);
    int warps = (blockDim.x + WARP - 1) / WARP;
    __syncthreads();
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = v;
    __syncthreads();
    v = threadIdx.x % WARP < warps ? scratch[threadIdx.x % WARP] : 0.0f;
    return warp_sum(v);
}

__device__ __forceinline__ float block_max(float v, float* scratch) {
    v = warp_max(v);
    int warps = (blockDim.x + WARP - 1) / WARP;
    __syncthreads();
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = v;
    __syncthreads();
    v = threadIdx.x % WARP < warps ? scratch[threadIdx.x % WARP] : -INFINITY;
    return warp_max(v);
}

// zse_model::program::Act, in its order.
enum Act { SILU = 0, GELU_ERF = 1, GELU_TANH = 2, RELU = 3 };

__device__ __forceinline__ float activate(int act, float x) {
    switch (act) {
        case SILU: return x / (1.0f + expf(-x));
        case GELU_ERF: return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
        case GELU_TANH:
            return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
        default: return x > 0.0f || isnan(x) ? x : 0.0f;
    }
}

// int8 dot product of four pairs, added to `c`.
__device__ __forceinline__ int dp4a(int a, int b, int c) { return __dp4a(a, b, c); }

// Loads of what is read once: weights stream past the cache. They do not say that nothing writes there (`ld.global.nc`,
// `__ldg`): such loads may be moved behind `wait_for_inputs`, and kernels ask for weights before it.
__device__ __forceinline__ uint4 stream16(const void* p) {
    uint4 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

__device__ __forceinline__ uint2 stream8(const void* p) {
    uint2 v;
    asm volatile("ld.global.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
    return v;
}
