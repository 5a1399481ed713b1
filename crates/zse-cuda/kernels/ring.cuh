// 16-bit weights on their way to a thread through shared memory, several steps ahead: each thread copies by
// cp.async what it will multiply itself, so that nobody else is waited for, and reads it back when it is there.
#pragma once
#include "mma.cuh"

// This thread's place in the slot of a step for THREADS threads: two rows of FIELDS fields of 16 bytes.
template <int THREADS, int FIELDS>
struct Slot {
    static constexpr int BYTES = 2 * FIELDS * THREADS * 16;
    uint32_t at;

    __device__ __forceinline__ uint32_t field(int i, int row) const {
        return at + ((i * 2 + row) * THREADS + threadIdx.x) * 16;
    }
};

__device__ __forceinline__ uint4 shared16(uint32_t from) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(from)
                 : "memory");
    return v;
}
