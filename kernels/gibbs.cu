// Samples the units of a layer in the field of its neighbours, after the product of the
// neighbouring units with the weights; field to sample in one pass over memory.
//
//   logit = beta (field + bias)
//   BERNOULLI:  mean = 1 / (1 + exp(-logit)),    1 where u < mean, else 0
//   ISING:      mean = tanh(logit),             +1 where u < 1 / (1 + exp(-2 logit)), else -1
//
// u = (2^32 a + b) / 2^48 is unit_uniforms of the Python body: a, 16 bits, decides all but one
// comparison in 65536; b is computed only for those, from the blocks after counter 2 c + 2^255 of a
// draw with counter c.
//
// Arguments, in order (strides in elements, row = chain):
//   field    const Field*   (chains, units), row stride field_stride; half types are computed in
//                           float
//   field_stride      i64
//   bias     const W*       (units,), W = float, or double for double fields; null: no bias
//   beta     const W*       inverse temperature of chain r at step t at
//                           beta[r * beta_stride + t * beta_step_stride]; null: 1
//   beta_stride, beta_step_stride   i64
//   sample   Sample*        (chains, units), row stride sample_stride, written copies times, each
//                           copy_stride after the last; null: no sample. It may be the field.
//   sample_stride, copies, copy_stride     i64
//   mean     Mean*          (chains, units), row stride mean_stride; null: no mean
//   mean_stride       i64
//   chains, units     i64
//   vector   int            1: units and all strides are multiples of 4, all pointers of 16 bytes,
//                           so that four neighbours are moved by one access
//   state    u64*           null, or device memory {key0, key1, counter0..3, step, ticket}, which
//                           then stands for the draw below. The last thread block to finish adds
//                           the ceil(chains units / 16) Philox blocks used to the counter and 1 to
//                           the step: a replayed CUDA graph goes on where the last replay stopped.
//                           The ticket is 0 between launches.
//   key0, key1, counter0..counter3   u64   the draw, counter lowest word first
//
// Launch: one dimension, any number of threads. A thread computes 16 neighbouring units, one
// Philox block, at a time.
//
// Python body: gpugrad/primitives/gibbs.py, sample_units.

#include "common.cuh"
#include "philox.cuh"

#define BERNOULLI 0
#define ISING 1

template <class W>
struct Unit {
    W sample, mean;
};

// Whether the lower 32 bits of uniform i of the draw lie below left, in [0, 1]. Not inlined: it is
// called for one unit in 65536 and would fill the instruction cache for the others.
__device__ __noinline__ bool lower_bits_below(Draw draw, i64 i, double left) {
    draw.counter3 = (draw.counter3 << 1 | draw.counter2 >> 63) ^ 1ull << 63;
    draw.counter2 = draw.counter2 << 1 | draw.counter1 >> 63;
    draw.counter1 = draw.counter1 << 1 | draw.counter0 >> 63;
    draw.counter0 <<= 1;
    const u32 bits = half_of(random_block(draw, i / 8), static_cast<int>(i % 8));
    return static_cast<double>(bits) < left * 4294967296.0;
}

// Unit i of the draw, whose uniform has the upper 16 bits upper.
template <int KIND, class W>
__device__ inline Unit<W> sample_unit(W logit, u32 upper, const Draw& draw, i64 i, bool with_mean) {
    const W chance = W(1) / (W(1) + exp(KIND == ISING ? W(-2) * logit : -logit));
    // Exact where it is not negative, and its sign always is.
    const W left = chance * W(65536) - static_cast<W>(upper);
    bool on = left >= W(1);
    if (!on && left > W(0)) on = lower_bits_below(draw, i, static_cast<double>(left));
    Unit<W> unit;
    unit.sample = on ? W(1) : W(KIND == ISING ? -1 : 0);
    unit.mean = KIND == ISING && with_mean ? tanh(logit) : chance;
    return unit;
}

// Where a unit stands; the next one may be in the next row.
struct Place {
    i64 row, column;
    __device__ void advance(int by, i64 units) {
        column += by;
        if (column == units) {
            column = 0;
            ++row;
        }
    }
};

