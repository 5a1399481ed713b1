// Products of a mixture's experts on Hopper, columns grouped by expert (moe.cu): see gemm_hopper.cuh.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "gemm_hopper.cuh"

#define QUANTIZED(L, NAME)                \
    GEMM_EXPERTS(L, NAME, 16, 4, 2, 0, 8) \
    GEMM_EXPERTS(L, NAME, 64, 4, 1, 0, 6) \
    GEMM_EXPERTS(L, NAME, 128, 2, 1, 0, 5)
#define FLOAT(L, NAME)                    \
    GEMM_EXPERTS(L, NAME, 16, 2, 1, 4, 3) \
    GEMM_EXPERTS(L, NAME, 64, 2, 1, 4, 3) \
    GEMM_EXPERTS(L, NAME, 128, 2, 2, 0, 5)
FOR_QUANTIZED(QUANTIZED)
FLOAT(__half, f16)
FLOAT(__nv_bfloat16, bf16)
#endif
