// The fields that one layer sends to its neighbour in the Thouless-Anderson-Palmer equations, all
// powers of the weights from one read of them, and the update of the magnetisations that follows.
//
//   tap_fields    field[p][r][j] = sum_i moment[p][r][i] W_ij^(p + 1),   p = 0 ... ORDER - 1
//                 TRANSPOSED: W_ji in place of W_ij
//   add_parts     field = sum over parts of partial fields, in their order
//   tap_update    x = bias + field0 + slope field1 + curl field2
//                 BERNOULLI: slope = 1/2 - m, curl = (1 - 6 (m - m^2)) / 6, new = 1 / (1 + exp(-x))
//                 ISING:     slope = -m,      curl = (4 - 6 (1 - m^2)) / 6, new = tanh(x)
//                 out = m + (1 - damping) (new - m)
//
// Arguments, in order (all arrays contiguous, V = Wide<T>::type), of tap_fields:
//   w        const T*       (lower, upper), the weights
//   lower, upper      i64
//   moment0 ... moment2     const V*   (rows, depth): mean, variance and third cumulant of the
//                           sending layer, depth = lower, or upper if TRANSPOSED; moment2 null for
//                           ORDER 2
//   rows     i64            seeds
//   fields   V*             (parts, ORDER, rows, units), units = upper, or lower if TRANSPOSED
//   span     i64            units of the sending layer that a part adds up, a multiple of DEPTH;
//                           parts = ceil(depth / span)
// Arguments of add_parts: partial const V* (parts, size), field V* (size,), size, parts i64.
// Arguments of tap_update: m const V* (rows, units), bias const V* (units,), field0, field1, field2
//   const V* (rows, units), field2 null at second order, damping V, out V* (rows, units), which may
//   be m, size = rows units and units i64.
//
// Launch: one dimension. tap_fields: blocks of 256 threads, any number of them; a block computes a
// tile of 16 ROWS seeds and 64 units of a part at a time. W is read once for each 16 ROWS seeds.
// The other two: any number of threads. Sums are added up in an order that the shapes and the span
// fix, so that equal calls give equal bits.
//
// Python body: gpugrad/primitives/tap.py, tap_fields and tap_update.

#include "common.cuh"

#define BERNOULLI 0
#define ISING 1

template <class T, int ORDER, int TRANSPOSED, int ROWS>
__global__ void tap_fields(const T* w, i64 lower, i64 upper,
                           const typename Wide<T>::type* moment0,
                           const typename Wide<T>::type* moment1,
                           const typename Wide<T>::type* moment2, i64 rows,
                           typename Wide<T>::type* fields, i64 span) {
    typedef typename Wide<T>::type V;
    constexpr int DEPTH = 128 / sizeof(V), HEIGHT = 16 * ROWS, WIDTH = 64;
    // One column more than used: threads that write down a column, or read along a row, then meet
    // different banks.
    __shared__ V w_tile[DEPTH][WIDTH + 1];
    __shared__ V moment_tile[ORDER][DEPTH][HEIGHT + 1];
    const i64 depth = TRANSPOSED ? upper : lower, units = TRANSPOSED ? lower : upper;
    const i64 wide = (units + WIDTH - 1) / WIDTH, high = (rows + HEIGHT - 1) / HEIGHT;
    const i64 parts = (depth + span - 1) / span;
    const int thread = static_cast<int>(threadIdx.x), x = thread % 16, y = thread / 16;
    for (i64 tile = blockIdx.x; tile < wide * high * parts; tile += gridDim.x) {
        const i64 first_unit = tile % wide * WIDTH, first_row = tile / wide % high * HEIGHT;
        const i64 part = tile / (wide * high);
        const i64 stop = (part + 1) * span < depth ? (part + 1) * span : depth;
        V sum[ORDER][ROWS][4];
#pragma unroll
        for (int p = 0; p < ORDER; ++p)
#pragma unroll
            for (int r = 0; r < ROWS; ++r)
#pragma unroll
                for (int c = 0; c < 4; ++c) sum[p][r][c] = V(0);
        for (i64 start = part * span; start < stop; start += DEPTH) {
            for (int e = thread; e < DEPTH * WIDTH; e += 256) {
                // Neighbouring threads read neighbouring weights in both directions.
                const int k = TRANSPOSED ? e % DEPTH : e / WIDTH;
                const int j = TRANSPOSED ? e / DEPTH : e % WIDTH;
                const i64 from = start + k, to = first_unit + j;
                V value = V(0);
                if (from < stop && to < units)
                    value = widen(TRANSPOSED ? w[to * upper + from] : w[from * upper + to]);
                w_tile[k][j] = value;
            }
            for (int e = thread; e < DEPTH * HEIGHT; e += 256) {
                const int k = e % DEPTH, r = e / DEPTH;
                const bool inside = start + k < stop && first_row + r < rows;
                const i64 at = (first_row + r) * depth + start + k;
                moment_tile[0][k][r] = inside ? moment0[at] : V(0);
                if (ORDER > 1) moment_tile[ORDER > 1 ? 1 : 0][k][r] = inside ? moment1[at] : V(0);
                if (ORDER > 2) moment_tile[ORDER > 2 ? 2 : 0][k][r] = inside ? moment2[at] : V(0);
            }
            __syncthreads();
#pragma unroll 4
            for (int k = 0; k < DEPTH; ++k) {
                V moment[ORDER][ROWS];
#pragma unroll
                for (int p = 0; p < ORDER; ++p)
#pragma unroll
                    for (int r = 0; r < ROWS; ++r) moment[p][r] = moment_tile[p][k][y + 16 * r];
#pragma unroll
                for (int c = 0; c < 4; ++c) {
                    const V value = w_tile[k][x + 16 * c];
                    V power = value;
#pragma unroll
                    for (int p = 0; p < ORDER; ++p) {
#pragma unroll
                        for (int r = 0; r < ROWS; ++r) sum[p][r][c] += moment[p][r] * power;
                        power *= value;
                    }
                }
            }
            __syncthreads();
        }
#pragma unroll
        for (int p = 0; p < ORDER; ++p)
#pragma unroll
            for (int r = 0; r < ROWS; ++r)
#pragma unroll
                for (int c = 0; c < 4; ++c) {
                    const i64 row = first_row + y + 16 * r, unit = first_unit + x + 16 * c;
                    if (row < rows && unit < units)
                        fields[((part * ORDER + p) * rows + row) * units + unit] = sum[p][r][c];
                }
    }
}

template <class V>
__global__ void add_parts(const V* partial, V* field, i64 size, i64 parts) {
    for (i64 i = first_index(); i < size; i += index_stride()) {
        V sum = partial[i];
        for (i64 part = 1; part < parts; ++part) sum += partial[part * size + i];
        field[i] = sum;
    }
}

template <class V, int KIND>
__global__ void tap_update(const V* m, const V* bias, const V* field0, const V* field1,
                           const V* field2, V damping, V* out, i64 size, i64 units) {
    for (i64 i = first_index(); i < size; i += index_stride()) {
        const V here = m[i];
        V x = bias[i % units] + field0[i];
        x += (KIND == ISING ? -here : V(0.5) - here) * field1[i];
        if (field2) {
            const V variance = KIND == ISING ? V(1) - here * here : here - here * here;
            x += (V(KIND == ISING ? 4 : 1) - V(6) * variance) / V(6) * field2[i];
        }
        const V fresh = KIND == ISING ? tanh(x) : V(1) / (V(1) + exp(-x));
        out[i] = here + (V(1) - damping) * (fresh - here);
    }
}
