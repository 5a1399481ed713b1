// The arguments of attention kernels.
#pragma once
#include "kv.cuh"

struct Attention {
    const float* q;          // [n, heads * k_dim]
    float* y;                // [n, heads * v_dim]
    Plane k;
    Plane v;
    const uint32_t* tables;  // blocks of all sequences
    const uint32_t* starts;  // [seqs]: where a sequence's begin in `tables`
    const uint32_t* seq;     // [n]: sequence of a token
    const uint32_t* index;   // [n]: its index in the sequence
    const uint32_t* ends;    // [seqs]: tokens of the sequence, these included
    const uint32_t* spans;   // [seqs + 1]: where the tokens of a sequence begin in the batch
    float* parts;            // [n, heads, splits, v_dim]: unnormalised sums of splits
    float2* weights;         // [n, heads, splits]: their maxima (base 2) and totals
    int heads;
    float scale;
    float softcap;           // 0: none
    int window;              // newest positions that are seen; 0: all
    int causal;
    int split;               // keys of a split
    int n;
};

// The keys that token `t` of sequence `seq` sees: [begin, end).
struct Range {
    int begin;
    int end;
};

__device__ __forceinline__ Range seen(const Attention& a, int t, uint32_t seq) {
    int own = a.index[t];
    return {a.window ? max(own + 1 - a.window, 0) : 0, a.causal ? own + 1 : int(a.ends[seq])};
}
