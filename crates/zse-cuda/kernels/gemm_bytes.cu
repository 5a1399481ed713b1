// Products of up to 16 columns with quantized weights on Hopper: see gemm_bytes.cuh. Two blocks run on a
// multiprocessor; with 8 columns they leave registers to the small kernels between products.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "gemm_bytes.cuh"

#define LAYOUT(L, NAME, RING)         \
    GEMM_BYTES(L, NAME, 1, RING, 4, 320) \
    GEMM_BYTES(L, NAME, 2, RING, 4, 256)
LAYOUT(Q4_0, q4_0, 4)
LAYOUT(Q8_0, q8_0, 2)
LAYOUT(Q4_K, q4_k, 4)
LAYOUT(Q5_K, q5_k, 3)
LAYOUT(Q6_K, q6_k, 3)
#endif
