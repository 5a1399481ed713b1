// Hopper's warpgroup products m64nNk16: 64 rows of weights from registers or shared memory by N columns of
// activations in shared memory, in the background. There columns and rows have rows of 128 bytes, swizzled by 16-byte chunks, and begin at
// multiples of 1,024 bytes. Lane l of warp i holds rows 16 i + l / 4 and that + 8 of the weights and of the
// sums: of the weights as with mma.sync, of the sums columns 2 (l % 4) and the next of each 8.
#pragma once
#include "common.cuh"

// Columns, or a step of 16 along their rows, as the instruction takes them: 1,024 bytes for each 8, swizzle
// of 128 bytes.
__device__ __forceinline__ uint64_t descriptor(uint32_t at) {
    return uint64_t((at & 0x3ffff) >> 4) | uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}

// Orders what was written to registers before the products that read them.
__device__ __forceinline__ void fence_warpgroup() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void commit_warpgroup() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until all but the last `LEFT` groups are done.
template <int LEFT>
__device__ __forceinline__ void wait_warpgroup() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}

// After a wait for all: the sums may be read.
template <int LEN>
__device__ __forceinline__ void settle(float (&c)[LEN]) {
#pragma unroll
    for (int i = 0; i < LEN; i++) asm volatile("" : "+f"(c[i])::"memory");
}

// c [64, N] += a [64, 16] x [16, N].
template <class T, int N>
struct Warpgroup;

#define SUMS_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define SUMS_16 \
    SUMS_8 ", " \
    "%8, %9, %10, %11, %12, %13, %14, %15"
#define SUMS_32 \
    SUMS_16 ", " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SUMS_64 \
    SUMS_32 ", " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SUMS_128 \
    SUMS_64 ", " \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define SUM_4(i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define SUM_8(i) SUM_4(i), SUM_4(i + 4)
#define SUM_16(i) SUM_8(i), SUM_8(i + 8)
#define SUM_32(i) SUM_16(i), SUM_16(i + 16)
#define SUM_64(i) SUM_32(i), SUM_32(i + 32)
#define SUM_128(i) SUM_64(i), SUM_64(i + 64)

#define WARPGROUP(T, TYPE, N, LEN, A, X)                                                                          \
    template <>                                                                                                   \
    struct Warpgroup<T, N> {                                                                                      \
        __device__ __forceinline__ static void run(float (&c)[LEN], const uint32_t (&a)[4], uint64_t x) {         \
            asm volatile("{ .reg .pred add; setp.ne.b32 add, 1, 0; "                                              \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" SUMS_##LEN "}, {" A \
                         "}, " X ", add, 1, 1, 0; }"                                                              \
                         : SUM_##LEN(0)                                                                           \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(x));                                   \
        }                                                                                                         \
    };
#define WARPGROUPS(N, LEN, A, X)                       \
    WARPGROUP(__nv_bfloat16, "bf16", N, LEN, A, X)     \
    WARPGROUP(__half, "f16", N, LEN, A, X)
WARPGROUPS(16, 8, "%8, %9, %10, %11", "%12")
WARPGROUPS(32, 16, "%16, %17, %18, %19", "%20")
WARPGROUPS(64, 32, "%32, %33, %34, %35", "%36")
WARPGROUPS(128, 64, "%64, %65, %66, %67", "%68")
WARPGROUPS(256, 128, "%128, %129, %130, %131", "%132")

// The same with both in shared memory, 256 columns.
template <class T>
struct SharedWarpgroup;

#define SHARED_WARPGROUP(T, TYPE)                                                                             \
    template <>                                                                                               \
    struct SharedWarpgroup<T> {                                                                               \
        __device__ __forceinline__ static void run(float (&c)[128], uint64_t a, uint64_t x) {                 \
            asm volatile("{ .reg .pred add; setp.ne.b32 add, 1, 0; "                                          \
                         "wgmma.mma_async.sync.aligned.m64n256k16.f32." TYPE "." TYPE " {" SUMS_128 "}, "     \
                         "%128, %129, add, 1, 1, 0, 0; }"                                                     \
                         : SUM_128(0)                                                                         \
                         : "l"(a), "l"(x));                                                                   \
        }                                                                                                     \
    };
SHARED_WARPGROUP(__nv_bfloat16, "bf16")
SHARED_WARPGROUP(__half, "f16")
