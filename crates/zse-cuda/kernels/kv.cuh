// Keys and values in blocks: a plane is [blocks, heads, block_len, row], a row one head of one token
// in the cache's type.
#pragma once
#include "e4m3.cuh"

// zse_model::executor::KvType, in its order.
enum KvType { KV_F32 = 0, KV_F16 = 1, KV_BF16 = 2, KV_Q8_0 = 3, KV_Q4_0 = 4, KV_FP8 = 5 };

struct Plane {
    uint8_t* data;
    int heads;
    int dim;
    int row_bytes;
    int block_len;
};

__device__ __forceinline__ uint8_t* kv_row(const Plane& p, uint32_t block, int head, int row) {
    return p.data + ((size_t(block) * p.heads + head) * p.block_len + row) * p.row_bytes;
}

// Two numbers of FP8 as f16; no number stays none, which `two_halves` does not see to everywhere.
__device__ __forceinline__ uint32_t two_kept(uint32_t word) {
    uint32_t v = two_halves(word);
#if __CUDA_ARCH__ < 890
    v |= __vcmpeq2(__byte_perm(word, 0, 0x1404) & 0x7f007f00u, 0x7f007f00u);
#endif
    return v;
}

// Number `i` of a row.
template <int TYPE>
__device__ __forceinline__ float kv_number(const uint8_t* row, int i) {
    switch (TYPE) {
        case KV_F32: return reinterpret_cast<const float*>(row)[i];
        case KV_F16: return __half2float(reinterpret_cast<const __half*>(row)[i]);
        case KV_BF16: return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(row)[i]);
        case KV_Q8_0: {
            const uint8_t* block = row + i / 32 * 34;
            float d = __half2float(*reinterpret_cast<const __half*>(block));
            return d * float(reinterpret_cast<const int8_t*>(block + 2)[i % 32]);
        }
        case KV_FP8: return __half2float(__ushort_as_half(uint16_t(two_kept(row[i]))));
        default: {
            const uint8_t* block = row + i / 32 * 18;
            float d = __half2float(*reinterpret_cast<const __half*>(block));
            int byte = block[2 + i % 16];
            return d * float((i % 32 < 16 ? byte & 15 : byte >> 4) - 8);
        }
    }
}
