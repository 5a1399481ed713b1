// Whole rows: those that want an output, or one made of all rows of a sequence. Floor: rows read and
// written once.
#include "common.cuh"

extern "C" __global__ void gather_rows(const float* x, float* y, const uint32_t* rows, int cols) {
    wait_for_inputs();
    let_next_start();
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c < cols) y[size_t(blockIdx.y) * cols + c] = x[size_t(rows[blockIdx.y]) * cols + c];
}

// zse_model::program::PoolKind, in its order. starts: [seqs + 1].
extern "C" __global__ void pool(const float* x, float* y, const uint32_t* starts, int kind, int cols) {
    wait_for_inputs();
    let_next_start();
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= cols) return;
    uint32_t from = starts[blockIdx.y], to = starts[blockIdx.y + 1];
    float v = 0.0f;
    switch (kind) {
        case 0:
            for (uint32_t r = from; r < to; r++) v += x[size_t(r) * cols + c];
            v /= float(to - from);
            break;
        case 1: v = x[size_t(from) * cols + c]; break;
        default: v = x[size_t(to - 1) * cols + c];
    }
    y[size_t(blockIdx.y) * cols + c] = v;
}
