// Keys and values of 8 bits (FP8, Q8_0) for attention on tensor cores: a warp copies a slab of 16 rows of a head, which
// lie behind one another in a block, to shared memory as they are, and makes f16 of them there.
#pragma once
#include "kv.cuh"
#include "mma.cuh"

constexpr int SLAB = 16;  // keys at a time

// A type of caches: how rows are kept, and the numbers that tensor cores meet.
template <int TYPE>
struct Cache {
    using Number = __half;
};
template <>
struct Cache<KV_BF16> {
    using Number = __nv_bfloat16;
};

template <int TYPE>
constexpr bool PACKED = TYPE == KV_FP8 || TYPE == KV_Q8_0;

// Bytes of a row of D numbers.
template <int TYPE, int D>
constexpr int ROW_BYTES = TYPE == KV_FP8 ? D : TYPE == KV_Q8_0 ? D / 32 * 34 : 2 * D;

// 16 bytes in the background, of which those from `bytes` on are zeros.
__device__ __forceinline__ void copy_some(uint32_t to, const void* from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(max(0, min(bytes, 16))));
}

// A warp copies the slab of keys from `first` on; zeros from `end` on, because what is masked is multiplied all the same.
template <int TYPE, int D>
__device__ __forceinline__ void copy_packed(const Plane& p, const uint32_t* table, int head, int first, int end,
                                            uint32_t to) {
    constexpr int BYTES = ROW_BYTES<TYPE, D>;
    const uint8_t* from = kv_row(p, table[first / p.block_len], head, first % p.block_len);
    int valid = (end - first) * BYTES;
#pragma unroll
    for (int chunk = threadIdx.x % WARP; chunk < BYTES; chunk += WARP)
        copy_some(to + chunk * 16, from + chunk * 16, valid - chunk * 16);
}

__device__ __forceinline__ uint32_t shared_short(uint32_t at) {
    uint16_t v;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(at));
    return v;
}

// Two signed bytes as f16, times `d`.
__device__ __forceinline__ uint32_t two_scaled(uint32_t bytes, __half2 d) {
    // In f16, 0x6400 | b is 1,024 + b.
    uint32_t shifted = __byte_perm(bytes ^ 0x8080u, 0x64646464u, 0x4140), zero = 0x64806480u;
    __half2 v = __hmul2(__hsub2(reinterpret_cast<__half2&>(shifted), reinterpret_cast<__half2&>(zero)), d);
    return reinterpret_cast<uint32_t&>(v);
}

// A warp makes f16 of a slab that its lanes have copied; `place(row, chunk)` is where 8 numbers of a row go.
template <int TYPE, int D, class Place>
__device__ __forceinline__ void unpack(uint32_t raw, const Place& place) {
    constexpr int CHUNKS = D / 8;
#pragma unroll 4
    for (int e = threadIdx.x % WARP; e < SLAB * CHUNKS; e += WARP) {
        int row = e / CHUNKS, chunk = e % CHUNKS;
        uint32_t v[4];
        if (TYPE == KV_FP8) {
            uint32_t low, high;
            asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(low), "=r"(high) : "r"(raw + row * D + chunk * 8));
            v[0] = two_kept(low);
            v[1] = two_kept(low >> 16);
            v[2] = two_kept(high);
            v[3] = two_kept(high >> 16);
        } else {
            uint32_t block = raw + row * ROW_BYTES<TYPE, D> + chunk / 4 * 34, bytes = block + 2 + chunk % 4 * 8;
            __half2 d = __half2half2(__ushort_as_half(uint16_t(shared_short(block))));
#pragma unroll
            for (int i = 0; i < 4; i++) v[i] = two_scaled(shared_short(bytes + 2 * i), d);
        }
        asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(place(row, chunk)), "r"(v[0]), "r"(v[1]), "r"(v[2]),
                     "r"(v[3])
                     : "memory");
    }
}
