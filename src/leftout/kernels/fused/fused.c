/* Kernels of infinitely wide (leaky) ReLU networks, many pairs of inputs at once.

   The formulas are those of kernels/convolution/positions.py and kernels/wide/relu.py; here every layer of a
   pair is computed while its numbers are in a cache, and a vector holds one left input with several right
   ones ("lanes"), so that strides and borders need no shuffles.

   With s the product of two deviations and t = max(s - |K|, 0) / s, which is exactly 0 for equal inputs,

       sin theta = sqrt(t (2 - t)),     theta' = sin theta P(t),     theta = theta' or, where K < 0, pi - theta'

   P is the polynomial of least relative error for arccos(1 - t) / sqrt(t (2 - t)) on [0, 1], 3e-17 of degree
   20 and 1.2e-8 of degree 9: one root and no branch. With h = (1 + a^2) / 2, c = (1 - a)^2 / 2 pi, a leaky ReLU
   of slope a gives

       g = h - c theta,     K' = K g + c s sin theta,     T' = T g

   This file includes itself: once for either type of number, for each instruction set. It must be compiled
   with -ffp-contract=off: s - |K| of equal inputs is 0 only if s is rounded before the subtraction. */

#ifndef REAL

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define X86 1
#else
#define X86 0
#endif

#define LINE 64 /* bytes of the lanes of one number: 8 doubles or 16 floats, for every instruction set */
#define INLINE static inline __attribute__((always_inline))

enum { CONVOLUTION, RECTIFIER, FACTOR, SAVE, SWAP, ADD };
enum { NO_TANGENT, FIRST_TANGENT, TANGENT }; /* T: not wanted; K itself; carried on */
enum { OUTER, PAIRED, DEVIATIONS };          /* one left image with lanes; lane with lane; lane with itself */
enum { BASELINE, AVX2, AVX512 };

/* One instruction: images before and after it, and by how much a displacement of 1 at the readout moves them. */
typedef struct {
    int32_t operation, slot;
    int32_t size[2], stride[2], before[2];
    int32_t sides_in[2], sides_out[2];
    int32_t steps_in[2], steps_out[2];
    int32_t rectify, roots;        /* whether a rectifier follows; where its deviations begin, in positions */
    double share, bias, slope;     /* variance of weights / area, or a factor; variance of biases; a */
} Instruction;

typedef struct {
    const Instruction *instructions;
    int64_t count;
    int64_t channels;
    int64_t positions;   /* of all rectifiers together: deviations of an image */
    int64_t tangent;     /* whether T is wanted */
} Program;

/* Layers of a fully connected network after its first one, and what its inputs bring to them. */
typedef struct {
    int64_t depth, biased, tangent, ends_dense, features;
    const double *slopes; /* depth */
} Stack;

/* The part of one stage where two images overlap that are moved against each other, and where it begins in either. */
typedef struct {
    int64_t sides[2], left[2], right[2];
} Overlap;

static Overlap overlap(const int32_t *sides, const int32_t *steps, const int32_t *by) {
    Overlap at;
    for (int axis = 0; axis < 2; axis++) {
        int64_t moved = (int64_t)by[axis] * steps[axis], apart = moved < 0 ? -moved : moved;
        at.sides[axis] = sides[axis] > apart ? sides[axis] - apart : 0;
        at.left[axis] = moved < 0 ? apart : 0;
        at.right[axis] = moved > 0 ? apart : 0;
    }
    return at;
}

/* One kind of number and one instruction set after the other. */
#define COEFFICIENTS_DOUBLE                                                                               \
    {0x1.0000000000000p+0, 0x1.5555555555374p-2, 0x1.111111113329dp-3, 0x1.d41d41b5751ddp-5,              \
     0x1.a01a08e8f58a9p-6, 0x1.7a452157ca2dep-7, 0x1.5d474138e3612p-8, 0x1.441e188eb0531p-9,              \
     0x1.496b976bc23b3p-10, 0x1.24b9588373aa6p-13, 0x1.d3ceefb70b7c8p-10, -0x1.12eb66aa11978p-8,          \
     0x1.3be6d741d721bp-7, -0x1.0f745f29db386p-6, 0x1.6f0f7a1b65330p-6, -0x1.7d576e5e6ccffp-6,            \
     0x1.2c2ce88d97c2fp-6, -0x1.5a0a4cd46cb77p-7, 0x1.14aafbb757bfbp-8, -0x1.12f1b200e24a3p-10,           \
     0x1.03019a09491d3p-13}
#define COEFFICIENTS_FLOAT                                                                                \
    {1.0, 0x1.5555ec79af936p-2, 0x1.10eb1d230af98p-3, 0x1.db70dfacb644cp-5, 0x1.453b9051b9d53p-6,         \
     0x1.fb9945bf3d26ap-6, -0x1.1fe940c888b4bp-5, 0x1.aeb162d902103p-5, -0x1.12126e1ec0cb8p-5,            \
     0x1.7427380e6543fp-7}

#define JOIN2(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN2(a, b, c)
#define NAME(name) JOIN(name, REAL, SET)

#define SELF "fused.c"

/* baseline */
#define SET baseline
#define BYTES 16
#define REAL double
#define COEFFICIENTS COEFFICIENTS_DOUBLE
#define INTEGER int64_t
#include SELF
#undef REAL
#undef INTEGER
#undef COEFFICIENTS
#define REAL float
#define COEFFICIENTS COEFFICIENTS_FLOAT
#define INTEGER int32_t
#include SELF
#undef REAL
#undef INTEGER
#undef COEFFICIENTS
#undef SET
#undef BYTES

#if X86
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define SET avx2
#define BYTES 32
#define REAL double
#define COEFFICIENTS COEFFICIENTS_DOUBLE
#define INTEGER int64_t
#include SELF
#undef REAL
#undef INTEGER
#undef COEFFICIENTS
#define REAL float
#define COEFFICIENTS COEFFICIENTS_FLOAT
#define INTEGER int32_t
#include SELF
#undef REAL
#undef INTEGER
#undef COEFFICIENTS
#undef SET
#undef BYTES
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#define SET avx512
#define BYTES 64
#define REAL double
#define COEFFICIENTS COEFFICIENTS_DOUBLE
#define INTEGER int64_t
#include SELF
#undef REAL
#undef INTEGER
#undef COEFFICIENTS
#define REAL float
#define COEFFICIENTS COEFFICIENTS_FLOAT
#define INTEGER int32_t
#include SELF
#undef REAL
#undef INTEGER
#undef COEFFICIENTS
#undef SET
#undef BYTES
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

