// Writes keys and values of a batch's tokens into their blocks, rounded to the cache's type with the
// bytes of zse_quant::encode; keys may be rotated on the way. A warp takes a head of a token, a block some heads of one
// token, which turn by the same angles.
// Floor: the new rows read and written once.
#include "kv.cuh"
#include "mma.cuh"
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

// What is not finite becomes no number, and so stays visible: FP8 would round it to its largest.
__device__ __forceinline__ float4 known(const float4& v) {
    auto of = [](float x) { return isfinite(x) ? x : NAN; };
    return make_float4(of(v.x), of(v.y), of(v.z), of(v.w));
}

// A warp's part: head `head` of token `t`.
template <class Turns>
__device__ __forceinline__ void write_head(const KvWrite& w, int t, int head, uint32_t slot, int lane,
                                           const Turns& turns) {
    const float* x = w.x + (size_t(t) * w.to.heads + head) * w.to.dim;
    uint8_t* row = kv_row(w.to, slot / w.to.block_len, head, slot % w.to.block_len);
    for (int base = 0; base < w.to.dim; base += WARP) {
        int i = base + lane;
        bool inside = i < w.to.dim;
        float v = 0.0f;
        if (inside) v = w.rotation.pairs ? rotated(w.rotation, x, i, turns) : x[i];
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
            case KV_FP8:
                if (inside) row[i] = uint8_t(four_bytes(known(make_float4(v, 0.0f, 0.0f, 0.0f))));
                break;
            default: round_block(w.type, v, lane, row + base / 32 * 18);
        }
    }
}

// The same of four numbers a lane, for types that are no blocks: whole fours, and so are what turns and its halves.
template <class Turns>
__device__ __forceinline__ void write_fours(const KvWrite& w, int t, int head, uint32_t slot, int lane,
                                            const Turns& turns) {
    const float* x = w.x + (size_t(t) * w.to.heads + head) * w.to.dim;
    uint8_t* row = kv_row(w.to, slot / w.to.block_len, head, slot % w.to.block_len);
    int pairs = w.rotation.pairs;
    for (int i = 4 * lane; i < w.to.dim; i += 4 * WARP) {
        float v[4], other[4];
        *reinterpret_cast<float4*>(v) = *reinterpret_cast<const float4*>(x + i);
        if (i < 2 * pairs && w.rotation.halves) {
            bool second = i >= pairs;
            int pair = second ? i - pairs : i;
            *reinterpret_cast<float4*>(other) = *reinterpret_cast<const float4*>(x + (second ? pair : pair + pairs));
#pragma unroll
            for (int k = 0; k < 4; k++) {
                float2 by = turns(pair + k);
                v[k] = second ? other[k] * by.y + v[k] * by.x : v[k] * by.x - other[k] * by.y;
            }
        } else if (i < 2 * pairs) {
#pragma unroll
            for (int k = 0; k < 4; k += 2) {
                float2 by = turns((i + k) / 2);
                float a = v[k], b = v[k + 1];
                v[k] = a * by.x - b * by.y;
                v[k + 1] = a * by.y + b * by.x;
            }
        }
        if (w.type == KV_F32) {
            reinterpret_cast<float4*>(row)[i / 4] = *reinterpret_cast<float4*>(v);
        } else if (w.type == KV_FP8) {
            reinterpret_cast<uint32_t*>(row)[i / 4] = four_bytes(known(make_float4(v[0], v[1], v[2], v[3])));
        } else {
            bool half = w.type == KV_F16;
            uint32_t low = half ? Mma<__half>::pack(v[0], v[1]) : Mma<__nv_bfloat16>::pack(v[0], v[1]);
            uint32_t high = half ? Mma<__half>::pack(v[2], v[3]) : Mma<__nv_bfloat16>::pack(v[2], v[3]);
            reinterpret_cast<uint2*>(row)[i / 4] = make_uint2(low, high);
        }
    }
}

constexpr int HEADS = 4;     // of a block
constexpr int ANGLES = 256;  // most pairs whose angles are shared

struct KvWrites {
    KvWrite sides[3];
};

// blockIdx.y: keys, values, or queries, which are rotated into rows of their own.
extern "C" __global__ void kv_write(const __grid_constant__ KvWrites writes, int n) {
    __shared__ float2 angles[ANGLES];
    wait_for_inputs();
    let_next_start();
    const KvWrite& w = writes.sides[blockIdx.y];
    int parts = (w.to.heads + HEADS - 1) / HEADS, t = blockIdx.x / parts;
    if (t >= n) return;
    uint32_t slot = w.slots ? w.slots[t] : t, position = w.positions[t];
    bool share = w.rotation.pairs <= ANGLES;
    if (share) {
        for (int pair = threadIdx.x; pair < w.rotation.pairs; pair += blockDim.x)
            angles[pair] = turn(w.rotation, pair, position);
        __syncthreads();
    }
    auto turns = [&](int pair) { return share ? angles[pair] : turn(w.rotation, pair, position); };
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, first = blockIdx.x % parts * HEADS;
    bool fours = (w.type <= KV_BF16 || w.type == KV_FP8) && w.to.dim % 4 == 0 && w.rotation.pairs % 4 == 0;
    for (int head = first + warp; head < min(first + HEADS, w.to.heads); head += blockDim.x / WARP) {
        if (fours) write_fours(w, t, head, slot, lane, turns);
        else write_head(w, t, head, slot, lane, turns);
    }
}
