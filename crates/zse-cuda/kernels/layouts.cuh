// Weight matrices as they lie on the device. A quantized row is cut into groups of 32 weights; each
// field of a group has a plane of its own, rows behind one another, so that neighbouring lanes read
// neighbouring 16 bytes. A layout says how the raw bytes of a group are loaded (`Raw`, loads only,
// so that many can be in flight) and what they mean:
//     weight[i] = (q[i] - ZERO) * w[i / 16] + m[i / 16]
// with q packed four to an int, in order. NIBBLES: those are the 4 bits of `Raw::q`. Planes by layout (bytes of a group; `super`: of 8 groups):
//     q4_0: q 16 | d 2 (f16)                       q8_0: q 16 | h 16 | d 2 (f16)
//     q4_k: q 16 | s 16 / super                    q5_k: q 16 | h 4 | s 16 / super
//     q6_k: q 16 | h 8 | s 2 | d 2 / super (f16)   any:  q 16 | h 16 | s 16 (w0 w1 m0 m1 as f32)
// A byte of the 4-bit planes holds weight i low and weight i + 16 high. `s` of q4_k and q5_k: d and
// dmin (f16), then for group j the low nibbles of the scales at bit 4j of word 1, of the minima in
// word 2, and the upper bit pairs of both in word 3.
#pragma once
#include "common.cuh"

struct Matrix {
    const uint8_t* q;
    const uint8_t* h;
    const uint8_t* s;
    const uint8_t* d;
    int rows;
    int cols;
};

struct Group {
    int q[8];
    float w[2];
    float m[2];
};

__device__ __forceinline__ float half_bits(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }

__device__ __forceinline__ void nibbles(const uint4& v, int* q) {
    q[0] = v.x & 0x0f0f0f0f;
    q[1] = v.y & 0x0f0f0f0f;
    q[2] = v.z & 0x0f0f0f0f;
    q[3] = v.w & 0x0f0f0f0f;
    q[4] = (v.x >> 4) & 0x0f0f0f0f;
    q[5] = (v.y >> 4) & 0x0f0f0f0f;
    q[6] = (v.z >> 4) & 0x0f0f0f0f;
    q[7] = (v.w >> 4) & 0x0f0f0f0f;
}

// Scale and minimum of group `j` of a superblock of Q4_K or Q5_K.
__device__ __forceinline__ void scale_min(const uint4& s, int j, Group& g) {
    __half2 d = *reinterpret_cast<const __half2*>(&s.x);
    int at = 4 * j;
    int scale = ((s.y >> at) & 15) | (((s.w >> at) & 3) << 4);
    int min = ((s.z >> at) & 15) | (((s.w >> at) & 12) << 2);
    g.w[0] = g.w[1] = __fmul_rn(__low2float(d), float(scale));
    g.m[0] = g.m[1] = -__fmul_rn(__high2float(d), float(min));
}

struct Q4_0 {
    static constexpr int ZERO = 8;
    static constexpr bool SPLIT = false, MIN = false, SIGNED = false, NIBBLES = true;
    struct Raw {
        uint4 q;
        uint16_t d;
    };
    __device__ __forceinline__ static Raw load(const Matrix& m, size_t g) {
        return {stream16(m.q + 16 * g), *(reinterpret_cast<const uint16_t*>(m.d) + g)};
    }
    __device__ __forceinline__ static void group(const Raw& r, size_t, Group& g) {
        nibbles(r.q, g.q);
        g.w[0] = g.w[1] = half_bits(r.d);
    }
};

struct Q8_0 {
    static constexpr int ZERO = 0;
    static constexpr bool SPLIT = false, MIN = false, SIGNED = true, NIBBLES = false;
    struct Raw {
        uint4 lo, hi;
        uint16_t d;
    };
    __device__ __forceinline__ static Raw load(const Matrix& m, size_t g) {
        return {stream16(m.q + 16 * g), stream16(m.h + 16 * g),
                *(reinterpret_cast<const uint16_t*>(m.d) + g)};
    }
    __device__ __forceinline__ static void group(const Raw& r, size_t, Group& g) {
        *reinterpret_cast<uint4*>(g.q) = r.lo;
        *reinterpret_cast<uint4*>(g.q + 4) = r.hi;
        g.w[0] = g.w[1] = half_bits(r.d);
    }
};

struct Q4_K {
    static constexpr int ZERO = 0;
    static constexpr bool SPLIT = false, MIN = true, SIGNED = false, NIBBLES = true;
    struct Raw {
        uint4 q, s;
    };
    __device__ __forceinline__ static Raw load(const Matrix& m, size_t g) {
        return {stream16(m.q + 16 * g), *(reinterpret_cast<const uint4*>(m.s) + g / 8)};
    }
    __device__ __forceinline__ static void group(const Raw& r, size_t at, Group& g) {
        nibbles(r.q, g.q);
        scale_min(r.s, at % 8, g);
    }
};

