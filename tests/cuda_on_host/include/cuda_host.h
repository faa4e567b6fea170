// CUDA C++ on a CPU: what kernels use of the language and its headers, so that g++ compiles a .cu
// file as it stands.
//
// The threads of a block are fibres of one operating-system thread. A fibre runs until it meets a
// barrier or a warp operation, where the next one takes over, so that shared memory, barriers,
// shuffles, ballots and atomics do what they say. Blocks run one after another. A barrier that not
// all threads reach, or that they reach at different lines, and warp operations whose lanes never
// all come, end the launch with a message.
//
//   thread 0   ---run---| barrier |                     ---run---| end
//   thread 1             ---run---| barrier |                     ---run---| end
//   thread 2                       ---run---| barrier |                     ---run---| end

#ifndef CUDA_HOST_H
#define CUDA_HOST_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__
#define __restrict__
#define __launch_bounds__(...)
// Static storage, one for all fibres; also a legal declaration after `extern`.
#define __shared__ thread_local
#define __ldg(pointer) (*(pointer))

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct int2 { int x, y; };
struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

// ---- fibres -------------------------------------------------------------------------------------

namespace host {

enum State { READY, AT_BARRIER, IN_WARP, ENDED };

struct Fibre {
    ucontext_t context;
    char* stack;
    void* fake_stack;
    State state;
    int line;                     // of the barrier or warp operation
    unsigned mask;                // of the warp operation
    unsigned long long offered;   // what this lane brought to it
    unsigned long long seen[32];  // what the lanes brought, once all have come
    int votes;                    // of a barrier that counts
    uint3 index;
};

const size_t STACK = 128 * 1024;
static std::vector<Fibre*> fibres;
static int current, n_fibres;
static ucontext_t scheduler;
static void* scheduler_fake_stack;
static const void* scheduler_stack;
static size_t scheduler_stack_size;
static void (*body)(void*);
static void* body_argument;
static std::string failure;

static void enter_fibre(Fibre* f) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, f->stack, STACK);
#endif
    threadIdx = f->index;
    swapcontext(&scheduler, &f->context);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
}

static void leave_fibre(Fibre* f) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(f->state == ENDED ? nullptr : &f->fake_stack, scheduler_stack,
                                   scheduler_stack_size);
#endif
    swapcontext(&f->context, &scheduler);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(f->fake_stack, &scheduler_stack, &scheduler_stack_size);
#endif
}

static void run_fibre() {
    Fibre* f = fibres[current];
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
    body(body_argument);
    f->state = ENDED;
    leave_fibre(f);
}

static std::string name_of(int i) {
    const uint3 t = fibres[i]->index;
    return "thread (" + std::to_string(t.x) + ", " + std::to_string(t.y) + ", " +
           std::to_string(t.z) + ") of block (" + std::to_string(blockIdx.x) + ", " +
           std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) + ")";
}

static int barrier(int line, int vote = 0) {
    Fibre* f = fibres[current];
    f->state = AT_BARRIER;
    f->line = line;
    f->votes = vote;
    leave_fibre(f);
    return fibres[current]->votes;
}

// Opens the barrier when all have come; reports threads that wait at different ones or not at all.
static bool open_barrier() {
    int first = -1, votes = 0;
    for (int i = 0; i < n_fibres; ++i) {
        Fibre* f = fibres[i];
        if (f->state == IN_WARP) {
            failure = "deadlock: " + name_of(i) + " waits at line " + std::to_string(f->line) +
                      " for lanes of its warp that never come";
            return false;
        }
        if (f->state == AT_BARRIER) {
            if (first < 0) first = i;
            votes += f->votes;
        }
    }
    for (int i = 0; i < n_fibres; ++i) {
        Fibre* f = fibres[i];
        const int line = fibres[first]->line;
        if (f->state == ENDED || f->line != line) {
            failure = "divergent barrier: " + name_of(first) + " waits at line " +
                      std::to_string(line) + ", " + name_of(i) +
                      (f->state == ENDED ? " has returned" : " at line " + std::to_string(f->line));
            return false;
        }
    }
    for (int i = 0; i < n_fibres; ++i) {
        fibres[i]->state = READY;
        fibres[i]->votes = votes;
    }
    return true;
}

