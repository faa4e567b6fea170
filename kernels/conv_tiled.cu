// Convolution with 1, 2 or 3 spatial axes and its two adjoints as products of matrices that are
// never stored ("implicit GEMM"):
//
//   D(m, n) = sum over k of A(m, k) B(k, n),     B(k, n) = gathered[k.source + n.source]
//                                                where k.at + n.at lies inside the image, else 0
//
//                   A         gathered   m   n             k
//   FORWARD         w         x          f   (image, o)    (c, tap)       D = y
//   INPUT_GRAD      w         g          c   (image, i)    (f, tap)       D = gradient of x
//   WEIGHT_GRAD     g         x          f   (c, tap)      (image, o)     D = gradient of w
//
// A tap is an element of the window. Both k and n are a list of places, given by a leading index
// and one index for each spatial axis, and what a place contributes is affine in them: `Side`.
//
// INPUT_GRAD with a stride: a position i meets only the taps with (i + p - tap d) divisible by s.
// Positions that agree modulo s meet the same taps; each such class is a product of its own, in
// which the places o lie next to each other, o = o0 + j - t d / gcd(s, d) for the j-th position and
// the t-th tap of the class.
//
// A block of 256 threads computes BM x BN elements of D, tile after tile of A and B (BK columns and
// rows) through shared memory: while one tile is multiplied the next is on its way to registers.
// How tiles are multiplied is MATH:
//   FMA      each thread multiplies (BM / 16) x (BN / 16) elements in Wide<T>::type
//   TENSOR   each of 8 warps multiplies by tensor cores (mma.cuh); T = __half, __nv_bfloat16, or
//            float, whose numbers are rounded to TF32. Sums are float.
// Sums over k are in order, the tile's shape does not change a bit of them. With splits > 1 the sum
// is cut into as many parts, which go to `partial`; conv_add_partials adds them up in their order.
// No atomics: the same bits at every launch.
//
// Formulas and layouts: conv.cuh. Arguments, in order:
//   a          const T*   A as above
//   gathered   const T*
//   result     T*         every element is written, if partial is null
//   partial    Wide<T>::type*   (splits, size of the result), or null: splits is 1
//   splits     int
//   split_length   int    terms of a split's sum; a multiple of BK
//   images, channels, filters, groups   int   channels and filters of all groups together
//   size[3], out[3], window[3], stride[3], padding[3], dilation[3]   int each; the first DIMS of
//                                             three are read
//
// Launch: 256 threads; blocks (ceil(N / BN), ceil(M / BM), splits groups classes), where classes is
// the product of the strides for INPUT_GRAD, else 1, and N is that of the largest class.
// k runs over less than 2^31 - BK terms; size + 2 padding and (window - 1) dilation are below 2^30.
//
// Python bodies: gpugrad/primitives/conv.py, conv, conv_input_grad, conv_weight_grad.

#include "conv.cuh"
#include "mma.cuh"

#define FMA 0
#define TENSOR 1

#define CONV_THREADS 256
const int OUTSIDE = -(1 << 30);  // no place: whatever is added, it lies outside of the image

// ---- places -------------------------------------------------------------------------------------

// What a place contributes to addresses: `source` to that in the gathered array; `other` to that in
// A for a k, to that in D for an n, -1 where there is no place; `at` to the position in the image.
template <int DIMS>
struct alignas(16) Place {
    i64 source;
    int at[DIMS];
    i64 other;
};

// A list of places in C order of (lead, index[0], ...).
template <int DIMS>
struct Side {
    i64 count;
    int limit[DIMS];
    int first[DIMS], step[DIMS];    // at = first + index * step
    i64 pitch[DIMS], lead_pitch;    // source = lead * lead_pitch + sum of at * pitch
    i64 other[DIMS], lead_other;    // other = first_other + lead * lead_other + sum of
    i64 first_other;                //         index * other

    __device__ Place<DIMS> place(i64 flat, i64 end, i64 lead, const int* index) const {
        Place<DIMS> p;
        p.source = lead * lead_pitch;
        p.other = first_other + lead * lead_other;
#pragma unroll
        for (int a = 0; a < DIMS; ++a) {
            p.at[a] = first[a] + index[a] * step[a];
            p.source += p.at[a] * pitch[a];
            p.other += index[a] * other[a];
        }
        if (flat >= end) {
            p.other = -1;
            p.at[0] = OUTSIDE;
        }
        return p;
    }

