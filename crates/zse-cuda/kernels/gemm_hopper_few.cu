// Products of up to 64 columns on Hopper: see gemm_hopper.cuh. Limited by instructions, and by memory: weights
// are on their way one or two steps ahead in each of 16 warps, 16-bit ones three steps ahead in each of 8. Up to 16
// columns meet weights in superblocks, whose rows are whole steps of 256, in gemm_bytes.cu.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "gemm_hopper.cuh"

#define QUANTIZED(L, NAME)        \
    GEMM(L, NAME, 32, 4, 2, 0, 8) \
    GEMM(L, NAME, 64, 4, 1, 0, 6)
#define FLOAT(L, NAME)            \
    GEMM(L, NAME, 16, 2, 1, 4, 3) \
    GEMM(L, NAME, 32, 2, 1, 4, 3) \
    GEMM(L, NAME, 64, 2, 1, 4, 3)
FOR_QUANTIZED(QUANTIZED)
GEMM(Q4_0, q4_0, 16, 4, 2, 0, 8)
GEMM(Q8_0, q8_0, 16, 4, 2, 0, 8)
GEMM(Any, any, 16, 4, 2, 0, 8)
GEMM(Fp8, fp8, 16, 4, 2, 0, 8)
QUANTIZED(Fp8, fp8)
FLOAT(__half, f16)
FLOAT(__nv_bfloat16, bf16)
#endif
