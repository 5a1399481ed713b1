// Writes keys and values of a batch's tokens into their blocks, rounded to the cache's type with the
// bytes of zse_quant::encode; keys may be rotated on the way. A warp takes a head of a token.
// Floor: the new rows read and written once.
#include "kv.cuh"
#include "rope.cuh"

struct KvWrite {
    const float* x;             // [n, heads * dim]
    const uint32_t* positions;  // [n]
    const uint32_t* slots;      // [n]: block * block_len + row; null: row t
    Rotation rotation;          // of keys, if it has pairs
    Plane to;
    int type;
};

// Rounds 32 numbers, one a lane, to a block of Q8_0 or Q4_0.
__device__ __forceinline__ void round_block(int type, float v, int lane, uint8_t* block) {
    bool bad = __any_sync(ALL_LANES, !isfinite(v));
    float top = warp_max(fabsf(v));
    float d;
    if (type == KV_Q8_0) {
        d = top / 127.0f;
        float inverse = d == 0.0f ? 0.0f : 1.0f / d;
        // Halves are rounded away from zero, as ggml does.
        float scaled = v * inverse;
        block[2 + lane] = bad ? 0xff : uint8_t(int8_t(fabsf(scaled) < 128.0f ? roundf(scaled) : 0.0f));
    } else {
        // The number of largest magnitude, the first of several, is level -8.
        unsigned who = __ballot_sync(ALL_LANES, fabsf(v) == top);
        float largest = __shfl_sync(ALL_LANES, v, who ? __ffs(who) - 1 : 0);
        d = largest / -8.0f;
        float inverse = d == 0.0f ? 0.0f : 1.0f / d;
        float scaled = __fadd_rn(__fmul_rn(v, inverse), 8.5f);
        int code = fabsf(scaled) < 128.0f ? min(int(scaled), 15) : 0;
        int upper = __shfl_down_sync(ALL_LANES, code, 16);
        if (lane < 16) block[2 + lane] = bad ? 0xff : uint8_t(code | upper << 4);
    }
    if (lane == 0) *reinterpret_cast<uint16_t*>(block) = bad ? 0xffff : __half_as_ushort(__float2half(d));
}

struct KvWrites {
    KvWrite sides[3];
};

// blockIdx.y: keys, values, or queries, which are rotated into rows of their own.
extern "C" __global__ void kv_write(const __grid_constant__ KvWrites writes, int n) {
    wait_for_inputs();
    let_next_start();
    const KvWrite& w = writes.sides[blockIdx.y];
    int warp = (blockIdx.x * blockDim.x + threadIdx.x) / WARP, lane = threadIdx.x % WARP;
    int t = warp / w.to.heads, head = warp % w.to.heads;
    if (t >= n) return;
    const float* x = w.x + (size_t(t) * w.to.heads + head) * w.to.dim;
    uint32_t slot = w.slots ? w.slots[t] : t, position = w.positions[t];
    uint8_t* row = kv_row(w.to, slot / w.to.block_len, head, slot % w.to.block_len);
    for (int base = 0; base < w.to.dim; base += WARP) {
        int i = base + lane;
        bool inside = i < w.to.dim;
        float v = 0.0f;
        if (inside) v = w.rotation.pairs ? rotated(w.rotation, x, i, position) : x[i];
        switch (w.type) {
            case KV_F32:
                if (inside) reinterpret_cast<float*>(row)[i] = v;
                break;
            case KV_F16:
                if (inside) reinterpret_cast<__half*>(row)[i] = __float2half(v);
                break;
            case KV_BF16:
                if (inside) reinterpret_cast<__nv_bfloat16*>(row)[i] = __float2bfloat16(v);
                break;
            // Heads are whole blocks of 32 here (Budget::check).
            case KV_Q8_0: round_block(w.type, v, lane, row + base / 32 * 34); break;
            default: round_block(w.type, v, lane, row + base / 32 * 18);
        }
    }
}