    __device__ Place<DIMS> place(i64 flat) const {
        int index[DIMS] = {};
        const i64 lead = flat < count ? unravel<DIMS>(flat, limit, index) : 0;
        return place(flat, count, lead, index);
    }
};

// Walks along a side in steps of `by`, without a division.
template <int DIMS>
struct Walk {
    int flat, lead, index[DIMS];

    Walk() = default;

    __device__ Walk(const Side<DIMS>& side, i64 start)
        : flat(static_cast<int>(start)), lead(0), index{} {
        if (side.count) lead = static_cast<int>(unravel<DIMS>(start, side.limit, index));
    }

    __device__ void advance(const Side<DIMS>& side, const Walk& by) {
        int carry = 0;
#pragma unroll
        for (int a = DIMS - 1; a >= 0; --a) {
            index[a] += by.index[a] + carry;
            carry = index[a] >= side.limit[a];
            if (carry) index[a] -= side.limit[a];
        }
        lead += by.lead + carry;
        flat += by.flat;
    }
};

// The product that a block belongs to.
template <int DIMS>
struct Product {
    Side<DIMS> rows, columns;  // k and n
    int bound[DIMS];           // lengths of the image that is gathered from
    i64 a, a_pitch;            // A(m, k) = a[m * a_pitch + k.other] from this offset
    i64 gathered;              // offset
    i64 result, result_pitch;  // D(m, n) = result[m * result_pitch + n.other] from this offset
    i64 size;                  // of the whole result
    int m_count;
};

// pitch[a]: elements from one index of axis a to the next.
template <int DIMS>
__device__ inline void pitches(const int* lengths, i64* pitch) {
    i64 n = 1;
#pragma unroll
    for (int a = DIMS - 1; a >= 0; --a) {
        pitch[a] = n;
        n *= lengths[a];
    }
}

// The places of the output as they lie in the image, and the taps.
template <int DIMS>
__device__ inline void set_forward(const Geometry& of, Side<DIMS>& places, Side<DIMS>& taps) {
    const i64 pixels = product<DIMS>(of.size);
    places.count = of.images * product<DIMS>(of.out);
    places.lead_pitch = of.groups * static_cast<i64>(of.channels) * pixels;
    places.lead_other = of.groups * static_cast<i64>(of.filters) * product<DIMS>(of.out);
    taps.count = of.channels * product<DIMS>(of.window);
    taps.lead_pitch = pixels;
    taps.lead_other = product<DIMS>(of.window);
    places.first_other = taps.first_other = 0;
    pitches<DIMS>(of.size, places.pitch);
    pitches<DIMS>(of.size, taps.pitch);
    pitches<DIMS>(of.out, places.other);
    pitches<DIMS>(of.window, taps.other);
#pragma unroll
    for (int a = 0; a < DIMS; ++a) {
        places.limit[a] = of.out[a];
        places.first[a] = -of.padding[a];
        places.step[a] = of.stride[a];
        taps.limit[a] = of.window[a];
        taps.first[a] = 0;
        taps.step[a] = of.dilation[a];
    }
}

