// Pooling over windows of up to three axes, and reading and adding at the elements it took.
//
//   max_pool        y[l, o] = the largest of x[l, o s + k] over the window's k; indices[l, o] =
//                   where in line l it was: the first of equal ones in C order of k, a nan before
//                   all
//   gather          y[l, o] = x[l, indices[l, o]]
//   scatter_windows x[l, i] = sum of g[l, o] over the o whose window holds i and indices[l, o] = i,
//                   in C order of o
//   add_runs        the same for any indices: see there
//   mean_pool       y[l, o] = (sum of x[l, o s + k] over k, in C order of k) / elements of a window
//   mean_pool_grad  x[l, i] = sum of g[l, o] / elements of a window over the o whose window holds i,
//                   in C order of k = i - o s, that is, from the last o to the first
//
// for each axis, with s = stride. A sum begins with 0, is in Wide<T>::type and is rounded once. No
// atomics: every element of a result is computed by one thread, in the order above.
//
// A line is what windows move over, `size` elements in C order; there are `places` = out[0] out[1]
// out[2] windows on it. One or two axes are three whose first have size, out, window and stride 1.
// All arrays are contiguous:
//
//   x  (lines, size[0], size[1], size[2])    y, g and indices  (lines, out[0], out[1], out[2])
//
// Arguments, in order: the arrays as each kernel says, then
//   lines             i64
//   size[3], out[3], window[3], stride[3]   I each, where windows are needed. I is int, or i64 where
//                                  a line has 2^30 elements or more
//
// Launch: one dimension, any number of threads; (places, or elements, of a line) ceil(lines / LINES)
// have something to do. A thread stays at one place and goes from line to line, LINES at a time:
//
//   thread       0 1 2 ... places-1 | 0 1 2 ...  | ...        neighbours read neighbours
//   lines        0, n, 2n, ...      | 1, n+1 ... |            n = threads / places "lanes"
//
// The divisions that tell where its windows lie are made once for all its lines, and the loads of
// LINES lines are under way together: a window alone has too few to keep the memory busy. Loops over
// windows are not unrolled besides: that takes up to half as many registers again, so that fewer
// threads fit on a multiprocessor.
//
// Python bodies: gpugrad/primitives/pool.py, functions of the same names (scatter: two kernels).

#include "common.cuh"

#define GEOMETRY_PARAMETERS                                                                  \
    I size0, I size1, I size2, I out0, I out1, I out2, I window0, I window1, I window2,      \
        I stride0, I stride1, I stride2

#define GEOMETRY                                                                             \
    {{size0, size1, size2}, {out0, out1, out2}, {window0, window1, window2},                 \
     {stride0, stride1, stride2}}

template <class I>
struct Geometry {
    I size[3], out[3], window[3], stride[3];
};

template <class I>
__device__ inline I product(const I* lengths) {
    return lengths[0] * lengths[1] * lengths[2];
}

template <class I>
__device__ inline void unravel(I flat, const I* lengths, I* index) {
    index[2] = flat % lengths[2];
    flat /= lengths[2];
    index[1] = flat % lengths[1];
    index[0] = flat / lengths[1];
}

// How the threads share lines of n places (not 0): this one has the places first, first + step, ...
// below end, counted through `lanes` lines, and of each the lines `lanes` apart.
struct Share {
    i64 first, step, end, lanes;
};

__device__ inline Share share_of(i64 n) {
    const i64 threads = index_stride();
    const i64 lanes = threads / n > 0 ? threads / n : 1;
    return Share{first_index(), threads, lanes * n, lanes};
}

// The lines that a thread works on together: line, line + lanes, ... Those beyond the last are
// replaced by the first, which is then computed and written as often: cheaper than asking each time.
template <int LINES>
struct Group {
    i64 line[LINES];
    __device__ Group(i64 first, i64 lanes, i64 lines) {
#pragma unroll
        for (int j = 0; j < LINES; ++j)
            line[j] = first + j * lanes < lines ? first + j * lanes : first;
    }
};

#define EACH_LINE(j) _Pragma("unroll") for (int j = 0; j < LINES; ++j)

