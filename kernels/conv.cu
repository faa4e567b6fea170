// Convolution with 1, 2 or 3 spatial axes and its two adjoints, one thread for an element of the
// result: the plain kernel, which small and grouped convolutions use and which the tiled kernel of
// conv_tiled.cu must equal.
//
//   conv_direct<T, DIMS, FORWARD>      y = conv(x, w)
//   conv_direct<T, DIMS, INPUT_GRAD>   x = conv_input_grad(g, w)
//   conv_direct<T, DIMS, WEIGHT_GRAD>  w = conv_weight_grad(g, x)
//
// Formulas and layouts: conv.cuh. Sums are in Wide<T>::type and in C order of what is summed over,
// (c, k), (f, k) and (n, o); the result is rounded once. No atomics: the same bits at every launch.
//
// Arguments, in order:
//   left      const T*   FORWARD: x;  INPUT_GRAD, WEIGHT_GRAD: g
//   right     const T*   FORWARD, INPUT_GRAD: w;  WEIGHT_GRAD: x
//   result    T*         every element is written
//   images, channels, filters, groups   int   channels and filters of all groups together
//   size[3], out[3], window[3], stride[3], padding[3], dilation[3]   int each; the first DIMS of
//                                             three are read
//
// Launch: one dimension, any number of threads.
//
// Python bodies: gpugrad/primitives/conv.py, conv, conv_input_grad, conv_weight_grad.

#include "conv.cuh"

// Where element `tap` of the window at place `at` of the output meets the image; false outside it.
template <int DIMS>
__device__ inline bool meet(const Geometry& of, const int* at, const int* tap, int* index) {
    bool inside = true;
#pragma unroll
    for (int a = 0; a < DIMS; ++a) {
        index[a] = at[a] * of.stride[a] + tap[a] * of.dilation[a] - of.padding[a];
        inside = inside && index[a] >= 0 && index[a] < of.size[a];
    }
    return inside;
}

// The place of the output whose element `tap` meets the image at `index`; false if there is none.
template <int DIMS>
__device__ inline bool place(const Geometry& of, const int* index, const int* tap, int* at) {
    bool found = true;
#pragma unroll
    for (int a = 0; a < DIMS; ++a) {
        const int distance = index[a] + of.padding[a] - tap[a] * of.dilation[a];
        at[a] = distance / of.stride[a];
        found = found && distance >= 0 && distance % of.stride[a] == 0 && at[a] < of.out[a];
    }
    return found;
}

template <int DIMS, class T>
__device__ typename Wide<T>::type forward(const T* x, const T* w, const Geometry& of, i64 i) {
    int at[DIMS], index[DIMS];
    const i64 row = unravel<DIMS>(i, of.out, at);
    const i64 f = row % (of.groups * of.filters), n = row / (of.groups * of.filters);
    const i64 taps = product<DIMS>(of.window), pixels = product<DIMS>(of.size);
    w += f * of.channels * taps;
    x += (n * of.groups + f / of.filters) * of.channels * pixels;
    typename Wide<T>::type sum = 0;
    for (i64 c = 0; c < of.channels; ++c) {
        int tap[DIMS] = {};
        for (i64 k = 0; k < taps; ++k, step<DIMS>(tap, of.window))
            if (meet<DIMS>(of, at, tap, index))
                sum += widen(w[c * taps + k]) * widen(x[c * pixels + ravel<DIMS>(index, of.size)]);
    }
    return sum;
}

template <int DIMS, class T>
__device__ typename Wide<T>::type input_grad(const T* g, const T* w, const Geometry& of, i64 i) {
    int at[DIMS], index[DIMS];
    const i64 row = unravel<DIMS>(i, of.size, index);
    const i64 c = row % (of.groups * of.channels), n = row / (of.groups * of.channels);
    const i64 group = c / of.channels;
    const i64 taps = product<DIMS>(of.window), places = product<DIMS>(of.out);
    w += (group * of.filters * of.channels + c % of.channels) * taps;
    g += (n * of.groups + group) * of.filters * places;
    typename Wide<T>::type sum = 0;
    for (i64 f = 0; f < of.filters; ++f) {
        int tap[DIMS] = {};
        for (i64 k = 0; k < taps; ++k, step<DIMS>(tap, of.window))
            if (place<DIMS>(of, index, tap, at))
                sum += widen(w[f * of.channels * taps + k]) *
                       widen(g[f * places + ravel<DIMS>(at, of.out)]);
    }
    return sum;
}

template <int DIMS, class T>
__device__ typename Wide<T>::type weight_grad(const T* g, const T* x, const Geometry& of, i64 i) {
    int tap[DIMS], index[DIMS];
    const i64 row = unravel<DIMS>(i, of.window, tap);
    const i64 c = row % of.channels, f = row / of.channels;
    const i64 pixels = product<DIMS>(of.size), places = product<DIMS>(of.out);
    g += f * places;
    x += (f / of.filters * of.channels + c) * pixels;
    typename Wide<T>::type sum = 0;
    for (i64 n = 0; n < of.images; ++n) {
        int at[DIMS] = {};
        for (i64 o = 0; o < places; ++o, step<DIMS>(at, of.out))
            if (meet<DIMS>(of, at, tap, index))
                sum += widen(g[n * of.groups * of.filters * places + o]) *
                       widen(x[n * of.groups * of.channels * pixels +
                               ravel<DIMS>(index, of.size)]);
    }
    return sum;
}

template <class T, int DIMS, int KIND>
__global__ void conv_direct(const T* left, const T* right, T* result, GEOMETRY_PARAMETERS) {
    const Geometry of = GEOMETRY;
    i64 n = of.groups;
    if (KIND == FORWARD) n *= of.images * static_cast<i64>(of.filters) * product<DIMS>(of.out);
    if (KIND == INPUT_GRAD) n *= of.images * static_cast<i64>(of.channels) * product<DIMS>(of.size);
    if (KIND == WEIGHT_GRAD)
        n *= of.filters * static_cast<i64>(of.channels) * product<DIMS>(of.window);
    for (i64 i = first_index(); i < n; i += index_stride())
        if (KIND == FORWARD)
            result[i] = narrow<T>(forward<DIMS>(left, right, of, i));
        else if (KIND == INPUT_GRAD)
            result[i] = narrow<T>(input_grad<DIMS>(left, right, of, i));
        else
            result[i] = narrow<T>(weight_grad<DIMS>(left, right, of, i));
}
