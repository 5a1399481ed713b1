// Quantized weights as operands of integer tensor cores: 16 rows by 256 numbers along k, copied to shared memory as
// they lie (layouts.cuh). By ldmatrix lane l then has the (l % 4)th word of a group of rows l / 4 and that + 8, which
// is how mma.sync m16n8k32 wants them: low halves of the bytes are its first 16 numbers. Scales are unpacked once
// for each group, by lanes 2 r and 2 r + 1 for row r, and shared through a table of floats.
#pragma once
#include "layouts.cuh"
#include "mma.cuh"
#include "ring.cuh"

constexpr int SPAN = 256;  // numbers along k of a step

// Sums of integers come on top of 1.5 * 2^23: as floats, the same bits are that number and the sum.
constexpr int ON_TOP = 0x4b400000;
constexpr float TOP = 12582912.0f;

// c [16, 8] = a [16, 32] b [32, 8].
__device__ __forceinline__ void multiply_bytes(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(ON_TOP));
}

// c [16, 8] = a [16, 16] b [16, 8].
__device__ __forceinline__ void multiply_bytes(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t b) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a0), "r"(a1), "r"(b), "r"(ON_TOP));
}

// c [16, 8] = a [16, 16] b [16, 8] of bf16, where both halves of a along k are the same.
__device__ __forceinline__ void multiply_twice(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%4,%5}, {%6,%7}, {%8,%8,%8,%8};"
        : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
        : "r"(a0), "r"(a1), "r"(b0), "r"(b1), "f"(0.0f));
}

__device__ __forceinline__ uint32_t shared4(uint32_t from) {
    uint32_t v;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(from) : "memory");
    return v;
}

__device__ __forceinline__ uint2 shared8(uint32_t from) {
    uint2 v;
    asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(from) : "memory");
    return v;
}

__device__ __forceinline__ float4 shared_floats(uint32_t from) {
    uint4 v = shared16(from);
    return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w));
}

__device__ __forceinline__ void store_shared16(uint32_t to, float a, float b, float c, float d) {
    asm volatile("st.shared.v4.f32 [%0], {%1,%2,%3,%4};" ::"r"(to), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
}

__device__ __forceinline__ void store_shared8(uint32_t to, uint32_t a, uint32_t b) {
    asm volatile("st.shared.v2.u32 [%0], {%1,%2};" ::"r"(to), "r"(a), "r"(b) : "memory");
}

// 4 bytes in the background.
__device__ __forceinline__ void copy4(uint32_t to, const void* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from));
}

// 16 rows of a plane of which a row has CHUNKS times 16 bytes a step. In shared memory chunks are swizzled, so that
// those of one number of eight rows lie in different banks.
template <int CHUNKS>
struct Strip {
    static constexpr int LANES = 16 * CHUNKS, COPIES = (LANES + WARP - 1) / WARP, BYTES = LANES * 16;
    uint32_t next[COPIES];  // 16 bytes before those that the lane copies next

    __device__ __forceinline__ static int row(int i) { return (threadIdx.x % WARP + WARP * i) / CHUNKS % 16; }

    // Byte offset of a chunk.
    __device__ __forceinline__ static uint32_t place(int row, int chunk) {
        return row * CHUNKS * 16 + (CHUNKS == 1 ? 0 : (chunk ^ row / (8 / CHUNKS) % CHUNKS) << 4);
    }

    // `numbers`: of the rows.
    template <class Row>
    __device__ __forceinline__ void to_rows(Row number, int steps, int step) {
#pragma unroll
        for (int i = 0; i < COPIES; i++) next[i] = (number(row(i)) * steps + step) * CHUNKS + threadIdx.x % CHUNKS;
    }

    // `lower`, `upper`: planes of the first and of the last eight rows.
    __device__ __forceinline__ void send(uint32_t to, const uint8_t* lower, const uint8_t* upper) {
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const uint8_t* plane = (COPIES > 1 ? i < COPIES / 2 : row(i) < 8) ? lower : upper;
            if (LANES >= WARP || threadIdx.x % WARP < LANES)
                copy16(to + place(row(i), threadIdx.x % CHUNKS), plane + size_t(next[i]) * 16, true);
            next[i] += CHUNKS;
        }
    }
};

template <>
struct Strip<0> {
    static constexpr int BYTES = 0;
    template <class Row>
    __device__ __forceinline__ void to_rows(Row, int, int) {}
    __device__ __forceinline__ void send(uint32_t, const uint8_t*, const uint8_t*) {}
};

// What layouts have besides 16 bytes of `q` a group and 16 bytes of scales a step:
// CHUNKS: 16 bytes of `h` a row and step. SCALES: a row and step. MIN: minima, whose integers lie in a table besides.
// HALVES: scales are `d`, f16. D4: a `d` a row and step. `scales` unpacks those of row lane / 2 (of them the lane % 2th half) to `table`; `at`
// says where group g's is. `operands`: of groups 2 p and 2 p + 1, `q` the words of rows l / 4 and that + 8 of the
// first and of the second, `h` where those of 16 rows lie.
template <class L>
struct Bytes;