__device__ inline int common_divisor(int a, int b) {
    while (b) {
        const int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// The positions of a class of the input and the taps that they meet.
template <int DIMS>
__device__ inline void set_input_grad(const Geometry& of, i64 which, Side<DIMS>& positions,
                                      Side<DIMS>& taps) {
    int residue[DIMS];
    unravel<DIMS>(which, of.stride, residue);
    const i64 pixels = product<DIMS>(of.size), places = product<DIMS>(of.out);
    const i64 window = product<DIMS>(of.window);
    positions.lead_pitch = of.groups * static_cast<i64>(of.filters) * places;
    positions.lead_other = of.groups * static_cast<i64>(of.channels) * pixels;
    taps.lead_pitch = places;
    taps.lead_other = of.channels * window;
    positions.first_other = taps.first_other = 0;
    positions.count = of.images;
    taps.count = of.filters;
    pitches<DIMS>(of.out, positions.pitch);
    pitches<DIMS>(of.out, taps.pitch);
    pitches<DIMS>(of.size, positions.other);
    pitches<DIMS>(of.window, taps.other);
#pragma unroll
    for (int a = 0; a < DIMS; ++a) {
        const int s = of.stride[a], d = of.dilation[a], from = residue[a] + of.padding[a];
        const int divisor = common_divisor(s, d), every = s / divisor;
        int tap = 0;  // the first that positions of this class meet, of every `every`-th
        while (tap < every && tap < of.window[a] && (from - tap * static_cast<i64>(d)) % s != 0)
            ++tap;
        const bool met = tap < every && tap < of.window[a];
        positions.limit[a] = residue[a] < of.size[a] ? (of.size[a] - residue[a] - 1) / s + 1 : 0;
        taps.limit[a] = met ? (of.window[a] - tap - 1) / every + 1 : 0;
        positions.first[a] = met ? static_cast<int>((from - tap * static_cast<i64>(d)) / s) : 0;
        positions.step[a] = 1;
        taps.first[a] = 0;
        taps.step[a] = -(d / divisor);
        positions.first_other += residue[a] * positions.other[a];
        positions.other[a] *= s;
        taps.first_other += tap * taps.other[a];
        taps.other[a] *= every;
        positions.count *= positions.limit[a];
        taps.count *= taps.limit[a];
    }
}

template <int KIND, int DIMS>
__device__ inline Product<DIMS> product_of(const Geometry& of, int group, i64 which) {
    Product<DIMS> p;
    const i64 pixels = product<DIMS>(of.size), places = product<DIMS>(of.out);
    const i64 taps = product<DIMS>(of.window);
    const i64 x = group * of.channels * pixels, y = group * of.filters * places;
    const i64 w = static_cast<i64>(group) * of.filters * of.channels * taps;
    if (KIND == INPUT_GRAD)
        set_input_grad<DIMS>(of, which, p.columns, p.rows);
    else if (KIND == FORWARD)
        set_forward<DIMS>(of, p.columns, p.rows);
    else
        set_forward<DIMS>(of, p.rows, p.columns);
    p.m_count = KIND == INPUT_GRAD ? of.channels : of.filters;
    p.a = KIND == WEIGHT_GRAD ? y : w;
    p.a_pitch = KIND == FORWARD ? of.channels * taps : KIND == INPUT_GRAD ? taps : places;
    p.gathered = KIND == INPUT_GRAD ? y : x;
    p.result = KIND == FORWARD ? y : KIND == INPUT_GRAD ? x : w;
    p.size = of.groups * static_cast<i64>(p.m_count) *
             (KIND == WEIGHT_GRAD ? of.channels * taps
                                  : of.images * (KIND == FORWARD ? places : pixels));
    p.result_pitch = KIND == FORWARD ? places : KIND == INPUT_GRAD ? pixels : of.channels * taps;
#pragma unroll
    for (int a = 0; a < DIMS; ++a) p.bound[a] = KIND == INPUT_GRAD ? of.out[a] : of.size[a];
    return p;
}

// ---- tiles in shared memory ---------------------------------------------------------------------

// N neighbours that are moved by one access (float64: by two), if they are aligned.
template <class T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Piece {
    T value[N];
};

template <int N, class T>
__device__ inline bool aligned(const T* at) {
    return reinterpret_cast<u64>(at) % alignof(Piece<T, N>) == 0;
}

// A tile has ROWS rows of A, or columns of B, by BK terms of the sum. It is filled in chunks: CHUNK
// neighbouring terms of one row.
template <class T, int MATH, int BM, int BN>
struct Format {
    typedef typename Wide<T>::type Number;
    static constexpr int CHUNK = 4, BK = BM * BN > 4096 ? 8 : 16;

    template <int ROWS>
    struct Tile {
        alignas(16) Number at[BK][ROWS + 4];
        __device__ void store(int row, int k, const Number* chunk) {
#pragma unroll
            for (int j = 0; j < CHUNK; ++j) at[k + j][row] = chunk[j];
        }
    };

    __device__ static Number number(T x) { return widen(x); }
};

// For tensor cores a row is 16 words of 32 bits, 8 for each product, and 4 that keep the rows of a
// fragment in different banks.
template <class T, int BM, int BN>
struct Format<T, TENSOR, BM, BN> {
    typedef T Number;
    static constexpr int CHUNK = 16 / sizeof(T), BK = 64 / sizeof(T);

    template <int ROWS>
    struct Tile {
        alignas(16) u32 word[ROWS][20];
        __device__ void store(int row, int k, const Number* chunk) {
            Piece<Number, CHUNK> all;
#pragma unroll
            for (int j = 0; j < CHUNK; ++j) all.value[j] = chunk[j];
            *reinterpret_cast<Piece<Number, CHUNK>*>(&word[row][k / CHUNK * 4]) = all;
        }
    };

    __device__ static T number(T x) { return x; }
};

template <int BM, int BN>
struct Format<float, TENSOR, BM, BN> : Format<u32, TENSOR, BM, BN> {
    __device__ static u32 number(float x) { return __float_as_uint(round_to_tf32(x)); }
};

// ---- products of tiles --------------------------------------------------------------------------

// The thread's elements of D. Element (i, j) is D(row(i), column(j)) of the block.
template <class T, int MATH, int BM, int BN>
struct Sums {
    typedef Format<T, MATH, BM, BN> F;
    typedef typename F::Number W;
    static constexpr int ROWS = BM / 16, COLUMNS = BN / 16;
    // Up to four neighbours are read at once; the other four lie half a block away, so that the
    // threads of a warp read different banks.
    static constexpr int NEAR_ROWS = ROWS < 4 ? ROWS : 4, NEAR_COLUMNS = COLUMNS < 4 ? COLUMNS : 4;
    W value[ROWS][COLUMNS] = {};

    __device__ W at(int i, int j) const { return value[i][j]; }
    __device__ static int row(int i) {
        return i / NEAR_ROWS * 16 * NEAR_ROWS + threadIdx.x / 16 * NEAR_ROWS + i % NEAR_ROWS;
    }
    __device__ static int column(int j) {
        return j / NEAR_COLUMNS * 16 * NEAR_COLUMNS + threadIdx.x % 16 * NEAR_COLUMNS +
               j % NEAR_COLUMNS;
    }

    __device__ void add(const typename F::template Tile<BM>& a,
                        const typename F::template Tile<BN>& b) {
#pragma unroll
        for (int k = 0; k < F::BK; ++k) {
            W x[ROWS], y[COLUMNS];
#pragma unroll
            for (int i = 0; i < ROWS; ++i) x[i] = a.at[k][row(i)];
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) y[j] = b.at[k][column(j)];
#pragma unroll
            for (int i = 0; i < ROWS; ++i)
#pragma unroll
                for (int j = 0; j < COLUMNS; ++j) value[i][j] += x[i] * y[j];
        }
    }
};

template <class T, int BM, int BN>
struct Sums<T, TENSOR, BM, BN> {
    typedef Format<T, TENSOR, BM, BN> F;
    // Warps side by side in each direction, and products of 16 x 8 that a warp has.
    static constexpr int DOWN = BM < 64 ? 1 : 2, ACROSS = 8 / DOWN;
    static constexpr int TALL = BM / DOWN / 16, BROAD = BN / ACROSS / 8;
    static constexpr int ROWS = 2 * TALL, COLUMNS = 2 * BROAD;
    float value[TALL][BROAD][4] = {};

    __device__ static int row(int i) {
        return threadIdx.x / 32 / ACROSS * (BM / DOWN) + i / 2 * 16 + i % 2 * 8 +
               threadIdx.x % 32 / 4;
    }
    __device__ static int column(int j) {
        return threadIdx.x / 32 % ACROSS * (BN / ACROSS) + j / 2 * 8 + j % 2 +
               threadIdx.x % 4 * 2;
    }
    __device__ float at(int i, int j) const { return value[i / 2][j / 2][i % 2 * 2 + j % 2]; }

    __device__ void add(const typename F::template Tile<BM>& a,
                        const typename F::template Tile<BN>& b) {
        const int place = threadIdx.x % 4;
#pragma unroll
        for (int first = 0; first < 16; first += 8) {
            u32 x[TALL][4], y[BROAD][2];
#pragma unroll
            for (int i = 0; i < TALL; ++i)
#pragma unroll
                for (int r = 0; r < 4; ++r)
                    x[i][r] = a.word[row(2 * i + r % 2)][first + place + r / 2 * 4];
#pragma unroll
            for (int j = 0; j < BROAD; ++j)
#pragma unroll
                for (int r = 0; r < 2; ++r)
                    y[j][r] = b.word[column(2 * j) - place * 2 + threadIdx.x % 32 / 4]
                                    [first + place + r * 4];
#pragma unroll
            for (int i = 0; i < TALL; ++i)
#pragma unroll
                for (int j = 0; j < BROAD; ++j) multiply_add<T>(value[i][j], x[i], y[j]);
        }
    }
};

// ---- the kernel ---------------------------------------------------------------------------------

template <class T, int DIMS, int KIND, int MATH, int BM, int BN>
__global__ void __launch_bounds__(CONV_THREADS, 2)
    conv_tiled(const T* a, const T* gathered, T* result, typename Wide<T>::type* partial,
               int splits, int split_length, GEOMETRY_PARAMETERS) {
    typedef Format<T, MATH, BM, BN> F;
    typedef typename F::Number Number;
    const int BK = F::BK, CHUNK = F::CHUNK, CHUNKS = BK / CHUNK;  // chunks of a row
    // Chunks that a thread loads.
    const int A_CHUNKS = (BM * CHUNKS + CONV_THREADS - 1) / CONV_THREADS;
    const int B_CHUNKS = (BN * CHUNKS + CONV_THREADS - 1) / CONV_THREADS;
    __shared__ typename F::template Tile<BM> a_tile[2];
    __shared__ typename F::template Tile<BN> b_tile[2];
    __shared__ Place<DIMS> row_place[2][BK], column_place[BN];

    const Geometry of = GEOMETRY;
    const int split = blockIdx.z % splits, group = blockIdx.z / splits % of.groups;
    // Shared, not in registers: there it would take a hundred of each thread's.
    __shared__ Product<DIMS> p;
    __shared__ Walk<DIMS> by;
    if (threadIdx.x == 0) {
        p = product_of<KIND, DIMS>(of, group, blockIdx.z / splits / of.groups);
        by = Walk<DIMS>(p.rows, BK);
    }
    __syncthreads();
    const i64 n_first = static_cast<i64>(blockIdx.x) * BN;
    const i64 m_first = static_cast<i64>(blockIdx.y) * BM;
    if (n_first >= p.columns.count) return;  // a class that is smaller than the largest
    const i64 k_first = static_cast<i64>(split) * split_length;
    const i64 k_last = k_first + split_length < p.rows.count ? k_first + split_length
                                                             : p.rows.count;
    const int steps = k_first < k_last ? static_cast<int>((k_last - k_first + BK - 1) / BK) : 0;
    a += p.a;
    gathered += p.gathered;
    const i64 a_pitch = p.a_pitch;
    const int m_count = p.m_count;
    u32 bound[DIMS];
#pragma unroll
    for (int d = 0; d < DIMS; ++d) bound[d] = p.bound[d];

    for (int j = threadIdx.x; j < BN; j += CONV_THREADS)
        column_place[j] = p.columns.place(n_first + j);
    Walk<DIMS> walk(p.rows, k_first + threadIdx.x);
    if (threadIdx.x < BK)
        row_place[0][threadIdx.x] = p.rows.place(walk.flat, k_last, walk.lead, walk.index);
    __syncthreads();

    Number a_next[A_CHUNKS][CHUNK], b_next[B_CHUNKS][CHUNK];
    auto load = [&](const Place<DIMS>* rows) {
#pragma unroll
        for (int c = 0; c < A_CHUNKS; ++c) {
            const int i = threadIdx.x + c * CONV_THREADS, k = i % CHUNKS * CHUNK;
            const i64 m = m_first + i / CHUNKS;
            const bool inside = i < BM * CHUNKS && m < m_count;
            // Offsets grow along k: if the first and the last fit, the chunk is in one piece.
            const i64 from = rows[k].other, last = rows[k + CHUNK - 1].other;
            const T* piece = a + m * a_pitch + from;
            if (inside && from >= 0 && last - from == CHUNK - 1 && aligned<CHUNK>(piece)) {
                const Piece<T, CHUNK> all = *reinterpret_cast<const Piece<T, CHUNK>*>(piece);
#pragma unroll
                for (int j = 0; j < CHUNK; ++j) a_next[c][j] = F::number(all.value[j]);
                continue;
            }
#pragma unroll
            for (int j = 0; j < CHUNK; ++j) {
                const i64 at = inside ? rows[k + j].other : -1;
                a_next[c][j] = F::number(at < 0 ? narrow<T>(0.f) : a[m * a_pitch + at]);
            }
        }
#pragma unroll
        for (int c = 0; c < B_CHUNKS; ++c) {
            const int i = threadIdx.x + c * CONV_THREADS;
            // Neighbouring threads read neighbouring pixels.
            const int k = (KIND == WEIGHT_GRAD ? i % CHUNKS : i / BN) * CHUNK;
            const int n = KIND == WEIGHT_GRAD ? i / CHUNKS : i % BN;
            if (i >= BN * CHUNKS) break;
            const Place<DIMS> column = column_place[n];
#pragma unroll
            for (int j = 0; j < CHUNK; ++j) {
                const Place<DIMS>& row = rows[k + j];
                bool inside = true;
#pragma unroll
                for (int d = 0; d < DIMS; ++d)
                    inside = inside && static_cast<u32>(row.at[d] + column.at[d]) < bound[d];
                b_next[c][j] =
                    F::number(inside ? gathered[row.source + column.source] : narrow<T>(0.f));
            }
        }
    };

    Sums<T, MATH, BM, BN> sums;
    if (steps) load(row_place[0]);
    for (int s = 0; s < steps; ++s) {
        const int now = s % 2;
#pragma unroll
        for (int c = 0; c < A_CHUNKS; ++c) {
            const int i = threadIdx.x + c * CONV_THREADS;
            if (i < BM * CHUNKS) a_tile[now].store(i / CHUNKS, i % CHUNKS * CHUNK, a_next[c]);
        }
#pragma unroll
        for (int c = 0; c < B_CHUNKS; ++c) {
            const int i = threadIdx.x + c * CONV_THREADS;
            const int k = (KIND == WEIGHT_GRAD ? i % CHUNKS : i / BN) * CHUNK;
            const int n = KIND == WEIGHT_GRAD ? i / CHUNKS : i % BN;
            if (i < BN * CHUNKS) b_tile[now].store(n, k, b_next[c]);
        }
        if (threadIdx.x < BK) {
            walk.advance(p.rows, by);
            row_place[1 - now][threadIdx.x] =
                p.rows.place(walk.flat, k_last, walk.lead, walk.index);
        }
        // One barrier a step: the other tile was read before the barrier of the step before.
        __syncthreads();
        if (s + 1 < steps) load(row_place[1 - now]);
        sums.add(a_tile[now], b_tile[now]);
    }

    if (partial) partial += split * p.size;
#pragma unroll
    for (int j = 0; j < sums.COLUMNS; ++j) {
        const i64 column = column_place[sums.column(j)].other;
#pragma unroll
        for (int i = 0; i < sums.ROWS; ++i) {
            const i64 m = m_first + sums.row(i);
            if (m >= m_count || column < 0) continue;
            const i64 at = p.result + m * p.result_pitch + column;
            if (partial)
                partial[at] = sums.at(i, j);
            else
                result[at] = narrow<T>(sums.at(i, j));
        }
    }
}

// result[i] = sum over splits of partial[split, i], in their order. Arguments: partial, result,
// size of the result, splits. Launch: one dimension, any number of threads.
template <class T>
__global__ void conv_add_partials(const typename Wide<T>::type* partial, T* result, i64 size,
                                  int splits) {
    for (i64 i = first_index(); i < size; i += index_stride()) {
        typename Wide<T>::type sum = 0;
        for (int split = 0; split < splits; ++split) sum += partial[split * size + i];
        result[i] = narrow<T>(sum);
    }
}
