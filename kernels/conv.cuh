// What the convolution kernels share: the sizes of a convolution, and indices of several axes.
//
//   forward           y[n, f, o] = sum over c, k of  w[f, c, k] x[n, c, o s + k d - p]
//   input gradient    x[n, c, i] = sum over f, k, o  with i = o s + k d - p of
//                                                    w[f, c, k] g[n, f, o]
//   weight gradient   w[f, c, k] = sum over n, o of  g[n, f, o] x[n, c, o s + k d - p]
//
// for each spatial axis, with s = stride, d = dilation, p = padding and x = 0 outside of its range.
// Filters of group i see the channels of group i. All arrays are contiguous:
//
//   x  (images, channels, size...)   w  (filters, channels / groups, window...)
//   y and g  (images, filters, out...)
//
// Python bodies: gpugrad/primitives/conv.py.

#ifndef GPUGRAD_CONV_CUH
#define GPUGRAD_CONV_CUH

#include "common.cuh"

#define FORWARD 0
#define INPUT_GRAD 1
#define WEIGHT_GRAD 2

// The sizes as every convolution kernel takes them, in this order. Three spatial axes always: a
// kernel for DIMS axes reads the first DIMS.
#define GEOMETRY_PARAMETERS                                                              \
    int images, int channels, int filters, int groups, int size0, int size1, int size2,  \
        int out0, int out1, int out2, int window0, int window1, int window2, int stride0, \
        int stride1, int stride2, int padding0, int padding1, int padding2, int dilation0, \
        int dilation1, int dilation2

#define GEOMETRY                                                                           \
    {images, {size0, size1, size2}, {out0, out1, out2}, {window0, window1, window2},       \
     {stride0, stride1, stride2}, {padding0, padding1, padding2},                          \
     {dilation0, dilation1, dilation2}, groups, channels / groups, filters / groups}

struct Geometry {
    int images;
    int size[3], out[3], window[3], stride[3], padding[3], dilation[3];
    int groups, channels, filters;  // channels and filters of one group
};

template <int DIMS>
__device__ inline i64 product(const int* lengths) {
    i64 total = 1;
#pragma unroll
    for (int a = 0; a < DIMS; ++a) total *= lengths[a];
    return total;
}

// The index of each axis for a flat index in C order; what is left over goes before the first axis.
template <int DIMS>
__device__ inline i64 unravel(i64 flat, const int* lengths, int* index) {
#pragma unroll
    for (int a = DIMS - 1; a >= 0; --a) {
        index[a] = static_cast<int>(flat % lengths[a]);
        flat /= lengths[a];
    }
    return flat;
}

// The flat index in C order.
template <int DIMS>
__device__ inline i64 ravel(const int* index, const int* lengths) {
    i64 flat = 0;
#pragma unroll
    for (int a = 0; a < DIMS; ++a) flat = flat * lengths[a] + index[a];
    return flat;
}

// Advances an index of several axes by one, the last axis fastest.
template <int DIMS>
__device__ inline void step(int* index, const int* lengths) {
#pragma unroll
    for (int a = DIMS - 1; a >= 0; --a) {
        if (++index[a] < lengths[a]) return;
        index[a] = 0;
    }
}

#endif
