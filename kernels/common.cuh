// What all kernels share: index types, the type that each storage type is computed in, loads of
// four values at a time.
//
// A kernel is a template over its storage types. It computes in Wide<T>::type: double for double,
// float for everything else, half types included.

#ifndef GPUGRAD_COMMON_CUH
#define GPUGRAD_COMMON_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

template <class T>
struct Wide {
    typedef float type;
};

template <>
struct Wide<double> {
    typedef double type;
};

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

// narrow<T>(x): x rounded to nearest, ties to even.
template <class T>
struct Narrow {
    template <class X>
    __device__ static T of(X x) { return static_cast<T>(x); }
};

template <>
struct Narrow<__half> {
    template <class X>
    __device__ static __half of(X x) { return __float2half(static_cast<float>(x)); }
};

template <>
struct Narrow<__nv_bfloat16> {
    template <class X>
    __device__ static __nv_bfloat16 of(X x) { return __float2bfloat16(static_cast<float>(x)); }
};

template <class T, class X>
__device__ inline T narrow(X x) { return Narrow<T>::of(x); }

// Four neighbours, moved by one access of 8 or 16 bytes (two of 16 for double).
template <class T>
struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) Four {
    T value[4];
};

// Grid-stride loop over 64-bit indices:
//   for (i64 i = first_index(); i < n; i += index_stride())
__device__ inline i64 first_index() {
    return static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ inline i64 index_stride() { return static_cast<i64>(gridDim.x) * blockDim.x; }

#endif
