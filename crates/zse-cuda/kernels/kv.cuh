// Keys and values in blocks: a plane is [blocks, heads, block_len, row], a row one head of one token
// in the cache's type.
#pragma once
#include "common.cuh"

// zse_model::executor::KvType, in its order.
enum KvType { KV_F32 = 0, KV_F16 = 1, KV_BF16 = 2, KV_Q8_0 = 3, KV_Q4_0 = 4 };

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
        default: {
            const uint8_t* block = row + i / 32 * 18;
            float d = __half2float(*reinterpret_cast<const __half*>(block));
            int byte = block[2 + i % 16];
            return d * float((i % 32 < 16 ? byte & 15 : byte >> 4) - 8);
        }
    }
}