struct OneScale {
    static constexpr int SCALES = 8;
    static constexpr bool MIN = false, D4 = false, HALVES = true;
    __device__ static constexpr uint32_t place(int row, int half) { return row * 32 + ((half ^ row / 4 % 2) << 4); }
    __device__ static constexpr int at(int g) { return g; }

    // f16 factors, of groups one by one.
    __device__ __forceinline__ static void plain(uint32_t s, uint32_t table, float by) {
        int lane = threadIdx.x % WARP;
        uint2 v = shared8(s + lane * 8);
        float2 a = __half22float2(reinterpret_cast<__half2&>(v.x)), b = __half22float2(reinterpret_cast<__half2&>(v.y));
        store_shared16(table + place(lane / 2, lane % 2), a.x * by, a.y * by, b.x * by, b.y * by);
    }
};

template <>
struct Bytes<Q4_0> : OneScale {
    static constexpr int CHUNKS = 0;
    __device__ __forceinline__ static void scales(uint32_t s, uint32_t, uint32_t table, uint32_t, int) {
        plain(s, table, 1.0f / 16.0f);
    }
    // 16 times the levels less 8.
    __device__ __forceinline__ static void operands(const uint32_t (&q)[4], uint32_t, int, uint32_t (&a)[2][4]) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[i / 2][i % 2] = ((q[i] << 4) & 0xf0f0f0f0u) ^ 0x80808080u;
            a[i / 2][i % 2 + 2] = (q[i] & 0xf0f0f0f0u) ^ 0x80808080u;
        }
    }
};

template <>
struct Bytes<Q8_0> : OneScale {
    static constexpr int CHUNKS = 8;
    __device__ __forceinline__ static void scales(uint32_t s, uint32_t, uint32_t table, uint32_t, int) {
        plain(s, table, 1.0f);
    }
    __device__ __forceinline__ static void operands(const uint32_t (&q)[4], uint32_t h, int p, uint32_t (&a)[2][4]) {
        int lane = threadIdx.x % WARP;
        uint32_t upper[4];
        load_matrices(upper, h + (Strip<8>::place(lane % 16, lane / 16) ^ (p << 5)));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[i / 2][i % 2] = q[i];
            a[i / 2][i % 2 + 2] = upper[i];
        }
    }
};

// Scales and minima of superblocks, both as integers of 6 bits; groups j and j + 4 go together, in halves of a word.
struct SixBits : OneScale {
    static constexpr bool MIN = true, HALVES = false;
    __device__ static constexpr int at(int g) { return g % 4 * 2 + g / 4; }

    // Minima: the jth word of a row holds those of groups j and j + 4 as bf16.
    __device__ __forceinline__ static void scales(uint32_t s, uint32_t, uint32_t table, uint32_t mins, int) {
        int lane = threadIdx.x % WARP, half = lane % 2;
        uint4 v = shared16(s + lane / 2 * 16);
        float d = __low2float(reinterpret_cast<__half2&>(v.x));
        uint32_t y = v.y >> 8 * half, z = v.z >> 8 * half, w = v.w >> 8 * half;
        uint32_t s0 = (y & 0x000f000fu) | ((w << 4) & 0x00300030u), s1 = (y >> 4 & 0x000f000fu) | (w & 0x00300030u);
        store_shared16(table + place(lane / 2, half), d * float(uint16_t(s0)), d * float(s0 >> 16), d * float(uint16_t(s1)),
                       d * float(s1 >> 16));
        uint32_t m0 = (z & 0x000f000fu) | ((w << 2) & 0x00300030u), m1 = (z >> 4 & 0x000f000fu) | (w >> 2 & 0x00300030u);
        uint32_t off = 0x43004300u;  // 128, of which the lowest 7 bits are units
        m0 |= off, m1 |= off;
        __nv_bfloat162 f0 = __hsub2(reinterpret_cast<__nv_bfloat162&>(m0), reinterpret_cast<__nv_bfloat162&>(off));
        __nv_bfloat162 f1 = __hsub2(reinterpret_cast<__nv_bfloat162&>(m1), reinterpret_cast<__nv_bfloat162&>(off));
        store_shared8(mins + lane * 8, reinterpret_cast<uint32_t&>(f0), reinterpret_cast<uint32_t&>(f1));
    }

    // The factor of a row's minima.
    __device__ __forceinline__ static float least(uint32_t s, int row) {
        uint32_t v = shared4(s + row * 16);
        return __high2float(reinterpret_cast<__half2&>(v));
    }
};