// x const T*; y T* and indices i64*, either may be null.
template <class T, class I, int LINES>
__global__ void max_pool(const T* x, T* y, i64* indices, i64 lines, GEOMETRY_PARAMETERS) {
    const Geometry<I> of = GEOMETRY;
    const I length = product(of.size), places = product(of.out);
    const Share share = share_of(places);
    for (i64 i = share.first; i < share.end; i += share.step) {
        const I place = static_cast<I>(i % places);
        I at[3];
        unravel(place, of.out, at);
        const I corner =
            ((at[0] * of.stride[0]) * of.size[1] + at[1] * of.stride[1]) * of.size[2] +
            at[2] * of.stride[2];
        for (i64 line = i / places; line < lines; line += LINES * share.lanes) {
            const Group<LINES> group(line, share.lanes, lines);
            const T* from[LINES];
            T best[LINES];
            I taken[LINES];
            EACH_LINE(j) {
                from[j] = x + group.line[j] * length + corner;
                best[j] = *from[j];
                taken[j] = 0;
            }
            I begin = 1;  // the first element stands already
            for (I k0 = 0; k0 < of.window[0]; ++k0)
                for (I k1 = 0; k1 < of.window[1]; ++k1) {
                    const I row = (k0 * of.size[1] + k1) * of.size[2];
#pragma unroll 1
                    for (I k = row + begin; k < row + of.window[2]; ++k) {
                        T rival[LINES];
                        EACH_LINE(j) rival[j] = from[j][k];
                        EACH_LINE(j) {
                            // A nan is neither larger nor smaller: it wins against a number, and
                            // nothing against it.
                            const bool wins = !(widen(rival[j]) <= widen(best[j])) &&
                                              widen(best[j]) == widen(best[j]);
                            best[j] = wins ? rival[j] : best[j];
                            taken[j] = wins ? k : taken[j];
                        }
                    }
                    begin = 0;
                }
            EACH_LINE(j) {
                if (y) y[group.line[j] * places + place] = best[j];
                if (indices) indices[group.line[j] * places + place] = corner + taken[j];
            }
        }
    }
}

// x const T*, indices const i64* in [0, length), y T*; lines, then length and places, i64.
template <class T, int LINES>
__global__ void gather(const T* x, const i64* indices, T* y, i64 lines, i64 length, i64 places) {
    const Share share = share_of(places);
    for (i64 i = share.first; i < share.end; i += share.step) {
        const i64 place = i % places;
        for (i64 line = i / places; line < lines; line += LINES * share.lanes) {
            const Group<LINES> group(line, share.lanes, lines);
            i64 index[LINES];
            T value[LINES];
            EACH_LINE(j) index[j] = indices[group.line[j] * places + place];
            EACH_LINE(j) value[j] = x[group.line[j] * length + index[j]];
            EACH_LINE(j) y[group.line[j] * places + place] = value[j];
        }
    }
}

// The windows that hold an element: those at places first to last along each axis, none where first
// is beyond last.
template <class I>
struct Cover {
    I first[3], last[3];
};

template <class I>
__device__ inline Cover<I> windows_over(I element, const Geometry<I>& of) {
    I at[3];
    unravel(element, of.size, at);
    Cover<I> cover;
#pragma unroll
    for (int a = 0; a < 3; ++a) {
        cover.first[a] = at[a] < of.window[a] ? 0 : (at[a] - of.window[a]) / of.stride[a] + 1;
        cover.last[a] = at[a] / of.stride[a];
        if (cover.last[a] >= of.out[a]) cover.last[a] = of.out[a] - 1;
    }
    return cover;
}

// g const T*, indices const i64*, each within its window; x T*, every element is written.
template <class T, class I, int LINES>
__global__ void scatter_windows(const T* g, const i64* indices, T* x, i64 lines,
                                GEOMETRY_PARAMETERS) {
    typedef typename Wide<T>::type W;
    const Geometry<I> of = GEOMETRY;
    const I length = product(of.size), places = product(of.out);
    const Share share = share_of(length);
    for (i64 i = share.first; i < share.end; i += share.step) {
        const I element = static_cast<I>(i % length);
        const Cover<I> over = windows_over(element, of);
        for (i64 line = i / length; line < lines; line += LINES * share.lanes) {
            const Group<LINES> group(line, share.lanes, lines);
            W sum[LINES] = {};
            for (I o0 = over.first[0]; o0 <= over.last[0]; ++o0)
                for (I o1 = over.first[1]; o1 <= over.last[1]; ++o1) {
                    const I row = (o0 * of.out[1] + o1) * of.out[2];
#pragma unroll 1
                    for (I o = row + over.first[2]; o <= row + over.last[2]; ++o) {
                        I index[LINES];
                        T value[LINES];
                        EACH_LINE(j) {
                            index[j] = static_cast<I>(indices[group.line[j] * places + o]);
                            value[j] = g[group.line[j] * places + o];
                        }
                        EACH_LINE(j) if (index[j] == element) sum[j] += widen(value[j]);
                    }
                }
            EACH_LINE(j) x[group.line[j] * length + element] = narrow<T>(sum[j]);
        }
    }
}

