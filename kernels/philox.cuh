// Philox4x64-10: four random 64-bit words as a function of a 128-bit key and a 256-bit counter.
//
//   one round:  (c0, c1, c2, c3) -> (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0))
//   ten rounds; between them (k0, k1) += (W0, W1)
//
// Block i of a draw with counter c is Philox of c + 1 + i: numpy.random.Philox(key=, counter=c)
// gives the same words in the same order. Python body: gpugrad/backend/philox.py, random_words.
//
// J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2,
// 3", SC 2011.

#ifndef GPUGRAD_PHILOX_CUH
#define GPUGRAD_PHILOX_CUH

#include "common.cuh"

struct Draw {
    u64 key0, key1;
    u64 counter0, counter1, counter2, counter3;  // lowest word first
};

struct Words {
    u64 word[4];
};

__device__ inline Words philox4x64(u64 k0, u64 k1, u64 c0, u64 c1, u64 c2, u64 c3) {
    const u64 m0 = 0xD2E7470EE14C6C93ull, m1 = 0xCA5A826395121157ull;
    const u64 w0 = 0x9E3779B97F4A7C15ull, w1 = 0xBB67AE8584CAA73Bull;
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const u64 high0 = __umul64hi(m0, c0), low0 = m0 * c0;
        const u64 high1 = __umul64hi(m1, c2), low1 = m1 * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += w0;
        k1 += w1;
    }
    return Words{{c0, c1, c2, c3}};
}

// counter + n, n < 2^64
__device__ inline Draw advanced(Draw draw, u64 n) {
    draw.counter0 += n;
    if (draw.counter0 < n && ++draw.counter1 == 0 && ++draw.counter2 == 0) ++draw.counter3;
    return draw;
}

// Block i of a draw.
__device__ inline Words random_block(Draw draw, u64 i) {
    draw = advanced(advanced(draw, i), 1);
    return philox4x64(draw.key0, draw.key1, draw.counter0, draw.counter1, draw.counter2,
                      draw.counter3);
}

// Value k of a block as 32 bits, k < 8: the low half of a word before its high half.
__device__ inline u32 half_of(const Words& words, int k) {
    return static_cast<u32>(words.word[k / 2] >> (32 * (k % 2)));
}

// Uniform k of a block in [0, 1): float has 8 of 24 bits in a block, double 4 of 53 bits.
__device__ inline void uniform_of(const Words& words, int k, float& u) {
    u = static_cast<float>(half_of(words, k) >> 8) * 5.9604644775390625e-8f;
}

__device__ inline void uniform_of(const Words& words, int k, double& u) {
    u = static_cast<double>(words.word[k] >> 11) * 1.1102230246251565404e-16;
}

#endif
