// One number at a time over whole matrices. Floor: inputs read once, the result written once.
#include "common.cuh"

#define EACH(NAME, ARGS, EXPRESSION)                                                        \
    extern "C" __global__ void NAME ARGS {                                                  \
        wait_for_inputs();                                                                  \
        let_next_start();                                                                   \
        size_t stride = size_t(gridDim.x) * blockDim.x;                                     \
        for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < len; i += stride) \
            y[i] = EXPRESSION;                                                              \
    }

EACH(glu, (const float* gate, const float* up, float* y, int act, size_t len), activate(act, gate[i]) * up[i])
EACH(activation, (const float* x, float* y, int act, size_t len), activate(act, x[i]))
EACH(add, (const float* a, const float* b, float* y, size_t len), a[i] + b[i])
EACH(scale, (const float* x, float* y, float by, size_t len), x[i] * by)
EACH(soft_cap, (const float* x, float* y, float cap, size_t len), cap * tanhf(x[i] / cap))