/* What is called from outside. */

#ifndef SOURCE
#define SOURCE ""
#endif
/* Of which source it was compiled: fused.c may be newer. */
__attribute__((visibility("default"))) const char *leftout_source(void) { return SOURCE; }

__attribute__((visibility("default"))) int leftout_runs(int set) {
    if (set == BASELINE) return 1;
#if X86
    __builtin_cpu_init();
    if (set == AVX2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (set == AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
#endif
    return 0;
}

__attribute__((visibility("default"))) int64_t leftout_record_bytes(int record) {
    return record == 0 ? sizeof(Instruction) : record == 1 ? sizeof(Program) : sizeof(Stack);
}

#if X86
#define CHOOSE(name, real, ...)                                                    \
    (set == AVX512 ? name##_##real##_avx512(__VA_ARGS__)                           \
     : set == AVX2 ? name##_##real##_avx2(__VA_ARGS__)                             \
                   : name##_##real##_baseline(__VA_ARGS__))
#else
#define CHOOSE(name, real, ...) name##_##real##_baseline(__VA_ARGS__)
#endif

/* Deviations of groups of images before each rectifier; 0, or 1 if there is no memory. */
__attribute__((visibility("default"))) int leftout_deviations(
    int set, int wide, const Program *program, int64_t groups, const void *pixels, void *roots) {
    return wide ? CHOOSE(deviations, double, program, groups, pixels, roots)
                : CHOOSE(deviations, float, program, groups, pixels, roots);
}

/* Numbers of groups, (groups, numbers, lanes), as those of each image, (groups lanes, numbers). */
__attribute__((visibility("default"))) void leftout_spread(int wide, int64_t groups, int64_t numbers,
                                                           const void *lanes, void *images) {
    if (wide) spread_double_baseline(groups, numbers, lanes, images);
    else spread_float_baseline(groups, numbers, lanes, images);
}

/* Sums over positions of K and of T, at the displacements from `first` to before `last` and at their opposites, of
   left images with one group of right ones, (left, 2, lanes), or of groups with themselves, (groups, 2, lanes).
   Of displacements along columns alone only those to the right are taken. Sums of opposites are added first:
   with the sides exchanged not a bit changes. */
__attribute__((visibility("default"))) int leftout_pairs(
    int set, int wide, const Program *program, int paired, const int32_t *first, const int32_t *last,
    int64_t lefts, const void *left_pixels, const void *left_roots, const void *pixels, const void *roots,
    double *sums) {
    return wide ? CHOOSE(pairs, double, program, paired, first, last, lefts, left_pixels, left_roots, pixels,
                         roots, sums)
                : CHOOSE(pairs, float, program, paired, first, last, lefts, left_pixels, left_roots, pixels,
                         roots, sums);
}

/* Cosines (rows, columns) become the kernel, in place; or, paired, (rows, 1) that of each row with its right one. */
__attribute__((visibility("default"))) void leftout_rows(
    int set, int wide, const Stack *stack, int64_t rows, int64_t columns, int64_t pitch, int paired, void *cosines,
    const void *left_rows, const void *left_mixes, const void *left_scales, const void *right_rows,
    const void *right_mixes, int64_t mixes, const void *right_scales) {
    if (wide)
        CHOOSE(stack_rows, double, stack, rows, columns, pitch, paired, cosines, left_rows, left_mixes, left_scales,
               right_rows, right_mixes, mixes, right_scales);
    else
        CHOOSE(stack_rows, float, stack, rows, columns, pitch, paired, cosines, left_rows, left_mixes, left_scales,
               right_rows, right_mixes, mixes, right_scales);
}

#else /* one type of number and one instruction set */

#define VECTOR NAME(vector)
#define MASK NAME(mask)
#define WIDE (sizeof(REAL) == 8)
#define LANES ((int)(LINE / sizeof(REAL)))
#define ACROSS ((int)(BYTES / sizeof(REAL)))  /* numbers of a vector */
#define VECTORS (LINE / BYTES)                /* vectors of the lanes of one number */
#define CHAINS (VECTORS < 4 ? 4 : VECTORS)    /* vectors side by side: arithmetic waits for none of them */
#define EACH for (int i = 0; i < n; i++)
#define TINIEST (WIDE ? (REAL)0x1p-960 : (REAL)0x1p-120)
/* A deviation below which an image counts as black here: its angles cannot matter to any digit of a kernel. */
#define BLACK (WIDE ? (REAL)0x1p-480 : (REAL)0x1p-60)
#define NEAR ((REAL)0x1p-10) /* kernels/wide/angles.py */
#define DEGREE (WIDE ? 20 : 9)

typedef REAL VECTOR __attribute__((vector_size(BYTES), aligned(BYTES), may_alias));
typedef REAL NAME(Anywhere) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER MASK __attribute__((vector_size(BYTES), aligned(BYTES), may_alias));

INLINE VECTOR NAME(all)(REAL number) { return number - (VECTOR){0}; }
INLINE VECTOR NAME(magnitude)(VECTOR a) {
    INTEGER bits = WIDE ? (INTEGER)INT64_MAX : (INTEGER)INT32_MAX;
    return (VECTOR)((MASK)a & bits);
}

/* a b + c, rounded once where there is such an instruction. */
INLINE VECTOR NAME(fma)(VECTOR a, VECTOR b, VECTOR c) {
#if BYTES == 64
    if (WIDE) return (VECTOR)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
    return (VECTOR)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif BYTES == 32
    if (WIDE) return (VECTOR)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
    return (VECTOR)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    for (int i = 0; i < ACROSS; i++) c[i] = WIDE ? __builtin_fma(a[i], b[i], c[i]) : __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#else
    return a * b + c;
#endif
}

INLINE VECTOR NAME(largest)(VECTOR a, VECTOR b) {
#if BYTES == 64
    if (WIDE) return (VECTOR)_mm512_max_pd((__m512d)a, (__m512d)b);
    return (VECTOR)_mm512_max_ps((__m512)a, (__m512)b);
#elif BYTES == 32
    if (WIDE) return (VECTOR)_mm256_max_pd((__m256d)a, (__m256d)b);
    return (VECTOR)_mm256_max_ps((__m256)a, (__m256)b);
#elif X86
    if (WIDE) return (VECTOR)_mm_max_pd((__m128d)a, (__m128d)b);
    return (VECTOR)_mm_max_ps((__m128)a, (__m128)b);
#else
    for (int i = 0; i < ACROSS; i++) a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
#endif
}

/* The square root, rounded as IEEE 754 says. */
INLINE VECTOR NAME(exact_root)(VECTOR a) {
#if BYTES == 64
    if (WIDE) return (VECTOR)_mm512_sqrt_pd((__m512d)a);
    return (VECTOR)_mm512_sqrt_ps((__m512)a);
#elif BYTES == 32
    if (WIDE) return (VECTOR)_mm256_sqrt_pd((__m256d)a);
    return (VECTOR)_mm256_sqrt_ps((__m256)a);
#elif X86
    if (WIDE) return (VECTOR)_mm_sqrt_pd((__m128d)a);
    return (VECTOR)_mm_sqrt_ps((__m128)a);
#else
    for (int i = 0; i < ACROSS; i++) a[i] = WIDE ? __builtin_sqrt(a[i]) : __builtin_sqrtf(a[i]);
    return a;
#endif
}

/* The square root of a > 0, to a rounding or two. */
INLINE VECTOR NAME(root)(VECTOR a) {
#if BYTES == 64
    /* The processor's own takes as long as 45 multiplications (24 in float). From 14 digits: with e = 1 - a y^2,
       sqrt(a) = a y (1 + e/2 + 3 e^2 / 8 + 5 e^3 / 16 + ...). */
    if (WIDE) {
        VECTOR y = (VECTOR)_mm512_rsqrt14_pd((__m512d)a), near = a * y;
        VECTOR e = (VECTOR)_mm512_fnmadd_pd((__m512d)near, (__m512d)y, (__m512d)NAME(all)(1));
        VECTOR more = NAME(fma)(NAME(fma)(NAME(all)(0.3125), e, NAME(all)(0.375)), e, NAME(all)(0.5));
        return NAME(fma)(near * e, more, near);
    }
    VECTOR y = (VECTOR)_mm512_rsqrt14_ps((__m512)a), near = a * y;
    VECTOR e = (VECTOR)_mm512_fnmadd_ps((__m512)near, (__m512)y, (__m512)NAME(all)(1));
    return NAME(fma)(near * e, NAME(all)(0.5), near);
#else
    return NAME(exact_root)(a);
#endif
}

/* Whether a number of a is below the bound. */
INLINE int NAME(any_below)(VECTOR a, REAL bound) {
#if BYTES == 64
    if (WIDE) return _mm512_cmp_pd_mask((__m512d)a, (__m512d)NAME(all)(bound), _CMP_LT_OQ) != 0;
    return _mm512_cmp_ps_mask((__m512)a, (__m512)NAME(all)(bound), _CMP_LT_OQ) != 0;
#elif BYTES == 32
    if (WIDE) return _mm256_movemask_pd((__m256d)(a < NAME(all)(bound))) != 0;
    return _mm256_movemask_ps((__m256)(a < NAME(all)(bound))) != 0;
#elif X86
    if (WIDE) return _mm_movemask_pd((__m128d)(a < NAME(all)(bound))) != 0;
    return _mm_movemask_ps((__m128)(a < NAME(all)(bound))) != 0;
#else
    MASK below = (MASK)(a < NAME(all)(bound));
    INTEGER any = 0;
    for (int i = 0; i < ACROSS; i++) any |= below[i];
    return any != 0;
#endif
}

/* P(t) for n vectors. */
INLINE void NAME(polynomial)(int n, const VECTOR *t, VECTOR *sum) {
    static const REAL coefficients[] = COEFFICIENTS;
    EACH sum[i] = NAME(all)(coefficients[DEGREE]);
#pragma GCC unroll 32
    for (int power = DEGREE - 1; power >= 0; power--)
        EACH sum[i] = NAME(fma)(sum[i], t[i], NAME(all)(coefficients[power]));
}

/* ---- images ---- */

/* What a rectifier multiplies by: g = middle + sign(K) (side - turn theta'), turn = (1 - a)^2 / 2 pi. */
typedef struct {
    REAL middle, side, turn;
} NAME(Gate);

INLINE NAME(Gate) NAME(gate)(double slope) {
    double open = (1 + slope * slope) / 2, apart = (1 - slope) * (1 - slope) / 4;
    return (NAME(Gate)){(REAL)(open - apart), (REAL)apart, (REAL)(apart * 2 / 3.14159265358979323846)};
}

/* The (leaky) ReLU of n vectors; deviations and their inverses of both images in pairs. */
INLINE void NAME(rectify)(int n, NAME(Gate) gate, VECTOR *k, VECTOR *tangent, int has_tangent, const VECTOR *left,
                          const VECTOR *left_inverse, const VECTOR *right, const VECTOR *right_inverse) {
    VECTOR s[CHAINS], t[CHAINS], u[CHAINS], sum[CHAINS];
    const VECTOR minus = NAME(all)(-(REAL)0.0);
    EACH s[i] = left[i] * right[i];
    EACH t[i] = (s[i] - NAME(magnitude)(k[i])) * (left_inverse[i] * right_inverse[i]);
    EACH t[i] = NAME(largest)(t[i], NAME(all)(TINIEST)); /* changes no digit where it was 0, and has a root */
    EACH u[i] = NAME(root)(t[i] * (2 - t[i])) * gate.turn;
    NAME(polynomial)(n, t, sum);
    EACH sum[i] = NAME(fma)(-u[i], sum[i], NAME(all)(gate.side));
    EACH sum[i] = (VECTOR)((MASK)sum[i] ^ ((MASK)k[i] & (MASK)minus)) + gate.middle;
    EACH k[i] = NAME(fma)(s[i], u[i], k[i] * sum[i]);
    if (has_tangent) EACH tangent[i] *= sum[i];
}

/* One row of images at one layer. */
typedef struct {
    const REAL *k[3], *t[3]; /* rows that are added up */
    REAL *to_k, *to_t;
    int64_t columns;
    REAL share, bias;
    NAME(Gate) gate;
    const REAL *left, *right; /* deviation and inverse of each position; of lanes of each position */
    REAL *roots;              /* where deviations are written */
} NAME(Row);

/* A number of the left image for a vector of the right ones. */
INLINE VECTOR NAME(left)(const REAL *numbers, int64_t place, int part, int mode) {
    if (mode == OUTER) return NAME(all)(numbers[place]);
    return *(const VECTOR *)(numbers + place * LANES + part * ACROSS);
}

INLINE void NAME(finish_columns)(const NAME(Row) *row, int64_t column, int n, int convolved, int rectified,
                                 int tangent, int mode) {
    int64_t at = column * LANES;
    VECTOR k[CHAINS], t[CHAINS];
    const REAL *a = row->k[0] + at, *b = row->k[1] + at, *c = row->k[2] + at;
#define OF(row) (*(const VECTOR *)((row) + i * ACROSS))
    if (convolved) {
        EACH k[i] = OF(a) + OF(b) + OF(c);
        EACH k[i] = NAME(fma)(k[i], NAME(all)(row->share), NAME(all)(row->bias));
    } else
        EACH k[i] = OF(a);
    if (tangent == TANGENT) {
        const REAL *d = row->t[0] + at, *e = row->t[1] + at, *f = row->t[2] + at;
        if (convolved) {
            EACH t[i] = OF(d) + OF(e) + OF(f);
            EACH t[i] = NAME(fma)(t[i], NAME(all)(row->share), k[i]);
        } else
            EACH t[i] = OF(d);
    } else if (tangent == FIRST_TANGENT)
        EACH t[i] = k[i];
#undef OF
    if (rectified && mode == DEVIATIONS) {
        /* No angle, to the last bit what `rectify` makes of it. Roots are rounded down: their squares do not
           exceed the variances. */
        for (int i = 0; i < n; i++) {
            VECTOR root = NAME(exact_root)(k[i]);
            root = (VECTOR)((MASK)root + (MASK)(root * root > k[i])); /* true is -1 */
            REAL *place = row->roots + (column + i / VECTORS) * 2 * LANES + i % VECTORS * ACROSS;
            *(VECTOR *)place = root;
            *(VECTOR *)(place + LANES) = (VECTOR)((MASK)(1 / root) & (MASK)(root > BLACK));
        }
        EACH k[i] *= row->gate.side + row->gate.middle;
    } else if (rectified) {
        VECTOR left[CHAINS], left_inverse[CHAINS], right[CHAINS], right_inverse[CHAINS];
        for (int i = 0; i < n; i++) {
            int64_t place = 2 * (column + i / VECTORS);
            int part = i % VECTORS;
            left[i] = NAME(left)(row->left, place, part, mode);
            left_inverse[i] = NAME(left)(row->left, place + 1, part, mode);
            right[i] = *(const VECTOR *)(row->right + place * LANES + part * ACROSS);
            right_inverse[i] = *(const VECTOR *)(row->right + (place + 1) * LANES + part * ACROSS);
        }
        NAME(rectify)(n, row->gate, k, t, tangent != NO_TANGENT, left, left_inverse, right, right_inverse);
    }
    EACH *(VECTOR *)(row->to_k + at + i * ACROSS) = k[i];
    if (tangent != NO_TANGENT) EACH *(VECTOR *)(row->to_t + at + i * ACROSS) = t[i];
}

INLINE void NAME(finish_row)(const NAME(Row) *row, int convolved, int rectified, int tangent, int mode) {
    int64_t column = 0;
    for (; column + CHAINS / VECTORS <= row->columns; column += CHAINS / VECTORS)
        NAME(finish_columns)(row, column, CHAINS, convolved, rectified, tangent, mode);
    for (; column < row->columns; column++)
        NAME(finish_columns)(row, column, VECTORS, convolved, rectified, tangent, mode);
}

/* Each combination is a loop of its own. */
static void NAME(finish)(const NAME(Row) *row, int convolved, int rectified, int tangent, int mode) {
#define CASE(c, r, t, m)                                       \
    if (convolved == c && rectified == r && tangent == t && mode == m) { \
        NAME(finish_row)(row, c, r, t, m);                     \
        return;                                                \
    }
#define MODES(c, r, t) CASE(c, r, t, OUTER) CASE(c, r, t, PAIRED)
    MODES(1, 1, TANGENT)
    MODES(1, 1, FIRST_TANGENT)
    MODES(1, 1, NO_TANGENT)
    MODES(0, 1, TANGENT)
    MODES(0, 1, NO_TANGENT)
    CASE(1, 1, NO_TANGENT, DEVIATIONS)
    CASE(0, 1, NO_TANGENT, DEVIATIONS)
    /* Without a rectifier nothing is read of either image. */
    if (tangent == TANGENT) NAME(finish_row)(row, 1, 0, TANGENT, OUTER);
    else if (tangent == FIRST_TANGENT) NAME(finish_row)(row, 1, 0, FIRST_TANGENT, OUTER);
    else NAME(finish_row)(row, 1, 0, NO_TANGENT, OUTER);
#undef MODES
#undef CASE
}

/* Sums of `size` neighbours of a row; zeros lie beside it. */
static void NAME(sum_columns)(const REAL *from, int64_t count_in, REAL *to, int64_t count_out, int size, int stride,
                              int before) {
#define AT(numbers, place, part) (*(VECTOR *)((REAL *)(numbers) + (place) * LANES + (part) * ACROSS))
    if (size == 3 && stride == 1 && before == 1 && count_in == count_out && count_in > 1) {
        int64_t last = count_in - 1;
        for (int part = 0; part < VECTORS; part++) {
            VECTOR a = AT(from, 0, part), b = AT(from, 1, part);
            AT(to, 0, part) = a + b;
            for (int64_t j = 1; j < last; j++) {
                VECTOR c = AT(from, j + 1, part);
                AT(to, j, part) = a + b + c;
                a = b;
                b = c;
            }
            AT(to, last, part) = a + b;
        }
        return;
    }
    for (int64_t j = 0; j < count_out; j++) {
        int64_t first = j * stride - before, end = first + size;
        if (first < 0) first = 0;
        if (end > count_in) end = count_in;
        for (int part = 0; part < VECTORS; part++) {
            VECTOR sum = NAME(all)(0);
            for (int64_t place = first; place < end; place++) sum += AT(from, place, part);
            AT(to, j, part) = sum;
        }
    }
}

/* Covariance and tangent kernel at all positions, one displacement of either image; saved ones of residuals. */
typedef struct {
    REAL *k, *t;
    int has_tangent, rows, columns;
} NAME(Tile);

typedef struct {
    const Program *program;
    int64_t pitch; /* numbers of a row */
    int64_t rows, ring, slots;
    void *memory;
    NAME(Tile) *tiles; /* the first is worked on */
    REAL *ring_k, *ring_t, *zeros, *sum_k, *sum_t;
} NAME(Scratch);

static int NAME(reserve)(NAME(Scratch) *scratch, const Program *program) {
    int64_t rows = 1, columns = 1, ring = 1, slots = 1;
    for (int64_t i = 0; i < program->count; i++) {
        const Instruction *step = program->instructions + i;
#define RAISE(most, number) if ((most) < (number)) (most) = (number)
        RAISE(rows, step->sides_in[0]);
        RAISE(rows, step->sides_out[0]);
        RAISE(columns, step->sides_in[1]);
        RAISE(columns, step->sides_out[1]);
        RAISE(ring, step->size[0]);
        RAISE(ring, step->before[0] + 1);
        RAISE(slots, step->slot + 2);
#undef RAISE
    }
    /* An odd number of lines: a number and the one below it do not get in each other's way in a cache. */
    int64_t pitch = (columns | 1) * LANES, tile = (rows * (columns | 1) + 5) * LANES;
    int64_t numbers = 2 * slots * tile + (2 * ring + 3) * pitch;
    *scratch = (NAME(Scratch)){.program = program, .pitch = pitch, .rows = rows, .ring = ring, .slots = slots};
    scratch->tiles = calloc(slots, sizeof(NAME(Tile)));
    if (!scratch->tiles || posix_memalign(&scratch->memory, LINE, numbers * sizeof(REAL))) {
        free(scratch->tiles);
        return 1;
    }
    REAL *next = scratch->memory;
    for (int64_t i = 0; i < slots; i++, next += 2 * tile) scratch->tiles[i].k = next, scratch->tiles[i].t = next + tile;
    scratch->ring_k = next;
    scratch->ring_t = next += ring * pitch;
    scratch->zeros = next += ring * pitch;
    scratch->sum_k = next += pitch;
    scratch->sum_t = next += pitch;
    memset(scratch->zeros, 0, pitch * sizeof(REAL));
    return 0;
}

static void NAME(release)(NAME(Scratch) *scratch) {
    free(scratch->tiles);
    free(scratch->memory);
}

/* What is computed together: one left image with a group of right ones, at one displacement. */
typedef struct {
    int mode;
    const int32_t *by;
    const REAL *left_pixels, *left_roots, *pixels, *roots;
    REAL *written; /* roots, where deviations are what is wanted */
} NAME(Task);

/* Where a row of an image at one stage begins among its numbers. */
INLINE int64_t NAME(place)(const int32_t *sides, const int64_t *start, int64_t row) {
    return (start[0] + row) * sides[1] + start[1];
}

/* Products of n vectors of pixels, from one column on, over channels. */
INLINE void NAME(multiply_columns)(int n, const REAL *left, const REAL *right, REAL *to, int64_t channels, int64_t area,
                                   REAL share, int mode) {
    VECTOR sum[CHAINS];
    EACH sum[i] = NAME(all)(0);
    for (int64_t channel = 0; channel < channels; channel++) {
        EACH sum[i] = NAME(fma)(NAME(left)(left, i / VECTORS, i % VECTORS, mode), AT(right, 0, i), sum[i]);
        left += mode == OUTER ? area : area * LANES;
        right += area * LANES;
    }
    EACH AT(to, 0, i) = sum[i] * share;
}

INLINE void NAME(multiply_row)(const REAL *left, const REAL *right, REAL *to, int64_t columns, int64_t channels,
                               int64_t area, REAL share, int mode) {
    int64_t column = 0, numbers = mode == OUTER ? 1 : LANES;
    for (; column + CHAINS / VECTORS <= columns; column += CHAINS / VECTORS)
        NAME(multiply_columns)(CHAINS, left + column * numbers, right + column * LANES, to + column * LANES, channels,
                               area, share, mode);
    for (; column < columns; column++)
        NAME(multiply_columns)(VECTORS, left + column * numbers, right + column * LANES, to + column * LANES, channels,
                               area, share, mode);
}

static void NAME(multiply_pixels)(NAME(Scratch) *scratch, const NAME(Task) *task) {
    const Instruction *step = scratch->program->instructions;
    Overlap at = overlap(step->sides_in, step->steps_in, task->by);
    int64_t channels = scratch->program->channels, area = (int64_t)step->sides_in[0] * step->sides_in[1];
    REAL share = (REAL)(1.0 / channels);
    for (int64_t row = 0; row < at.sides[0]; row++) {
        int64_t left = NAME(place)(step->sides_in, at.left, row), right = NAME(place)(step->sides_in, at.right, row);
        REAL *to = scratch->tiles[0].k + row * scratch->pitch;
        const REAL *z = task->pixels + right * LANES;
        if (task->mode == OUTER)
            NAME(multiply_row)(task->left_pixels + left, z, to, at.sides[1], channels, area, share, OUTER);
        else
            NAME(multiply_row)(task->left_pixels + left * LANES, z, to, at.sides[1], channels, area, share, PAIRED);
    }
    scratch->tiles[0].has_tangent = 0;
    scratch->tiles[0].rows = at.sides[0];
    scratch->tiles[0].columns = at.sides[1];
}

/* Point to what a rectifier needs of a row of both images. */
static void NAME(find_roots)(NAME(Row) *row, const Instruction *step, const NAME(Task) *task, const Overlap *at,
                             int64_t number) {
    int64_t left = 2 * (step->roots + NAME(place)(step->sides_out, at->left, number));
    int64_t right = 2 * (step->roots + NAME(place)(step->sides_out, at->right, number));
    row->left = task->left_roots + (task->mode == OUTER ? left : left * LANES);
    row->right = task->roots + right * LANES;
    row->roots = task->written ? task->written + right * LANES : 0;
}

/* A convolution, and the rectifier behind it, in place: rows are summed along columns as they are first needed. */
static void NAME(convolve)(NAME(Scratch) *scratch, const Instruction *step, const NAME(Task) *task) {
    NAME(Tile) *tile = scratch->tiles;
    Overlap at = overlap(step->sides_out, step->steps_out, task->by);
    int carried = tile->has_tangent, wanted = scratch->program->tangent && task->mode != DEVIATIONS;
    int tangent = !wanted ? NO_TANGENT : carried ? TANGENT : FIRST_TANGENT;
    int64_t pitch = scratch->pitch, next = 0, size = step->size[0];
    /* A window of one place: nothing is summed. */
    int direct = size == 1 && step->before[0] == 0 && step->size[1] == 1 && step->stride[1] == 1 && step->before[1] == 0;
    NAME(Row) row = {.columns = at.sides[1], .share = (REAL)step->share, .bias = (REAL)step->bias,
                     .gate = NAME(gate)(step->slope)};
    for (int64_t number = 0; number < at.sides[0]; number++) {
        int64_t first = number * step->stride[0] - step->before[0], end = first + size;
        /* What is written over is read before. */
        int64_t upto = number + 1 > end ? number + 1 : end;
        if (first < 0) first = 0;
        if (end > tile->rows) end = tile->rows;
        if (upto > tile->rows) upto = tile->rows;
        if (next < first) next = first;
        for (; next < upto && !direct; next++) {
            int64_t slot = next % scratch->ring * pitch;
            NAME(sum_columns)(tile->k + next * pitch, tile->columns, scratch->ring_k + slot, at.sides[1],
                              step->size[1], step->stride[1], step->before[1]);
            if (tangent == TANGENT)
                NAME(sum_columns)(tile->t + next * pitch, tile->columns, scratch->ring_t + slot, at.sides[1],
                                  step->size[1], step->stride[1], step->before[1]);
        }
        int count = 0;
        for (; first < end; first++) {
            int64_t slot = first % scratch->ring * pitch;
            const REAL *k = direct ? tile->k + first * pitch : scratch->ring_k + slot;
            const REAL *t = direct ? tile->t + first * pitch : scratch->ring_t + slot;
            if (count == 3) { /* three at once are read below */
                for (int64_t j = 0; j < at.sides[1]; j++)
                    for (int part = 0; part < VECTORS; part++) {
                        AT(scratch->sum_k, j, part) = AT(row.k[0], j, part) + AT(row.k[1], j, part);
                        if (tangent == TANGENT)
                            AT(scratch->sum_t, j, part) = AT(row.t[0], j, part) + AT(row.t[1], j, part);
                    }
                row.k[0] = scratch->sum_k;
                row.t[0] = scratch->sum_t;
                row.k[1] = row.k[2];
                row.t[1] = row.t[2];
                count = 2;
            }
            row.k[count] = k;
            row.t[count++] = t;
        }
        for (; count < 3; count++) row.k[count] = row.t[count] = scratch->zeros;
        row.to_k = tile->k + number * pitch;
        row.to_t = tile->t + number * pitch;
        if (step->rectify) NAME(find_roots)(&row, step, task, &at, number);
        NAME(finish)(&row, 1, step->rectify, tangent, task->mode);
    }
    tile->rows = at.sides[0];
    tile->columns = at.sides[1];
    tile->has_tangent = wanted;
}

static void NAME(rectify_tile)(NAME(Scratch) *scratch, const Instruction *step, const NAME(Task) *task) {
    NAME(Tile) *tile = scratch->tiles;
    Overlap at = overlap(step->sides_out, step->steps_out, task->by);
    NAME(Row) row = {.columns = at.sides[1], .gate = NAME(gate)(step->slope)};
    for (int64_t number = 0; number < at.sides[0]; number++) {
        row.k[0] = row.to_k = tile->k + number * scratch->pitch;
        row.t[0] = row.to_t = tile->t + number * scratch->pitch;
        row.k[1] = row.k[2] = row.t[1] = row.t[2] = scratch->zeros;
        NAME(find_roots)(&row, step, task, &at, number);
        NAME(finish)(&row, 0, 1, tile->has_tangent ? TANGENT : NO_TANGENT, task->mode);
    }
}

/* For each number of a tile: into, from. */
#define FOR_NUMBERS(tile)                                                    \
    for (int64_t row_ = 0; row_ < (tile)->rows; row_++)                      \
        for (int64_t at = row_ * scratch->pitch; at < row_ * scratch->pitch + (int64_t)(tile)->columns * LANES; at += ACROSS)
#define NUMBER(numbers) (*(VECTOR *)((numbers) + at))

static void NAME(multiply_tile)(NAME(Scratch) *scratch, REAL factor) {
    NAME(Tile) *tile = scratch->tiles;
    FOR_NUMBERS(tile) NUMBER(tile->k) *= factor;
    if (tile->has_tangent) FOR_NUMBERS(tile) NUMBER(tile->t) *= factor;
}

static void NAME(save_tile)(NAME(Scratch) *scratch, int slot) {
    NAME(Tile) *tile = scratch->tiles, *saved = tile + 1 + slot;
    saved->rows = tile->rows;
    saved->columns = tile->columns;
    saved->has_tangent = tile->has_tangent;
    FOR_NUMBERS(tile) NUMBER(saved->k) = NUMBER(tile->k);
    if (tile->has_tangent) FOR_NUMBERS(tile) NUMBER(saved->t) = NUMBER(tile->t);
}

static void NAME(swap_tile)(NAME(Scratch) *scratch, int slot) {
    NAME(Tile) tile = scratch->tiles[0];
    scratch->tiles[0] = scratch->tiles[1 + slot];
    scratch->tiles[1 + slot] = tile;
}

static void NAME(add_tile)(NAME(Scratch) *scratch, int slot) {
    NAME(Tile) *tile = scratch->tiles, *saved = tile + 1 + slot;
    FOR_NUMBERS(tile) NUMBER(tile->k) += NUMBER(saved->k);
    if (saved->has_tangent && tile->has_tangent) FOR_NUMBERS(tile) NUMBER(tile->t) += NUMBER(saved->t);
    else if (saved->has_tangent) FOR_NUMBERS(tile) NUMBER(tile->t) = NUMBER(saved->t);
    tile->has_tangent |= saved->has_tangent;
}

static void NAME(run)(NAME(Scratch) *scratch, const NAME(Task) *task) {
    NAME(multiply_pixels)(scratch, task);
    for (int64_t i = 0; i < scratch->program->count; i++) {
        const Instruction *step = scratch->program->instructions + i;
        switch (step->operation) {
            case CONVOLUTION: NAME(convolve)(scratch, step, task); break;
            case RECTIFIER: NAME(rectify_tile)(scratch, step, task); break;
            case FACTOR: NAME(multiply_tile)(scratch, (REAL)step->share); break;
            case SAVE: NAME(save_tile)(scratch, step->slot); break;
            case SWAP: NAME(swap_tile)(scratch, step->slot); break;
            case ADD: NAME(add_tile)(scratch, step->slot); break;
        }
    }
}

static int NAME(deviations)(const Program *program, int64_t groups, const void *pixels, void *roots) {
    NAME(Scratch) scratch;
    if (NAME(reserve)(&scratch, program)) return 1;
    const int32_t by[2] = {0, 0};
    int64_t area = (int64_t)program->instructions[0].sides_in[0] * program->instructions[0].sides_in[1];
    for (int64_t group = 0; group < groups; group++) {
        const REAL *of_group = (const REAL *)pixels + group * program->channels * area * LANES;
        REAL *written = (REAL *)roots + group * program->positions * 2 * LANES;
        NAME(Task) task = {DEVIATIONS, by, of_group, written, of_group, written, written};
        NAME(run)(&scratch, &task);
    }
    NAME(release)(&scratch);
    return 0;
}

#if BYTES == 16
static void NAME(spread)(int64_t groups, int64_t numbers, const void *lanes, void *images) {
    for (int64_t group = 0; group < groups; group++)
        for (int64_t start = 0; start < numbers; start += 64) /* lines that a cache holds */
            for (int lane = 0; lane < LANES; lane++) {
                const REAL *from = (const REAL *)lanes + group * numbers * LANES + lane;
                REAL *to = (REAL *)images + (group * LANES + lane) * numbers;
                int64_t end = start + 64 < numbers ? start + 64 : numbers;
                for (int64_t i = start; i < end; i++) to[i] = from[i * LANES];
            }
}
#endif

/* The sum over rows, each in the type of the numbers and their sum in double. */
static void NAME(add_positions)(const NAME(Scratch) *scratch, const NAME(Tile) *tile, const REAL *numbers, double *sums) {
    for (int64_t number = 0; number < tile->rows; number++) {
        const REAL *row = numbers + number * scratch->pitch;
        int64_t vectors = (int64_t)tile->columns * VECTORS, at = 0;
        VECTOR sum[CHAINS];
        for (int i = 0; i < CHAINS; i++) sum[i] = NAME(all)(0);
        for (; at + CHAINS <= vectors; at += CHAINS)
            for (int i = 0; i < CHAINS; i++) sum[i] += AT(row, 0, at + i);
        for (int i = 0; at + i < vectors; i++) sum[i] += AT(row, 0, at + i);
        for (int i = VECTORS; i < CHAINS; i++) sum[i % VECTORS] += sum[i];
        for (int part = 0; part < VECTORS; part++)
            for (int lane = 0; lane < ACROSS; lane++) sums[part * ACROSS + lane] += sum[part][lane];
    }
}

static int NAME(pairs)(const Program *program, int paired, const int32_t *first, const int32_t *last, int64_t lefts,
                       const void *left_pixels, const void *left_roots, const void *pixels, const void *roots,
                       double *sums) {
    NAME(Scratch) scratch;
    if (NAME(reserve)(&scratch, program)) return 1;
    int64_t lanes = paired ? LANES : 1;
    int64_t of_pixels = (int64_t)program->instructions[0].sides_in[0] * program->instructions[0].sides_in[1] * program->channels * lanes;
    int64_t of_roots = program->positions * 2 * lanes;
    for (int64_t i = 0; i < lefts; i++) {
        const REAL *x = (const REAL *)left_pixels + i * of_pixels, *x_roots = (const REAL *)left_roots + i * of_roots;
        const REAL *z = paired ? x : pixels, *z_roots = paired ? x_roots : roots;
        double *to = sums + 2 * i * LANES;
        memset(to, 0, 2 * LANES * sizeof(double));
        for (int32_t down = first[0]; down < last[0]; down++)
            for (int32_t across = first[1]; across < last[1]; across++) {
                if (down == 0 && across < 0) continue;
                double opposites[2][2 * LANES] = {{0}};
                for (int sign = 0; sign < (down || across ? 2 : 1); sign++) {
                    const int32_t by[2] = {sign ? -down : down, sign ? -across : across};
                    NAME(Task) task = {paired ? PAIRED : OUTER, by, x, x_roots, z, z_roots, 0};
                    NAME(run)(&scratch, &task);
                    NAME(Tile) *tile = scratch.tiles;
                    NAME(add_positions)(&scratch, tile, tile->k, opposites[sign]);
                    if (tile->has_tangent) NAME(add_positions)(&scratch, tile, tile->t, opposites[sign] + LANES);
                }
                for (int lane = 0; lane < 2 * LANES; lane++) to[lane] += opposites[0][lane] + opposites[1][lane];
            }
    }
    NAME(release)(&scratch);
    return 0;
}

/* ---- rows ---- */

/* 1 - s cos = |a - s b|^2 / 2 of unit rows: no digit is lost where it is small. */
static REAL NAME(near_gap)(const REAL *a, const REAL *b, int64_t features, REAL sign) {
    VECTOR sum[4], one = NAME(all)(0);
    for (int i = 0; i < 4; i++) sum[i] = one;
    int64_t at = 0;
    for (; at + 4 * ACROSS <= features; at += 4 * ACROSS)
        for (int i = 0; i < 4; i++) {
            VECTOR x, z;
            memcpy(&x, a + at + i * ACROSS, BYTES);
            memcpy(&z, b + at + i * ACROSS, BYTES);
            x -= z * sign;
            sum[i] = NAME(fma)(x, x, sum[i]);
        }
    one = sum[0] + sum[1] + sum[2] + sum[3];
    REAL total = 0;
    for (int lane = 0; lane < ACROSS; lane++) total += one[lane];
    for (; at < features; at++) {
        REAL x = a[at] - b[at] * sign;
        total += x * x;
    }
    return total / 2;
}

/* The kernel of one left row with n vectors of right ones. */
INLINE void NAME(stack_vectors)(const Stack *stack, int n, REAL *cosines, int64_t count, const REAL *left_row,
                                const REAL *left_mix, REAL left_scale, const REAL *right_rows,
                                const REAL *right_mixes, int64_t mixes, const REAL *right_scales, int biased) {
    VECTOR gap[CHAINS], total[CHAINS], tangent[CHAINS], both[CHAINS];
    VECTOR least[CHAINS], theta[CHAINS], sine[CHAINS];
    EACH both[i] = *(NAME(Anywhere) *)(cosines + i * ACROSS);
    EACH gap[i] = 1 - both[i];
    EACH total[i] = 1 + both[i];
    EACH least[i] = -NAME(largest)(-gap[i], -total[i]);
    int near = 0;
    EACH near |= NAME(any_below)(least[i], NEAR);
    if (near) {
        REAL gaps[CHAINS * ACROSS] __attribute__((aligned(LINE))), totals[CHAINS * ACROSS] __attribute__((aligned(LINE)));
        EACH *(VECTOR *)(gaps + i * ACROSS) = gap[i];
        EACH *(VECTOR *)(totals + i * ACROSS) = total[i];
        for (int64_t j = 0; j < count; j++) {
            if (gaps[j] >= NEAR && totals[j] >= NEAR) continue;
            REAL sign = gaps[j] < NEAR ? 1 : -1;
            REAL small = NAME(near_gap)(left_row, right_rows + j * stack->features, stack->features, sign);
            gaps[j] = sign > 0 ? small : 2 - small;
            totals[j] = sign > 0 ? 2 - small : small;
        }
        EACH gap[i] = *(VECTOR *)(gaps + i * ACROSS);
        EACH total[i] = *(VECTOR *)(totals + i * ACROSS);
    }
#define MIX(layer, part) (*(const NAME(Anywhere) *)(right_mixes + (2 * (layer) + (part)) * mixes + i * ACROSS))
    for (int64_t layer = 0;; layer++) {
        /* A dense layer, of deviations 1 on either side: cosines of the angles that biases make, kernels/fused. */
        if (biased) {
            REAL weight = left_mix[2 * layer], bias = left_mix[2 * layer + 1];
            VECTOR apart[CHAINS], across[CHAINS];
            EACH both[i] = weight * MIX(layer, 0);
            EACH apart[i] = weight - MIX(layer, 0);
            EACH across[i] = bias - MIX(layer, 1);
            EACH apart[i] *= apart[i];
            EACH across[i] = NAME(fma)(across[i], across[i], apart[i]) * (REAL)0.5;
            EACH gap[i] = NAME(fma)(both[i], gap[i], across[i]);
            if (layer == 0) {
                EACH across[i] = bias + MIX(layer, 1);
                EACH across[i] = NAME(fma)(across[i], across[i], apart[i]) * (REAL)0.5;
                EACH total[i] = NAME(fma)(both[i], total[i], across[i]);
            } else
                EACH total[i] = 2 - gap[i];
        }
        VECTOR cosine[CHAINS];
        EACH cosine[i] = (total[i] - gap[i]) * (REAL)0.5;
        if (layer == 0) EACH tangent[i] = cosine[i];
        else if (biased) EACH tangent[i] = NAME(fma)(tangent[i], both[i], cosine[i]);
        else EACH tangent[i] += cosine[i];
        if (layer == stack->depth) break;
        /* A rectifier. */
        double slope = stack->slopes[layer], open = (1 + slope * slope) / 2;
        REAL turn = (REAL)((1 - slope) * (1 - slope) / (2 * 3.14159265358979323846) / open);
        EACH least[i] = -NAME(largest)(-gap[i], -total[i]);
        EACH sine[i] = NAME(root)(NAME(largest)(gap[i] * total[i], NAME(all)(TINIEST)));
        NAME(polynomial)(n, least, theta);
        EACH theta[i] *= sine[i];
        /* theta' or, beyond a right angle, pi - theta': a small angle keeps all of its digits. */
        VECTOR half_turn = NAME(all)((REAL)3.14159265358979323846);
        EACH theta[i] += (VECTOR)((MASK)(half_turn - 2 * theta[i]) & ((MASK)cosine[i] >> (8 * (int)sizeof(REAL) - 1)));
        EACH gap[i] = NAME(largest)(NAME(fma)(sine[i] - theta[i] * cosine[i], NAME(all)(-turn), gap[i]), NAME(all)(0));
        EACH total[i] = 2 - gap[i];
        EACH tangent[i] *= NAME(fma)(theta[i], NAME(all)(-turn), NAME(all)(1));
        if (layer == stack->depth - 1 && !stack->ends_dense) break;
    }
#undef MIX
    if (!stack->tangent) EACH tangent[i] = 1 - gap[i];
    EACH *(NAME(Anywhere) *)(cosines + i * ACROSS) =
        tangent[i] * left_scale * *(const NAME(Anywhere) *)(right_scales + i * ACROSS);
}

static void NAME(stack_rows)(const Stack *stack, int64_t rows, int64_t columns, int64_t pitch, int paired, void *cosines,
                             const void *left_rows, const void *left_mixes, const void *left_scales,
                             const void *right_rows, const void *right_mixes, int64_t mixes,
                             const void *right_scales) {
    enum { TOGETHER = CHAINS * ACROSS };
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < columns; column += TOGETHER) {
            int64_t from = paired ? row : column;
            REAL held[TOGETHER] __attribute__((aligned(LINE)));
            int64_t count = columns - column < TOGETHER ? columns - column : TOGETHER;
            REAL *at = (REAL *)cosines + row * pitch + column, *worked_on = count < TOGETHER ? held : at;
            if (count < TOGETHER) {
                memset(held, 0, sizeof held);
                memcpy(held, at, count * sizeof(REAL));
            }
            const REAL *left_row = (const REAL *)left_rows + row * stack->features;
            const REAL *left_mix = stack->biased ? (const REAL *)left_mixes + row * 2 * (stack->depth + 1) : 0;
            REAL left_scale = ((const REAL *)left_scales)[row];
            const REAL *right_row = (const REAL *)right_rows + from * stack->features;
            const REAL *right_scale = (const REAL *)right_scales + from;
            if (stack->biased)
                NAME(stack_vectors)(stack, CHAINS, worked_on, count, left_row, left_mix, left_scale, right_row,
                                    (const REAL *)right_mixes + from, mixes, right_scale, 1);
            else
                NAME(stack_vectors)(stack, CHAINS, worked_on, count, left_row, 0, left_scale, right_row, 0, 0,
                                    right_scale, 0);
            if (count < TOGETHER) memcpy(at, held, count * sizeof(REAL));
        }
}

#undef VECTOR
#undef MASK
#undef WIDE
#undef LANES
#undef ACROSS
#undef VECTORS
#undef CHAINS
#undef EACH
#undef TINIEST
#undef BLACK
#undef NEAR
#undef DEGREE
#undef AT
#undef FOR_NUMBERS
#undef NUMBER

#endif