// Adds g up where equal keys stand next to each other: x[key] = sum over the run, in its order.
//
//   keys   const i64*   (n,), increasing: where in all of x
//   order  const i64*   (n,), the element of g that belongs to each key
//   g      const T*     (n,)
//   x      T*           zeros; elements that no key names are left alone
//   n      i64
//
// A thread for each key, of which the first of a run works: as long as its run.
template <class T>
__global__ void add_runs(const i64* keys, const i64* order, const T* g, T* x, i64 n) {
    for (i64 i = first_index(); i < n; i += index_stride()) {
        const i64 key = keys[i];
        if (i > 0 && keys[i - 1] == key) continue;
        typename Wide<T>::type sum = 0;
        for (i64 r = i; r < n && keys[r] == key; ++r) sum += widen(g[order[r]]);
        x[key] = narrow<T>(sum);
    }
}

// x const T*, y T*.
template <class T, class I, int LINES>
__global__ void mean_pool(const T* x, T* y, i64 lines, GEOMETRY_PARAMETERS) {
    typedef typename Wide<T>::type W;
    const Geometry<I> of = GEOMETRY;
    const I length = product(of.size), places = product(of.out);
    const W elements = static_cast<W>(product(of.window));
    const Share share = share_of(places);
    for (i64 i = share.first; i < share.end; i += share.step) {
        const I place = static_cast<I>(i % places);
        I at[3];
        unravel(place, of.out, at);
        const I corner =
            ((at[0] * of.stride[0]) * of.size[1] + at[1] * of.stride[1]) * of.size[2] +
            at[2] * of.stride[2];
        for (i64 line = i / places; line < lines; line += LINES * share.lanes) {
            const Group<LINES> group(line, share.lanes, lines);
            W sum[LINES] = {};
            for (I k0 = 0; k0 < of.window[0]; ++k0)
                for (I k1 = 0; k1 < of.window[1]; ++k1) {
                    const I row = corner + (k0 * of.size[1] + k1) * of.size[2];
#pragma unroll 1
                    for (I k = row; k < row + of.window[2]; ++k) {
                        T value[LINES];
                        EACH_LINE(j) value[j] = x[group.line[j] * length + k];
                        EACH_LINE(j) sum[j] += widen(value[j]);
                    }
                }
            EACH_LINE(j) y[group.line[j] * places + place] = narrow<T>(sum[j] / elements);
        }
    }
}

// g const T*, x T*, every element is written.
template <class T, class I, int LINES>
__global__ void mean_pool_grad(const T* g, T* x, i64 lines, GEOMETRY_PARAMETERS) {
    typedef typename Wide<T>::type W;
    const Geometry<I> of = GEOMETRY;
    const I length = product(of.size), places = product(of.out);
    const W elements = static_cast<W>(product(of.window));
    const Share share = share_of(length);
    for (i64 i = share.first; i < share.end; i += share.step) {
        const I element = static_cast<I>(i % length);
        const Cover<I> over = windows_over(element, of);
        for (i64 line = i / length; line < lines; line += LINES * share.lanes) {
            const Group<LINES> group(line, share.lanes, lines);
            W sum[LINES] = {};
            for (I o0 = over.last[0]; o0 >= over.first[0]; --o0)
                for (I o1 = over.last[1]; o1 >= over.first[1]; --o1) {
                    const I row = (o0 * of.out[1] + o1) * of.out[2];
#pragma unroll 1
                    for (I o = row + over.last[2]; o >= row + over.first[2]; --o) {
                        T value[LINES];
                        EACH_LINE(j) value[j] = g[group.line[j] * places + o];
                        EACH_LINE(j) sum[j] += widen(value[j]) / elements;
                    }
                }
            EACH_LINE(j) x[group.line[j] * length + element] = narrow<T>(sum[j]);
        }
    }
}
