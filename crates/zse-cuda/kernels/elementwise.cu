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

// Gates in bf16, eight numbers a thread: y, which may be `gate`, takes act(gate + its bias) * (up + its bias). Rows are of
// `cols` numbers, a multiple of 8; a bias may be null.
extern "C" __global__ void glu_bf16(const uint4* gate, const uint4* up, uint4* y, const float* gate_bias,
                                    const float* up_bias, int act, int cols, size_t len) {
    wait_for_inputs();
    let_next_start();
    size_t at = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= len / 8) return;
    union Eight {
        uint4 bits;
        __nv_bfloat162 pairs[4];
    } g, u;
    g.bits = gate[at];
    u.bits = up[at];
    int c = gate_bias || up_bias ? at * 8 % cols : 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 a = __bfloat1622float2(g.pairs[i]), b = __bfloat1622float2(u.pairs[i]);
        if (gate_bias) a = make_float2(a.x + gate_bias[c + 2 * i], a.y + gate_bias[c + 2 * i + 1]);
        if (up_bias) b = make_float2(b.x + up_bias[c + 2 * i], b.y + up_bias[c + 2 * i + 1]);
        g.pairs[i] = __floats2bfloat162_rn(activate(act, a.x) * b.x, activate(act, a.y) * b.y);
    }
    y[at] = g.bits;
}