template <class Field, class Sample, class Mean, int KIND>
__global__ void sample_units(const Field* field, i64 field_stride,
                             const typename Wide<Field>::type* bias,
                             const typename Wide<Field>::type* beta, i64 beta_stride,
                             i64 beta_step_stride, Sample* sample, i64 sample_stride, i64 copies,
                             i64 copy_stride, Mean* mean, i64 mean_stride, i64 chains, i64 units,
                             int vector, u64* state, u64 key0, u64 key1, u64 counter0, u64 counter1,
                             u64 counter2, u64 counter3) {
    typedef typename Wide<Field>::type W;
    Draw draw = {key0, key1, counter0, counter1, counter2, counter3};
    if (state) {
        draw = Draw{state[0], state[1], state[2], state[3], state[4], state[5]};
        if (beta) beta += static_cast<i64>(state[6]) * beta_step_stride;
    }
    const i64 blocks = (chains * units + 15) / 16;
    for (i64 i = first_index(); i < blocks; i += index_stride()) {
        Words words = {{0, 0, 0, 0}};
        if (sample) words = random_block(draw, i);
        Place place = {16 * i / units, 16 * i % units};
        // Not unrolled: sixteen copies of exp and tanh are slower to fetch than the loop to run.
#pragma unroll 1
        for (int quarter = 0; quarter < 4 && place.row < chains; ++quarter) {
            const u64 word = words.word[0];
            words = Words{{words.word[1], words.word[2], words.word[3], 0}};
            W logit[4];
            if (vector) {
                const Four<Field> f = *reinterpret_cast<const Four<Field>*>(
                    field + place.row * field_stride + place.column);
                Four<W> b = {{W(0), W(0), W(0), W(0)}};
                if (bias) b = *reinterpret_cast<const Four<W>*>(bias + place.column);
                const W scale = beta ? beta[place.row * beta_stride] : W(1);
#pragma unroll
                for (int k = 0; k < 4; ++k) logit[k] = (widen(f.value[k]) + b.value[k]) * scale;
            } else {
                Place at = place;
#pragma unroll
                for (int k = 0; k < 4; ++k) {
                    logit[k] = W(0);
                    if (at.row < chains) {
                        logit[k] = widen(field[at.row * field_stride + at.column]);
                        if (bias) logit[k] += bias[at.column];
                        if (beta) logit[k] *= beta[at.row * beta_stride];
                    }
                    at.advance(1, units);
                }
            }
            Four<Sample> s;
            Four<Mean> m;
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const u32 upper = static_cast<u32>(word >> (16 * k)) & 0xFFFFu;
                const Unit<W> unit = sample_unit<KIND>(logit[k], upper, draw,
                                                       16 * i + 4 * quarter + k, mean != nullptr);
                s.value[k] = narrow<Sample>(unit.sample);
                m.value[k] = narrow<Mean>(unit.mean);
            }
            if (vector) {
                if (mean)
                    *reinterpret_cast<Four<Mean>*>(mean + place.row * mean_stride + place.column) =
                        m;
                if (sample)
                    for (i64 c = 0; c < copies; ++c)
                        *reinterpret_cast<Four<Sample>*>(sample + place.row * sample_stride +
                                                         c * copy_stride + place.column) = s;
                place.advance(4, units);
            } else {
#pragma unroll
                for (int k = 0; k < 4; ++k) {
                    if (place.row < chains) {
                        if (mean) mean[place.row * mean_stride + place.column] = m.value[k];
                        if (sample)
                            for (i64 c = 0; c < copies; ++c)
                                sample[place.row * sample_stride + c * copy_stride + place.column] =
                                    s.value[k];
                    }
                    place.advance(1, units);
                }
            }
        }
    }
    if (state) {
        // Every thread of this block has read the state: the last block to come here may change it.
        __syncthreads();
        if (threadIdx.x == 0) {
            __threadfence();
            if (atomicAdd(state + 7, 1ull) == gridDim.x - 1) {
                const Draw next = advanced(draw, static_cast<u64>(blocks));
                state[2] = next.counter0;
                state[3] = next.counter1;
                state[4] = next.counter2;
                state[5] = next.counter3;
                state[6] += 1;
                state[7] = 0;
            }
        }
    }
}
