// Fills arrays with the numbers of a draw.
//
//   fill_words:       out[i] = word i % 4 of block i / 4
//   fill_uniform:     out[i] = low + scale * u_i
//   fill_normal:      out[2i], out[2i+1] = mean + std * sqrt(-2 log(1 - u_2i)) (cos, sin)(2 pi u_2i+1)
//   fill_bernoulli:   out[i] = u_i < p[i] ? 1 : (spin ? -1 : 0)
//
// with u_i the 32-bit uniforms of the draw for float, the 64-bit ones for double (see philox.cuh).
//
// Arguments, in order:
//   the arrays, contiguous, n values each; p and out of fill_bernoulli may be one array
//   n        i64     number of values
//   two parameters of the distribution, in the type of computation; spin: int
//   key0, key1, counter0..counter3   u64     the draw, counter lowest word first
//
// Launch: one dimension, any number of threads. A thread computes one Philox block at a time,
// 4 doubles or words, 8 floats.
//
// Python bodies: gpugrad/backend/philox.py, words_, uniform_, normal_, bernoulli_.

#include "common.cuh"
#include "philox.cuh"

#define DRAW_ARGUMENTS \
    u64 key0, u64 key1, u64 counter0, u64 counter1, u64 counter2, u64 counter3
#define DRAW Draw{key0, key1, counter0, counter1, counter2, counter3}

// Two roundings, as the host does it: a fused operation would give other bits.
__device__ inline float scaled(float x, float scale, float offset) {
    return __fadd_rn(__fmul_rn(x, scale), offset);
}

__device__ inline double scaled(double x, double scale, double offset) {
    return __dadd_rn(__dmul_rn(x, scale), offset);
}

__device__ inline void sine_cosine_pi(float x, float& sine, float& cosine) {
    sincospif(x, &sine, &cosine);
}

__device__ inline void sine_cosine_pi(double x, double& sine, double& cosine) {
    sincospi(x, &sine, &cosine);
}

extern "C" __global__ void fill_words(u64* out, i64 n, DRAW_ARGUMENTS) {
    const i64 blocks = (n + 3) / 4;
    for (i64 i = first_index(); i < blocks; i += index_stride()) {
        const Words words = random_block(DRAW, i);
#pragma unroll
        for (int k = 0; k < 4; ++k)
            if (4 * i + k < n) out[4 * i + k] = words.word[k];
    }
}

template <class T>
__global__ void fill_uniform(T* out, i64 n, T low, T scale, DRAW_ARGUMENTS) {
    const int per_block = 32 / sizeof(T);
    const bool plain = low == T(0) && scale == T(1);
    const i64 blocks = (n + per_block - 1) / per_block;
    for (i64 i = first_index(); i < blocks; i += index_stride()) {
        const Words words = random_block(DRAW, i);
#pragma unroll
        for (int k = 0; k < per_block; ++k) {
            T u;
            uniform_of(words, k, u);
            const i64 at = i * per_block + k;
            if (at < n) out[at] = plain ? u : scaled(u, scale, low);
        }
    }
}

template <class T>
__global__ void fill_normal(T* out, i64 n, T mean, T std, DRAW_ARGUMENTS) {
    const int per_block = 32 / sizeof(T);
    const bool plain = mean == T(0) && std == T(1);
    const i64 blocks = (n + per_block - 1) / per_block;
    for (i64 i = first_index(); i < blocks; i += index_stride()) {
        const Words words = random_block(DRAW, i);
#pragma unroll
        for (int k = 0; k < per_block; k += 2) {
            T u, w, sine, cosine;
            uniform_of(words, k, u);
            uniform_of(words, k + 1, w);
            const T radius = sqrt(T(-2) * log(T(1) - u));
            sine_cosine_pi(T(2) * w, sine, cosine);
            const T x = radius * cosine, y = radius * sine;
            const i64 at = i * per_block + k;
            if (at < n) out[at] = plain ? x : scaled(x, std, mean);
            if (at + 1 < n) out[at + 1] = plain ? y : scaled(y, std, mean);
        }
    }
}

template <class P, class Out>
__global__ void fill_bernoulli(const P* p, Out* out, i64 n, int spin, DRAW_ARGUMENTS) {
    typedef typename Wide<P>::type W;
    const int per_block = 32 / sizeof(W);
    const float otherwise = spin ? -1.f : 0.f;
    const i64 blocks = (n + per_block - 1) / per_block;
    for (i64 i = first_index(); i < blocks; i += index_stride()) {
        const Words words = random_block(DRAW, i);
#pragma unroll
        for (int k = 0; k < per_block; ++k) {
            W u;
            uniform_of(words, k, u);
            const i64 at = i * per_block + k;
            if (at < n) out[at] = narrow<Out>(u < widen(p[at]) ? 1.f : otherwise);
        }
    }
}