// Every lane of the mask brings a value and sees what all of them brought.
static const unsigned long long* exchange(int line, unsigned mask, unsigned long long value) {
    const int warp = current / 32 * 32, lane = current % 32;
    Fibre* me = fibres[current];
    if (!(mask >> lane & 1) && failure.empty())
        failure = "warp operation at line " + std::to_string(line) + ": " + name_of(current) +
                  " is not in its own mask";
    me->state = IN_WARP;
    me->line = line;
    me->mask = mask;
    me->offered = value;
    bool complete = true;
    for (int l = 0; l < 32 && complete; ++l)
        if (mask >> l & 1) {
            const int i = warp + l;
            // Lanes beyond the block's end do not exist and are not waited for.
            if (i < n_fibres)
                complete = fibres[i]->state == IN_WARP && fibres[i]->mask == mask &&
                           fibres[i]->line == line;
        }
    if (complete) {
        for (int l = 0; l < 32; ++l)
            if (mask >> l & 1 && warp + l < n_fibres) {
                for (int k = 0; k < 32; ++k)
                    fibres[warp + l]->seen[k] =
                        mask >> k & 1 && warp + k < n_fibres ? fibres[warp + k]->offered : 0;
                fibres[warp + l]->state = READY;
            }
    } else {
        leave_fibre(me);
    }
    return fibres[current]->seen;
}

static bool run_block(bool reversed) {
    for (int i = 0; i < n_fibres; ++i) {
        Fibre* f = fibres[i];
        getcontext(&f->context);
        f->context.uc_stack.ss_sp = f->stack;
        f->context.uc_stack.ss_size = STACK;
        f->context.uc_link = &scheduler;
        f->fake_stack = nullptr;
        f->state = READY;
        f->index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        makecontext(&f->context, run_fibre, 0);
    }
    while (true) {
        bool ran = false, waiting = false;
        for (int k = 0; k < n_fibres; ++k) {
            current = reversed ? n_fibres - 1 - k : k;
            if (fibres[current]->state == READY) {
                enter_fibre(fibres[current]);
                ran = true;
                if (!failure.empty()) return false;
            }
            waiting = waiting || fibres[current]->state != ENDED;
        }
        if (ran) continue;
        if (!waiting) return true;
        if (!open_barrier()) return false;
    }
}

static void run_grid(dim3 grid, dim3 block, void (*what)(void*), void* argument, bool reversed) {
    failure.clear();
    gridDim = grid;
    blockDim = block;
    body = what;
    body_argument = argument;
    n_fibres = block.x * block.y * block.z;
    while (static_cast<int>(fibres.size()) < n_fibres) {
        fibres.push_back(new Fibre);
        fibres.back()->stack = static_cast<char*>(malloc(STACK));
    }
    const long long blocks = 1ll * grid.x * grid.y * grid.z;
    for (long long k = 0; k < blocks; ++k) {
        const long long b = reversed ? blocks - 1 - k : k;
        blockIdx = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                    static_cast<unsigned>(b / grid.x / grid.y)};
        if (!run_block(reversed)) return;
    }
}

template <class T>
static unsigned long long as_bits(T x) {
    static_assert(sizeof(T) <= 8, "warp operations move at most 8 bytes");
    unsigned long long bits = 0;
    memcpy(&bits, &x, sizeof(T));
    return bits;
}

template <class T>
static T from_bits(unsigned long long bits) {
    T x;
    memcpy(&x, &bits, sizeof(T));
    return x;
}

template <class T>
static T shuffle(int line, unsigned mask, T value, int source, bool inside) {
    const int lane = current % 32;
    const unsigned long long* seen = exchange(line, mask, as_bits(value));
    return from_bits<T>(seen[inside ? source & 31 : lane]);
}