template <>
struct Bytes<Q4_K> : SixBits {
    static constexpr int CHUNKS = 0;
    __device__ __forceinline__ static void operands(const uint32_t (&q)[4], uint32_t, int, uint32_t (&a)[2][4]) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[i / 2][i % 2] = q[i] & 0x0f0f0f0fu;
            a[i / 2][i % 2 + 2] = q[i] >> 4 & 0x0f0f0f0fu;
        }
    }
};

template <>
struct Bytes<Q5_K> : SixBits {
    static constexpr int CHUNKS = 2;
    // Four fifth bits spread to the bytes of a word, as in layouts.cuh.
    __device__ __forceinline__ static uint32_t fifth(uint32_t bits) { return (bits & 15) * 0x02040810u & 0x10101010u; }

    __device__ __forceinline__ static void operands(const uint32_t (&q)[4], uint32_t h, int p, uint32_t (&a)[2][4]) {
        int lane = threadIdx.x % WARP, t = lane % 4;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            uint2 bits = shared8(h + Strip<2>::place(lane / 4 + 8 * r, p / 2) + p % 2 * 8);
            uint32_t both[2] = {bits.x >> 4 * t, bits.y >> 4 * t};
#pragma unroll
            for (int e = 0; e < 2; e++) {
                a[e][r] = (q[2 * e + r] & 0x0f0f0f0fu) | fifth(both[e]);
                a[e][r + 2] = (q[2 * e + r] >> 4 & 0x0f0f0f0fu) | fifth(both[e] >> 16);
            }
        }
    }
};

template <>
struct Bytes<Q6_K> {
    static constexpr int CHUNKS = 4, SCALES = 16;
    static constexpr bool MIN = false, D4 = true, HALVES = false;
    __device__ static constexpr uint32_t place(int row, int chunk) { return row * 64 + ((chunk ^ row / 2 % 4) << 4); }

    // `odd`: whether d is the upper half of the word that was copied.
    __device__ __forceinline__ static void scales(uint32_t s, uint32_t d4, uint32_t table, uint32_t, int odd) {
        int lane = threadIdx.x % WARP, row = lane / 2;
        uint2 v = shared8(s + lane * 8);
        float d = half_bits(uint16_t(shared4(d4 + lane * 4) >> 16 * odd)) * 0.25f;
        auto of = [&](uint32_t word, int i) { return d * float(int8_t(word >> 8 * i)); };
        store_shared16(table + place(row, lane % 2 * 2), of(v.x, 0), of(v.x, 1), of(v.x, 2), of(v.x, 3));
        store_shared16(table + place(row, lane % 2 * 2 + 1), of(v.y, 0), of(v.y, 1), of(v.y, 2), of(v.y, 3));
    }

    // 4 times the levels less 32. A lane's upper bits begin at bit 0 of the first or second word of a group, or at 2.
    __device__ __forceinline__ static void operands(const uint32_t (&q)[4], uint32_t h, int p, uint32_t (&a)[2][4]) {
        int lane = threadIdx.x % WARP, t = lane % 4;
#pragma unroll
        for (int r = 0; r < 2; r++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                uint32_t at = h + Strip<4>::place(lane / 4 + 8 * r, p) + e * 8 + t % 2 * 4;
                uint32_t upper = (shared4(at) >> t / 2 * 2) ^ 0x22222222u, v = q[2 * e + r];
                a[e][r] = ((v << 2) & 0x3c3c3c3cu) | ((upper << 6) & 0xc0c0c0c0u);
                a[e][r + 2] = ((v >> 2) & 0x3c3c3c3cu) | ((upper << 2) & 0xc0c0c0c0u);
            }
    }
};

// Where the parts of a step lie in shared memory.
template <class L>
struct Slots {
    using B = Bytes<L>;
    static constexpr int S = 16 * 128, H = S + 256, D = H + Strip<B::CHUNKS>::BYTES, SLOT = D + (B::D4 ? 128 : 0);
    static constexpr int MINS = B::SCALES * 64, TABLE = MINS + (B::MIN ? 256 : 0);
    Strip<8> q;
    Strip<B::CHUNKS> h;
    Strip<1> s;
    uint32_t d;

    // `number`: of each of the 16 rows.
    template <class Row>
    __device__ __forceinline__ void to_rows(Row number, int steps, int step) {
        q.to_rows(number, steps, step);
        h.to_rows(number, steps, step);
        s.to_rows(number, steps, step);
        d = number(threadIdx.x % WARP / 2) * steps + step;
    }

    // Copies a step, and moves on to the next.
    __device__ __forceinline__ void send(uint32_t to, const Matrix& lower, const Matrix& upper) {
        q.send(to, lower.q, upper.q);
        s.send(to + S, B::HALVES ? lower.d : lower.s, B::HALVES ? upper.d : upper.s);
        h.send(to + H, lower.h, upper.h);
        if (B::D4) {
            const uint8_t* plane = threadIdx.x % WARP < 16 ? lower.d : upper.d;
            copy4(to + D + threadIdx.x % WARP * 4, plane + size_t(d++ / 2) * 4);
        }
    }
};
