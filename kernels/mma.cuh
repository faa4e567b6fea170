// The tensor core's product of small matrices, D = D + A B, by the 32 lanes of a warp together.
//
//   multiply_add<__half>          A 16 x 16, B 16 x 8, of float16
//   multiply_add<__nv_bfloat16>   A 16 x 16, B 16 x 8, of bfloat16; sm_80 and later only
//   multiply_add<float>           A 16 x 8,  B 8 x 8,  of float32 rounded to TF32; sm_80 and later
//
// D is 16 x 8, float32. A matrix is spread over the lanes in registers of 32 bits ("words", two
// numbers of a half type or one of TF32). With group = lane / 4, place = lane % 4, and W the words
// of a row of A or of a column of B (8 in each of the three):
//
//   a[0] = A row group,     word place          b[0] = B column group, word place
//   a[1] = A row group + 8, word place          b[1] = B column group, word place + 4
//   a[2] = A row group,     word place + 4
//   a[3] = A row group + 8, word place + 4
//   d[0], d[1] = D row group,     columns 2 place, 2 place + 1
//   d[2], d[3] = D row group + 8, columns 2 place, 2 place + 1
//
// (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type" and those for
// mma.m16n8k8.)
//
// There is one instruction behind each, in inline PTX, and the same in plain C++, where the lanes
// lay their words into shared memory and each reads by the table above what its four sums need.
// GPUGRAD_PLAIN_MMA chooses the plain one; a compiler other than NVRTC or nvcc always does.

#ifndef GPUGRAD_MMA_CUH
#define GPUGRAD_MMA_CUH

#include "common.cuh"

#ifndef __CUDACC__
#define GPUGRAD_PLAIN_MMA
#endif

// The compute capability that the choice of instructions goes by, times 10.
#ifndef GPUGRAD_MMA_ARCH
#ifdef __CUDA_ARCH__
#define GPUGRAD_MMA_ARCH __CUDA_ARCH__
#else
#define GPUGRAD_MMA_ARCH 800
#endif
#endif

// Threads of the largest block that the plain product may run in.
#ifndef GPUGRAD_MMA_THREADS
#define GPUGRAD_MMA_THREADS 256
#endif

// x rounded to the nearest number with 10 bits of mantissa, ties away from zero: a TF32 number.
__device__ inline float round_to_tf32(float x) {
#ifdef GPUGRAD_PLAIN_MMA
    const u32 bits = __float_as_uint(x);
    if ((bits & 0x7F800000u) == 0x7F800000u) return x;
    return __uint_as_float((bits + 0x1000u) & 0xFFFFE000u);
#elif GPUGRAD_MMA_ARCH >= 800
    u32 bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
#else
    return x;
#endif
}

#ifdef GPUGRAD_PLAIN_MMA

// Number i of a word.
template <class T>
__device__ inline float number_of(u32 word, int i) {
    return widen(reinterpret_cast<const T*>(&word)[i]);
}

// The instruction with WORDS words in a row of A: 8 as above; 4 for m16n8k8 of half types, of which
// a lane has a[0], a[1] and b[0] alone.
template <class T, int WORDS>
__device__ inline void plain_mma(float (&d)[4], const u32* a, const u32* b) {
    const int numbers = 4 / sizeof(T);
    __shared__ u32 left[WORDS / 2][GPUGRAD_MMA_THREADS];
    __shared__ u32 right[WORDS / 4][GPUGRAD_MMA_THREADS];
    const int thread = threadIdx.x, warp = thread - thread % 32, lane = thread % 32;
    for (int r = 0; r < WORDS / 2; ++r) left[r][thread] = a[r];
    for (int r = 0; r < WORDS / 4; ++r) right[r][thread] = b[r];
    __syncwarp();
    for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (int word = 0; word < WORDS; ++word) {
            const u32 x = left[word / 4 * 2 + row / 8][warp + row % 8 * 4 + word % 4];
            const u32 y = right[word / 4][warp + column * 4 + word % 4];
            for (int k = 0; k < numbers; ++k) d[i] += number_of<T>(x, k) * number_of<T>(y, k);
        }
    }
    __syncwarp();
}

__device__ inline void mma_m16n8k16(float (&d)[4], const u32* a, const u32* b, __half) {
    plain_mma<__half, 8>(d, a, b);
}

__device__ inline void mma_m16n8k8(float (&d)[4], const u32* a, const u32* b, __half) {
    plain_mma<__half, 4>(d, a, b);
}

__device__ inline void mma_m16n8k16(float (&d)[4], const u32* a, const u32* b, __nv_bfloat16) {
    plain_mma<__nv_bfloat16, 8>(d, a, b);
}

__device__ inline void mma_m16n8k8(float (&d)[4], const u32* a, const u32* b, float) {
    plain_mma<float, 8>(d, a, b);
}

#else

#define GPUGRAD_MMA_FOUR_WORDS(NAME)                                                         \
    asm(NAME " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"              \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                     \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

__device__ inline void mma_m16n8k8(float (&d)[4], const u32* a, const u32* b, __half) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32"
        " {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

#if GPUGRAD_MMA_ARCH >= 800

__device__ inline void mma_m16n8k16(float (&d)[4], const u32* a, const u32* b, __half) {
    GPUGRAD_MMA_FOUR_WORDS("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
}

__device__ inline void mma_m16n8k16(float (&d)[4], const u32* a, const u32* b, __nv_bfloat16) {
    GPUGRAD_MMA_FOUR_WORDS("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32");
}

__device__ inline void mma_m16n8k8(float (&d)[4], const u32* a, const u32* b, float) {
    GPUGRAD_MMA_FOUR_WORDS("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32");
}

#endif

#endif

// D += A B. Every lane of the warp must come here together.
template <class T>
__device__ inline void multiply_add(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]);

template <>
__device__ inline void multiply_add<__half>(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#if GPUGRAD_MMA_ARCH >= 800
    mma_m16n8k16(d, a, b, __half());
#else
    mma_m16n8k8(d, a, b, __half());  // the first 8 columns of A, then the last 8
    mma_m16n8k8(d, a + 2, b + 1, __half());
#endif
}

#if GPUGRAD_MMA_ARCH >= 800

template <>
__device__ inline void multiply_add<__nv_bfloat16>(float (&d)[4], const u32 (&a)[4],
                                                   const u32 (&b)[2]) {
    mma_m16n8k16(d, a, b, __nv_bfloat16());
}

template <>
__device__ inline void multiply_add<float>(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    mma_m16n8k8(d, a, b, 0.f);
}

#endif

#endif
