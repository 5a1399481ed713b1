// Products of more than 64 columns on Hopper: see gemm_hopper.cuh. Limited by the tensor cores: while one
// of two warpgroups unpacks, the other multiplies.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "gemm_hopper.cuh"

#define QUANTIZED(L, NAME)         \
    GEMM(L, NAME, 128, 2, 1, 0, 5) \
    GEMM(L, NAME, 256, 2, 1, 0, 3)
FOR_QUANTIZED(QUANTIZED)
QUANTIZED(Fp8, fp8)
GEMM(__half, f16, 128, 2, 2, 0, 5)
GEMM(__nv_bfloat16, bf16, 128, 2, 2, 0, 5)
#endif
