// Rotates heads: x, y [n, cols] with heads of `head` numbers. Floor: x read and y written once.
#include "rope.cuh"

extern "C" __global__ void rope(const float* x, float* y, const uint32_t* positions, Rotation r, int cols, int head) {
    wait_for_inputs();
    let_next_start();
    int c = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y;
    if (c >= cols) return;
    size_t at = size_t(t) * cols + c / head * head;
    y[at + c % head] = rotated(r, x + at, c % head, [&](int pair) { return turn(r, pair, positions[t]); });
}