template <class T, class F>
static T atomic(T* at, F change) {
    const T before = *at;
    *at = change(before);
    return before;
}

}  // namespace host

#define __syncthreads() host::barrier(__LINE__)
#define __syncthreads_count(x) host::barrier(__LINE__, (x) != 0)
#define __syncthreads_or(x) (host::barrier(__LINE__, (x) != 0) != 0)
#define __syncthreads_and(x) (host::barrier(__LINE__, (x) == 0) == 0)
#define HOST_FIRST_OF(a, ...) a
#define __syncwarp(...) ((void)host::exchange(__LINE__, HOST_FIRST_OF(__VA_ARGS__ __VA_OPT__(,) 0xFFFFFFFFu), 0))
#define __activemask() 0xFFFFFFFFu

#define HOST_LANE (host::current % 32)
#define HOST_WIDTH(...) HOST_FIRST_OF(__VA_ARGS__ __VA_OPT__(,) 32)
#define __shfl_sync(mask, x, source, ...) \
    host::shuffle(__LINE__, mask, x, (HOST_LANE & ~(HOST_WIDTH(__VA_ARGS__) - 1)) + \
                  ((source) & (HOST_WIDTH(__VA_ARGS__) - 1)), true)
#define __shfl_xor_sync(mask, x, bits, ...) \
    host::shuffle(__LINE__, mask, x, HOST_LANE ^ (bits), \
                  (HOST_LANE & (HOST_WIDTH(__VA_ARGS__) - 1) ^ (bits)) < HOST_WIDTH(__VA_ARGS__))
#define __shfl_down_sync(mask, x, by, ...) \
    host::shuffle(__LINE__, mask, x, HOST_LANE + (by), \
                  (HOST_LANE & (HOST_WIDTH(__VA_ARGS__) - 1)) + (by) < HOST_WIDTH(__VA_ARGS__))
#define __shfl_up_sync(mask, x, by, ...) \
    host::shuffle(__LINE__, mask, x, HOST_LANE - (by), \
                  (HOST_LANE & (HOST_WIDTH(__VA_ARGS__) - 1)) >= (by))

static inline unsigned host_ballot(int line, unsigned mask, bool yes) {
    const unsigned long long* seen = host::exchange(line, mask, yes);
    unsigned result = 0;
    for (int lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1 && seen[lane]) result |= 1u << lane;
    return result;
}
#define __ballot_sync(mask, x) host_ballot(__LINE__, mask, (x) != 0)
#define __any_sync(mask, x) (host_ballot(__LINE__, mask, (x) != 0) != 0)
#define __all_sync(mask, x) (host_ballot(__LINE__, mask, (x) == 0) == 0)

template <class T, class V> static T atomicAdd(T* at, V x) { return host::atomic(at, [=](T y) { return T(y + x); }); }
template <class T, class V> static T atomicSub(T* at, V x) { return host::atomic(at, [=](T y) { return T(y - x); }); }
template <class T, class V> static T atomicMax(T* at, V x) { return host::atomic(at, [=](T y) { return y < T(x) ? T(x) : y; }); }
template <class T, class V> static T atomicMin(T* at, V x) { return host::atomic(at, [=](T y) { return T(x) < y ? T(x) : y; }); }
template <class T, class V> static T atomicOr(T* at, V x) { return host::atomic(at, [=](T y) { return T(y | x); }); }
template <class T, class V> static T atomicAnd(T* at, V x) { return host::atomic(at, [=](T y) { return T(y & x); }); }
template <class T, class V> static T atomicExch(T* at, V x) { return host::atomic(at, [=](T) { return T(x); }); }
template <class T, class V> static T atomicCAS(T* at, V old, V x) { return host::atomic(at, [=](T y) { return y == T(old) ? T(x) : y; }); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}

// ---- arithmetic ---------------------------------------------------------------------------------