struct Q5_K {
    static constexpr int ZERO = 0;
    static constexpr bool SPLIT = false, MIN = true, SIGNED = false, NIBBLES = false;
    struct Raw {
        uint4 q, s;
        uint32_t h;
    };
    __device__ __forceinline__ static Raw load(const Matrix& m, size_t g) {
        return {stream16(m.q + 16 * g), *(reinterpret_cast<const uint4*>(m.s) + g / 8),
                *(reinterpret_cast<const uint32_t*>(m.h) + g)};
    }
    __device__ __forceinline__ static void group(const Raw& r, size_t at, Group& g) {
        nibbles(r.q, g.q);
        // Bit i of `h` is the fifth bit of weight i: four of them spread to four bytes.
#pragma unroll
        for (int i = 0; i < 8; i++) {
            uint32_t bits = (r.h >> (4 * i)) & 15;
            g.q[i] |= ((bits * 0x00204081u) & 0x01010101u) << 4;
        }
        scale_min(r.s, at % 8, g);
    }
};

struct Q6_K {
    static constexpr int ZERO = 32;
    static constexpr bool SPLIT = true, MIN = false, SIGNED = false, NIBBLES = false;
    struct Raw {
        uint4 q;
        uint2 h;
        uint16_t s, d;
    };
    __device__ __forceinline__ static Raw load(const Matrix& m, size_t g) {
        return {stream16(m.q + 16 * g), stream8(m.h + 8 * g),
                *(reinterpret_cast<const uint16_t*>(m.s) + g),
                *(reinterpret_cast<const uint16_t*>(m.d) + g / 8)};
    }
    // Byte i of `h` holds the upper bit pairs of weights i, i + 8, i + 16 and i + 24, from bit 0 on.
    __device__ __forceinline__ static void group(const Raw& r, size_t, Group& g) {
        nibbles(r.q, g.q);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            g.q[2 * i] |= ((r.h.x >> (2 * i)) & 0x03030303u) << 4;
            g.q[2 * i + 1] |= ((r.h.y >> (2 * i)) & 0x03030303u) << 4;
        }
        float d = half_bits(r.d);
        g.w[0] = __fmul_rn(d, float(int8_t(r.s & 0xff)));
        g.w[1] = __fmul_rn(d, float(int8_t(r.s >> 8)));
    }
};

// Every other block format, unpacked when it was loaded.
struct Any {
    static constexpr int ZERO = 0;
    static constexpr bool SPLIT = true, MIN = true, SIGNED = true, NIBBLES = false;
    struct Raw {
        uint4 lo, hi, s;
    };
    __device__ __forceinline__ static Raw load(const Matrix& m, size_t g) {
        return {stream16(m.q + 16 * g), stream16(m.h + 16 * g), stream16(m.s + 16 * g)};
    }
    __device__ __forceinline__ static void group(const Raw& r, size_t, Group& g) {
        *reinterpret_cast<uint4*>(g.q) = r.lo;
        *reinterpret_cast<uint4*>(g.q + 4) = r.hi;
        g.w[0] = __uint_as_float(r.s.x);
        g.w[1] = __uint_as_float(r.s.y);
        g.m[0] = __uint_as_float(r.s.z);
        g.m[1] = __uint_as_float(r.s.w);
    }
};

// Weight `i` of a group, as a float before scaling: (q - ZERO). `i` is known to the compiler.
template <class L>
__device__ __forceinline__ float level(const Group& g, int i) {
    // Byte i on top of 2^23 is 2^23 + byte; signed bytes are shifted to unsigned ones first.
    uint32_t word = L::SIGNED ? uint32_t(g.q[i / 4]) ^ 0x80808080u : uint32_t(g.q[i / 4]);
    float f = __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440 | (i % 4)));
    return f - (8388608.0f + (L::SIGNED ? 128.0f : float(L::ZERO)));
}

// Weight `i` with the bits that zse_quant::decode gives.
template <class L>
__device__ __forceinline__ float weight(const Group& g, int i) {
    float v = __fmul_rn(level<L>(g, i), g.w[i / 16]);
    return L::MIN ? __fadd_rn(v, g.m[i / 16]) : v;
}

// Defines NAME_<layout> for every quantized layout through MAKE(layout type, suffix).
#define FOR_QUANTIZED(MAKE) \
    MAKE(Q4_0, q4_0) MAKE(Q8_0, q8_0) MAKE(Q4_K, q4_k) MAKE(Q5_K, q5_k) MAKE(Q6_K, q6_k) MAKE(Any, any)