static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return 1ull * a * b >> 32; }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline float __uint_as_float(unsigned x) { return host::from_bits<float>(x); }
static inline unsigned __float_as_uint(float x) { return static_cast<unsigned>(host::as_bits(x)); }
static inline int __float_as_int(float x) { return static_cast<int>(host::as_bits(x)); }
static inline void sincospi(double x, double* s, double* c) {
    *s = sin(3.141592653589793238 * x);
    *c = cos(3.141592653589793238 * x);
}
static inline void sincospif(float x, float* s, float* c) {
    double sine, cosine;
    sincospi(x, &sine, &cosine);
    *s = static_cast<float>(sine);
    *c = static_cast<float>(cosine);
}
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }

// ---- half types: rounded to nearest, ties to even ----------------------------------------------

struct __half { unsigned short bits; };
struct __nv_bfloat16 { unsigned short bits; };

static inline float __bfloat162float(__nv_bfloat16 x) {
    return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}
static inline __nv_bfloat16 __float2bfloat16(float x) {
    const unsigned bits = __float_as_uint(x);
    if (x != x) return {0x7FFF};
    return {static_cast<unsigned short>(bits + 0x7FFF + (bits >> 16 & 1) >> 16)};
}
static inline float __half2float(__half x) {
    const unsigned sign = (x.bits & 0x8000u) << 16, e = x.bits >> 10 & 31, m = x.bits & 1023;
    if (e == 0) return (sign ? -1.f : 1.f) * static_cast<float>(m) * 5.9604644775390625e-8f;
    if (e == 31) return __uint_as_float(sign | 0x7F800000u | m << 13);
    return __uint_as_float(sign | e + 112 << 23 | m << 13);
}
static inline __half __float2half(float x) {
    const unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u;
    const float a = fabsf(x);
    if (x != x) return {0x7FFF};
    if (a >= 65520.f) return {static_cast<unsigned short>(sign | 0x7C00u)};
    if (a < 6.103515625e-5f)  // below the normal numbers: a multiple of 2^-24
        return {static_cast<unsigned short>(sign | static_cast<unsigned>(nearbyintf(a * 16777216.f)))};
    const unsigned magnitude = (bits & 0x7FFFFFFFu) - (112u << 23);
    return {static_cast<unsigned short>(sign | (magnitude + 0xFFF + (magnitude >> 13 & 1)) >> 13)};
}

// ---- calls from Python -------------------------------------------------------------------------

namespace host {

struct Launch {
    dim3 grid, block;
    void** arguments;
    bool reversed;
};

template <class T>
static const char* code() {
    if (std::is_pointer<T>::value) return "p";
    if (std::is_same<T, bool>::value) return "b1";
    if (std::is_floating_point<T>::value) return sizeof(T) == 4 ? "f4" : "f8";
    if (std::is_integral<T>::value)
        return std::is_signed<T>::value
                   ? (sizeof(T) == 1 ? "i1" : sizeof(T) == 2 ? "i2" : sizeof(T) == 4 ? "i4" : "i8")
                   : (sizeof(T) == 1 ? "u1" : sizeof(T) == 2 ? "u2" : sizeof(T) == 4 ? "u4" : "u8");
    return "?";
}

template <class... A>
struct Kernel {
    void (*function)(A...);
    void** arguments;

    template <size_t... I>
    void call(std::index_sequence<I...>) {
        function(*static_cast<typename std::remove_reference<A>::type*>(arguments[I])...);
    }

    static void run(void* self) {
        static_cast<Kernel*>(self)->call(std::index_sequence_for<A...>());
    }
};

template <class... A>
static const char* launch(void (*function)(A...), const Launch& l) {
    Kernel<A...> kernel = {function, l.arguments};
    run_grid(l.grid, l.block, Kernel<A...>::run, &kernel, l.reversed);
    return failure.empty() ? nullptr : failure.c_str();
}

template <class... A>
static const char* signature(void (*)(A...)) {
    static const std::string codes = [] {
        std::string all;
        for (const char* c : {"", code<A>()...}) all += *c ? std::string(c) + " " : "";
        return all;
    }();
    return codes.c_str();
}

}  // namespace host

#endif
