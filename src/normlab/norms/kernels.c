/* The layers of _core.py on a CPU, in as few passes over memory as they allow. Tensors are float32,
   bfloat16 or float16, parameters float32. Values of 16 bits become float32 as they are read, and a
   result is rounded as it is written, once.

   The formulas are those of `definition` and `_Lean` in _core.py, for one or two parts. Sums are
   taken in float32 over CHUNK values at most, and merged in float64 (Chan, Golub & LeVeque 1983).
   A map belongs to one thread, the images are pooled in their order, and no operation is reordered
   or contracted, so the bits depend neither on the threads nor on the processor.

   A tensor is dense and in one of two layouts: `last` (N, H, W, C in memory) or (N, C, H, W). */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__F16C__) && defined(__AVX__)
#include <immintrin.h>
#define NEAREST (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#endif

enum { LANES = 16, CHUNK = 64, MOST_PARTS = 2, ABREAST = 4, IN_CACHE = 1 << 18 };

#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline)) /* too long to be everywhere */
#define EACH for (int lane = 0; lane < LANES; lane++)

/* Doubles of each lane: an array, since compilers make the best of loops over it. */
typedef struct {
    double of[LANES];
} Wide;

/* Sum of the lanes: halves onto each other, until one is left. */
INLINE double add_up(Wide v) {
    for (int half = LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++) v.of[lane] += v.of[lane + half];
    return v.of[0];
}

/* Floats of each lane, in the processor's own vectors: compilers keep wider ones in memory. */
#if defined(__AVX512F__)
enum { AT_ONCE = 16 };
#elif defined(__AVX__)
enum { AT_ONCE = 8 };
#else
enum { AT_ONCE = 4 };
#endif
typedef float Vector __attribute__((vector_size(AT_ONCE * sizeof(float))));
typedef int32_t Mask __attribute__((vector_size(AT_ONCE * sizeof(int32_t))));
typedef struct {
    Vector of[LANES / AT_ONCE];
} vf;
#define EACH_VECTOR for (int i = 0; i < LANES / AT_ONCE; i++)

/* Types of a tensor's values. The 16-bit ones are integers to the compiler, which need not know
   them. */
enum { FLOAT32, BFLOAT16, FLOAT16 };
typedef uint32_t Bits __attribute__((vector_size(AT_ONCE * sizeof(uint32_t))));
typedef uint16_t Short __attribute__((vector_size(AT_ONCE * sizeof(uint16_t))));

/* Makes a call in which TYPE, a constant, is the type that is asked for. */
#define BY_TYPE(type, call) \
    switch (type) { \
        case FLOAT32: { enum { TYPE = FLOAT32 }; call; break; } \
        case BFLOAT16: { enum { TYPE = BFLOAT16 }; call; break; } \
        default: { enum { TYPE = FLOAT16 }; call; } \
    }

INLINE vf plus(vf a, vf b) {
    EACH_VECTOR a.of[i] += b.of[i];
    return a;
}

INLINE vf minus(vf a, vf b) {
    EACH_VECTOR a.of[i] -= b.of[i];
    return a;
}

INLINE vf times(vf a, vf b) {
    EACH_VECTOR a.of[i] *= b.of[i];
    return a;
}

INLINE vf everywhere(float number) {
    vf v;
    EACH_VECTOR v.of[i] = number - (Vector){0};
    return v;
}

/* `lanes` floats; the other lanes are 0. All of them are one move for each vector. */
INLINE vf load(const float *from, int lanes) {
    vf v;
    if (lanes == LANES) {
        EACH_VECTOR memcpy(&v.of[i], from + i * AT_ONCE, sizeof(Vector));
        return v;
    }
    EACH_VECTOR v.of[i] = (Vector){0};
    memcpy(&v, from, (size_t)lanes * sizeof(float));
    return v;
}

INLINE void store(float *to, vf v, int lanes) {
    if (lanes == LANES)
        EACH_VECTOR memcpy(to + i * AT_ONCE, &v.of[i], sizeof(Vector));
    else
        memcpy(to, &v, (size_t)lanes * sizeof(float));
}

/* The numbers of each lane in the other width. GCC has an operation for it since version 9. */
#if defined(__clang__) || __GNUC__ > 8
INLINE Bits wide(Short from) { return __builtin_convertvector(from, Bits); }
INLINE Short narrow(Bits from) { return __builtin_convertvector(from, Short); }
#else
INLINE Bits wide(Short from) {
    Bits to;
    for (int i = 0; i < AT_ONCE; i++) to[i] = from[i];
    return to;
}
INLINE Short narrow(Bits from) {
    Short to;
    for (int i = 0; i < AT_ONCE; i++) to[i] = (uint16_t)from[i];
    return to;
}
#endif

INLINE Bits either(Bits where, Bits a, Bits b) { return (a & where) | (b & ~where); }

#if defined(__F16C__) && defined(__AVX512F__)
INLINE Vector floats_of(Short from) { return (Vector)_mm512_cvtph_ps((__m256i)from); }
INLINE Short float16_of(Vector from) { return (Short)_mm512_cvtps_ph((__m512)from, NEAREST); }
#elif defined(__F16C__) && defined(__AVX__)
INLINE Vector floats_of(Short from) { return (Vector)_mm256_cvtph_ps((__m128i)from); }
INLINE Short float16_of(Vector from) { return (Short)_mm256_cvtps_ph((__m256)from, NEAREST); }
#else
/* Of values below 2^31, which compare as signed. */
INLINE Bits is_below(Bits v, uint32_t limit) { return (Bits)((Mask)v < (int32_t)limit); }

/* The exponent of a float16 is 112 below that of a float. Infinity and NaN have the highest one.
   Subnormal values count in units of 2^-24: as digits after 2^-14, which is taken away. */
APART Vector floats_of(Short from) {
    Bits v = wide(from);
    Bits sign = (v & 0x8000) << 16, size = (v & 0x7fff) << 13;
    Bits normal = size + (112u << 23) + (~is_below(size, 0x7c00u << 13) & (112u << 23));
    Bits subnormal = (Bits)((Vector)(size + (113u << 23)) - 0x1p-14f);
    return (Vector)(sign | either(is_below(size, 0x400u << 13), subnormal, normal));
}

/* The other way. Adding 1/2, whose last digit is 2^-24, rounds to subnormal values. */
APART Short float16_of(Vector from) {
    Bits v = (Bits)from, sign = v >> 16 & 0x8000, size = v & 0x7fffffff;
    Bits normal = (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13;
    Bits subnormal = (Bits)((Vector)size + 0.5f) - (126u << 23);
    Bits found = either(is_below(size, 113u << 23), subnormal, normal);
    found = either(is_below(size, 143u << 23), found, (Bits){0} + 0x7c00);
    found |= sign | (~is_below(size, (255u << 23) + 1) & 0x200);
    return narrow(found);
}
#endif

/* The floats that 16-bit values are: a bfloat16 is the upper half of one. */
INLINE Vector widened(Short from, int type) {
    if (type == FLOAT16) return floats_of(from);
    return (Vector)(wide(from) << 16);
}

/* The nearest 16-bit values, of two equally near the even one. NaN stays one. */
INLINE Short narrowed(Vector from, int type) {
    if (type == FLOAT16) return float16_of(from);
    Bits v = (Bits)from, nearest = (v + 0x7fff + (v >> 16 & 1)) >> 16;
    Bits found = either((Bits)(from != from), (Bits){0} + 0x7fc0, nearest);
    return narrow(found);
}

/* As load and store, from and to the values at `at` of a tensor. */
INLINE vf load_values(const void *from, int64_t at, int lanes, int type) {
    const uint16_t *values = (const uint16_t *)from + at;
    uint16_t some[LANES] = {0};
    vf v;
    if (type == FLOAT32) return load((const float *)from + at, lanes);
    if (lanes < LANES) values = memcpy(some, values, (size_t)lanes * sizeof(uint16_t));
    EACH_VECTOR {
        Short part;
        memcpy(&part, values + i * AT_ONCE, sizeof(Short));
        v.of[i] = widened(part, type);
    }
    return v;
}

INLINE void store_values(void *to, int64_t at, vf v, int lanes, int type) {
    uint16_t *values = (uint16_t *)to + at, some[LANES];
    if (type == FLOAT32) {
        store((float *)to + at, v, lanes);
        return;
    }
    EACH_VECTOR {
        Short part = narrowed(v.of[i], type);
        memcpy((lanes < LANES ? some : values) + i * AT_ONCE, &part, sizeof(Short));
    }
    if (lanes < LANES) memcpy(values, some, (size_t)lanes * sizeof(uint16_t));
}

/* One value at `at`, to be read or to be set. */
INLINE float value(const void *from, int64_t at, int type) {
    if (type == FLOAT32) return ((const float *)from)[at];
    return widened((Short){((const uint16_t *)from)[at]}, type)[0];
}

INLINE void set_value(void *to, int64_t at, float v, int type) {
    if (type == FLOAT32)
        ((float *)to)[at] = v;
    else
        ((uint16_t *)to)[at] = narrowed((Vector){v}, type)[0];
}

/* What a ReLU lets through. NaN passes, as in PyTorch: `lower` tells what is at most 0. */
INLINE vf kept_by(vf v, vf of) {
    EACH_VECTOR {
        Mask lower = of.of[i] <= 0;
        v.of[i] = (Vector)((Mask)v.of[i] & ~lower);
    }
    return v;
}

/* Values at rows of a gradient, after the ReLU whose output is y, if there is one. */
INLINE vf load_gradient(const void *g, const void *y, int64_t at, int lanes, int type) {
    vf v = load_values(g, at, lanes, type);
    return y ? kept_by(v, load_values(y, at, lanes, type)) : v;
}

INLINE float one_gradient(const void *g, const void *y, int64_t at, int type) {
    return y && value(y, at, type) <= 0 ? 0 : value(g, at, type);
}

/* Of each lane. */
typedef struct {
    Wide mean, squares;
} Moments;
typedef struct {
    Wide sum, product;
} Sums;

static const vf nothing;

static int64_t chunk_of(int64_t rows, int64_t first) {
    return rows - first < CHUNK ? rows - first : CHUNK;
}

/* Joins a chunk of n rows, which begins at `start`, to `first` rows before it: mean, and sum of
   squared deviations from it. */
INLINE void join_moments(Moments *all, const void *x, int64_t start, int64_t first, int64_t n,
                         int64_t stride, int lanes, int type) {
    int64_t i;
    vf s0 = nothing, s1 = nothing, s2 = nothing, s3 = nothing;
    for (i = 0; i + 4 <= n; i += 4) {
        s0 = plus(s0, load_values(x, start + i * stride, lanes, type));
        s1 = plus(s1, load_values(x, start + (i + 1) * stride, lanes, type));
        s2 = plus(s2, load_values(x, start + (i + 2) * stride, lanes, type));
        s3 = plus(s3, load_values(x, start + (i + 3) * stride, lanes, type));
    }
    for (; i < n; i++) s0 = plus(s0, load_values(x, start + i * stride, lanes, type));
    /* Near the mean, which is all that is asked of it: the rest is measured below. */
    vf near = times(plus(plus(s0, s1), plus(s2, s3)), everywhere((float)(1.0 / n)));
    vf d0 = nothing, d1 = nothing, q0 = nothing, q1 = nothing;
    for (i = 0; i + 2 <= n; i += 2) {
        vf a = minus(load_values(x, start + i * stride, lanes, type), near);
        vf b = minus(load_values(x, start + (i + 1) * stride, lanes, type), near);
        d0 = plus(d0, a), q0 = plus(q0, times(a, a));
        d1 = plus(d1, b), q1 = plus(q1, times(b, b));
    }
    for (; i < n; i++) {
        vf a = minus(load_values(x, start + i * stride, lanes, type), near);
        d0 = plus(d0, a), q0 = plus(q0, times(a, a));
    }
    float nears[LANES], aparts[LANES], squares[LANES];
    store(nears, near, LANES), store(aparts, plus(d0, d1), LANES);
    store(squares, plus(q0, q1), LANES);
    double each = 1.0 / n, total = (double)(first + n);
    double share = n / total, weight = first * (n / total);
    if (first == 0) {
        EACH {
            double apart = aparts[lane];
            all->mean.of[lane] = nears[lane] + apart * each;
            all->squares.of[lane] = squares[lane] - apart * apart * each;
        }
    } else {
        EACH {
            double apart = aparts[lane];
            double between = nears[lane] + apart * each - all->mean.of[lane];
            all->mean.of[lane] += between * share;
            all->squares.of[lane] +=
                (squares[lane] - apart * apart * each) + between * between * weight;
        }
    }
}

INLINE void clear(double *one, double *two) { EACH one[lane] = two[lane] = 0; }

/* Mean and biased variance of a map of `size` values next to each other, from `at`. */
INLINE void map_moments(const void *x, int64_t at, int64_t size, double *mean, double *var,
                        int type) {
    int64_t rows = size / LANES, seen = rows * LANES;
    double m = 0, q = 0;
    if (rows) {
        Moments found;
        clear(found.mean.of, found.squares.of);
        for (int64_t first = 0; first < rows; first += CHUNK)
            join_moments(&found, x, at + first * LANES, first, chunk_of(rows, first), LANES, LANES,
                         type);
        m = add_up(found.mean) / LANES;
        EACH {
            double apart = found.mean.of[lane] - m;
            found.squares.of[lane] += rows * apart * apart;
        }
        q = add_up(found.squares);
    }
    for (; seen < size; seen++) { /* Welford's update */
        double one = value(x, at + seen, type), apart = one - m;
        m += apart / (seen + 1);
        q += apart * (one - m);
    }
    *mean = m, *var = q / size;
}

INLINE double not_negative(double v) { return v < 0 ? 0 : v; /* NaN stays */ }

/* A stretch of the channels of one image, whose first value is at `at`. */
typedef struct {
    int64_t at, channels, all, size;
    int last;
} Maps;

static int lanes_at(Maps of, int64_t c) {
    return of.channels - c < LANES ? (int)(of.channels - c) : LANES;
}

/* Mean and biased variance of each map of a stretch. In the layout `last`, ABREAST vectors of
   channels go through memory side by side, chunk by chunk. */
INLINE void moments_in(const void *x, Maps of, double *mean, double *var, int type) {
    int64_t c = 0;
    if (of.last) {
        for (int64_t from = 0; from < of.channels; from += LANES * ABREAST) {
            Moments found[ABREAST];
            for (int k = 0; k < ABREAST; k++) clear(found[k].mean.of, found[k].squares.of);
            for (int64_t first = 0; first < of.size; first += CHUNK) {
                int64_t n = chunk_of(of.size, first);
                int64_t start = of.at + first * of.all;
                for (int k = 0; k < ABREAST && (c = from + k * LANES) < of.channels; k++) {
                    int lanes = lanes_at(of, c);
                    if (lanes == LANES)
                        join_moments(found + k, x, start + c, first, n, of.all, LANES, type);
                    else
                        join_moments(found + k, x, start + c, first, n, of.all, lanes, type);
                }
            }
            for (int k = 0; k < ABREAST && (c = from + k * LANES) < of.channels; k++) {
                memcpy(mean + c, found[k].mean.of, lanes_at(of, c) * sizeof(double));
                memcpy(var + c, found[k].squares.of, lanes_at(of, c) * sizeof(double));
            }
        }
        for (c = 0; c < of.channels; c++) var[c] = not_negative(var[c] / of.size);
    } else {
        for (; c < of.channels; c++) {
            map_moments(x, of.at + c * of.size, of.size, mean + c, var + c, type);
            var[c] = not_negative(var[c]);
        }
    }
}

static void moments(const void *x, Maps of, double *mean, double *var, int64_t type) {
    BY_TYPE(type, moments_in(x, of, mean, var, TYPE))
}

/* What follows a layer: the sum with `residual`, which may be NULL, and then ReLU, or not. */
typedef struct {
    const void *residual;
    int relu;
} Then;

/* y = (x - pivot) * scale + shift, and what follows; `first` is where the rows begin. */
INLINE void scale_lanes(const void *x, void *y, Then then, int64_t first, int64_t rows,
                        int64_t stride, vf pivot, vf scale, vf shift, int lanes, int type) {
    for (int64_t i = first; i < first + rows * stride; i += stride) {
        vf v = plus(times(minus(load_values(x, i, lanes, type), pivot), scale), shift);
        if (then.residual) v = plus(v, load_values(then.residual, i, lanes, type));
        store_values(y, i, then.relu ? kept_by(v, v) : v, lanes, type);
    }
}

INLINE void scale_maps_in(const void *x, void *y, Then then, Maps of, const float *pivot,
                          const float *scale, const float *shift, int type) {
    if (of.last) {
        for (int64_t first = 0; first < of.size; first += CHUNK) {
            int64_t c = 0, n = chunk_of(of.size, first), start = of.at + first * of.all;
            for (; c + LANES <= of.channels; c += LANES)
                scale_lanes(x, y, then, start + c, n, of.all, load(pivot + c, LANES),
                            load(scale + c, LANES), load(shift + c, LANES), LANES, type);
            if (c < of.channels) {
                int left = (int)(of.channels - c);
                scale_lanes(x, y, then, start + c, n, of.all, load(pivot + c, left),
                            load(scale + c, left), load(shift + c, left), left, type);
            }
        }
        return;
    }
    for (int64_t c = 0; c < of.channels; c++) {
        int64_t from = of.at + c * of.size, end = from + of.size;
        scale_lanes(x, y, then, from, of.size / LANES, LANES, everywhere(pivot[c]),
                    everywhere(scale[c]), everywhere(shift[c]), LANES, type);
        for (int64_t i = end - of.size % LANES; i < end; i++) {
            float v = (value(x, i, type) - pivot[c]) * scale[c] + shift[c];
            if (then.residual) v += value(then.residual, i, type);
            set_value(y, i, then.relu && v <= 0 ? 0 : v, type);
        }
    }
}

static void scale_maps(const void *x, void *y, Then then, Maps of, const float *pivot,
                       const float *scale, const float *shift, int64_t type) {
    BY_TYPE(type, scale_maps_in(x, y, then, of, pivot, scale, shift, TYPE))
}

/* Adds a chunk of n rows, the first of which is at `start`: g, and g * (x - pivot). */
INLINE void join_sums(Sums *all, const void *g, const void *y, const void *x, int64_t start,
                      int64_t n, int64_t stride, vf pivot, int lanes, int type) {
    int64_t i;
    vf s0 = nothing, s1 = nothing, p0 = nothing, p1 = nothing;
    for (i = 0; i + 2 <= n; i += 2) {
        int64_t at = start + i * stride, next = at + stride;
        vf a = load_gradient(g, y, at, lanes, type), b = load_gradient(g, y, next, lanes, type);
        s0 = plus(s0, a);
        p0 = plus(p0, times(a, minus(load_values(x, at, lanes, type), pivot)));
        s1 = plus(s1, b);
        p1 = plus(p1, times(b, minus(load_values(x, next, lanes, type), pivot)));
    }
    for (; i < n; i++) {
        int64_t at = start + i * stride;
        vf a = load_gradient(g, y, at, lanes, type);
        s0 = plus(s0, a);
        p0 = plus(p0, times(a, minus(load_values(x, at, lanes, type), pivot)));
    }
    float sums[LANES], products[LANES];
    store(sums, plus(s0, s1), LANES), store(products, plus(p0, p1), LANES);
    EACH all->sum.of[lane] += sums[lane], all->product.of[lane] += products[lane];
}

/* Means of g and of g * (x - pivot) over each map of a stretch. */
INLINE void gradient_means_in(const void *g, const void *y, const void *x, Maps of,
                              const float *pivot, double *a, double *gc, int type) {
    int64_t c = 0;
    if (of.last) {
        for (int64_t from = 0; from < of.channels; from += LANES * ABREAST) {
            Sums found[ABREAST];
            for (int k = 0; k < ABREAST; k++) clear(found[k].sum.of, found[k].product.of);
            for (int64_t first = 0; first < of.size; first += CHUNK) {
                int64_t n = chunk_of(of.size, first), start = of.at + first * of.all;
                for (int k = 0; k < ABREAST && (c = from + k * LANES) < of.channels; k++) {
                    int lanes = lanes_at(of, c);
                    if (lanes == LANES)
                        join_sums(found + k, g, y, x, start + c, n, of.all, load(pivot + c, LANES),
                                  LANES, type);
                    else
                        join_sums(found + k, g, y, x, start + c, n, of.all, load(pivot + c, lanes),
                                  lanes, type);
                }
            }
            for (int k = 0; k < ABREAST && (c = from + k * LANES) < of.channels; k++) {
                memcpy(a + c, found[k].sum.of, lanes_at(of, c) * sizeof(double));
                memcpy(gc + c, found[k].product.of, lanes_at(of, c) * sizeof(double));
            }
        }
    } else {
        for (; c < of.channels; c++) {
            int64_t from = of.at + c * of.size, end = from + of.size;
            vf near = everywhere(pivot[c]);
            int64_t rows = of.size / LANES;
            Sums found;
            clear(found.sum.of, found.product.of);
            for (int64_t first = 0; first < rows; first += CHUNK)
                join_sums(&found, g, y, x, from + first * LANES, chunk_of(rows, first), LANES, near,
                          LANES, type);
            a[c] = add_up(found.sum), gc[c] = add_up(found.product);
            for (int64_t i = end - of.size % LANES; i < end; i++) {
                double one = one_gradient(g, y, i, type);
                a[c] += one, gc[c] += one * (double)(value(x, i, type) - pivot[c]);
            }
        }
    }
    for (c = 0; c < of.channels; c++) a[c] /= of.size, gc[c] /= of.size;
}

static void gradient_means(const void *g, const void *y, const void *x, Maps of,
                           const float *pivot, double *a, double *gc, int64_t type) {
    BY_TYPE(type, gradient_means_in(g, y, x, of, pivot, a, gc, TYPE))
}

/* dx = (x - pivot) * x_scale + g * g_scale + shift. The gradient of a residual, if one is asked
   for, is g behind the ReLU. */
INLINE void gradient_lanes(const void *g, const void *y, const void *x, void *dx,
                           void *dresidual, int64_t first, int64_t rows, int64_t stride, vf pivot,
                           vf g_scale, vf x_scale, vf shift, int lanes, int type) {
    for (int64_t i = first; i < first + rows * stride; i += stride) {
        vf one = load_gradient(g, y, i, lanes, type);
        vf back = times(minus(load_values(x, i, lanes, type), pivot), x_scale);
        if (dresidual) store_values(dresidual, i, one, lanes, type);
        store_values(dx, i, plus(plus(back, times(one, g_scale)), shift), lanes, type);
    }
}

INLINE void gradient_maps_in(const void *g, const void *y, const void *x, void *dx,
                             void *dresidual, Maps of, const float *pivot, const float *g_scale,
                             const float *x_scale, const float *shift, int type) {
    if (of.last) {
        for (int64_t first = 0; first < of.size; first += CHUNK) {
            int64_t c = 0, n = chunk_of(of.size, first), start = of.at + first * of.all;
            for (; c + LANES <= of.channels; c += LANES)
                gradient_lanes(g, y, x, dx, dresidual, start + c, n, of.all,
                               load(pivot + c, LANES), load(g_scale + c, LANES),
                               load(x_scale + c, LANES), load(shift + c, LANES), LANES, type);
            if (c < of.channels) {
                int left = (int)(of.channels - c);
                gradient_lanes(g, y, x, dx, dresidual, start + c, n, of.all,
                               load(pivot + c, left), load(g_scale + c, left),
                               load(x_scale + c, left), load(shift + c, left), left, type);
            }
        }
        return;
    }
    for (int64_t c = 0; c < of.channels; c++) {
        int64_t from = of.at + c * of.size, end = from + of.size;
        gradient_lanes(g, y, x, dx, dresidual, from, of.size / LANES, LANES, everywhere(pivot[c]),
                       everywhere(g_scale[c]), everywhere(x_scale[c]), everywhere(shift[c]), LANES,
                       type);
        for (int64_t i = end - of.size % LANES; i < end; i++) {
            float one = one_gradient(g, y, i, type);
            float back = (value(x, i, type) - pivot[c]) * x_scale[c];
            if (dresidual) set_value(dresidual, i, one, type);
            set_value(dx, i, (back + one * g_scale[c]) + shift[c], type);
        }
    }
}

static void gradient_maps(const void *g, const void *y, const void *x, void *dx, void *dresidual,
                          Maps of, const float *pivot, const float *g_scale, const float *x_scale,
                          const float *shift, int64_t type) {
    BY_TYPE(type, gradient_maps_in(g, y, x, dx, dresidual, of, pivot, g_scale, x_scale, shift,
                                   TYPE))
}

/* Whose maps share one mean and one variance: of each channel over the batch, or of `groups`
   groups of channels of each image. FIXED: given values of each channel take their place. Groups
   that are not `centred` have the mean 0, and the mean square about 0 as their variance. */
enum { FIXED = -1, BATCH = 0 };

/* What is asked, of a dense tensor of images * channels maps of `size` values of a `type`. */
typedef struct {
    int64_t images, channels, size, last, pools[MOST_PARTS], centred[MOST_PARTS];
    int64_t relu, threads, type;
    double eps;
} Shape;

/* The channels that are worked on at a time, all images of them: where maps lie one after the other
   and channels have nothing to do with each other, as many as stay in the processor's cache between
   two passes over them. */
static int64_t stretch_of(const Shape *s, int parts, int of_batch) {
    int64_t bytes = s->images * s->size * (s->type == FLOAT32 ? 4 : 2), fit;
    if (!of_batch || s->last) return s->channels;
    for (int k = 0; k < parts; k++)
        if (s->pools[k] > 0 && s->pools[k] != s->channels) return s->channels;
    fit = IN_CACHE / (bytes ? bytes : 1);
    return fit < 1 ? 1 : fit < s->channels ? fit : s->channels;
}

/* The first image of a thread's share. A second pass over a share goes backwards, since what was
   read last is still in the cache. */
static int64_t share_from(const Shape *s, int64_t share, int64_t shares) {
    return s->images * share / shares;
}

static Maps maps_of(const Shape *s, int64_t image, int64_t c, int64_t channels) {
    int64_t at = image * s->channels * s->size + (s->last ? c : c * s->size);
    return (Maps){at, channels, s->channels, s->size, (int)s->last};
}

/* What part k, or the only one, counts in the mixture. */
INLINE double share_of(int k, const float *gate, int64_t c) {
    return !gate ? 1 : k == 0 ? (double)gate[c] : 1 - (double)gate[c];
}

/* Where the saved mean and 1 / sqrt(var + eps) of the sets of each part are. */
static void saved_at(const Shape *s, int parts, float *saved, float **mean, float **second) {
    for (int k = 0; k < parts; k++) {
        int64_t sets = s->pools[k] > 0 ? s->images * s->pools[k] : s->channels;
        mean[k] = saved, second[k] = saved + sets, saved += 2 * sets;
    }
}

/* Mean and variance of channels c to `end` over the batch, from those of maps (law of total
   variance). */
static void pool_batch(int64_t images, int64_t channels, int64_t c, int64_t end, const double *mean,
                       const double *var, double *to_mean, double *to_var) {
    for (int64_t i = c; i < end; i++) to_mean[i] = to_var[i] = 0;
    for (int64_t n = 0; n < images; n++)
        for (int64_t i = c; i < end; i++) to_mean[i] += mean[n * channels + i];
    for (int64_t i = c; i < end; i++) to_mean[i] /= images;
    for (int64_t n = 0; n < images; n++)
        for (int64_t i = c; i < end; i++) {
            double apart = mean[n * channels + i] - to_mean[i];
            to_var[i] += var[n * channels + i] + apart * apart;
        }
    for (int64_t i = c; i < end; i++) to_var[i] /= images;
}

/* The same of `each` maps, about their mean or about 0. */
INLINE void pool_group(int64_t each, const double *mean, const double *var, int64_t centred,
                       double *to_mean, double *to_var) {
    double m = 0, v = 0;
    for (int64_t c = 0; centred && c < each; c++) m += mean[c];
    m /= each;
    for (int64_t c = 0; c < each; c++) v += var[c] + (mean[c] - m) * (mean[c] - m);
    *to_mean = m, *to_var = v / each;
}

/* A running value on its way towards a new one, as BatchStatistics._move in batch.py has it: an
   average that holds an infinity is infinite. */
INLINE float moved(float old, float new, float share) {
    float apart = new - old;
    return isinf(old) ? old : share < 0.5f ? old + share * apart : new - apart * (1 - share);
}

/* Forward of one part, or of two where there is a gate. What a FIXED pool has is read from `fixed`,
   mean and variance of each channel. `saved` takes mean and 1 / sqrt(var + eps) of the sets of each
   part, or what is fixed. NULL may be: weight, bias, gate, residual; var, which takes the variance
   of the first part's sets; running values of the first part's statistics, which move by `share`,
   the variance times `factor`, and their count; and factors, which takes pivot, scale and shift of
   the maps, for normlab_output. */
typedef struct {
    const void *x;
    const float *weight, *bias, *gate;
    const void *residual;
    const float *fixed_mean, *fixed_var;
    void *y;
    float *saved, *var, *running_mean, *running_var, *factors;
    int64_t *count;
    double share, factor;
    Shape of;
} Forward;

/* Of each map mean, variance, factor and shift; of each channel, by part, the first three; and as
   they are applied to each map pivot, scale and shift. */
typedef struct {
    double *means, *vars, *scales, *shifts, *shared;
    float *pivot, *scale, *shift, *mean[MOST_PARTS], *second[MOST_PARTS];
    int parts, of_maps;
} Found;

static void statistics_of_channels(const Forward *f, Found *to, int64_t from, int64_t end) {
    const Shape *s = &f->of;
    for (int k = 0; k < to->parts; k++) {
        double *mean = to->shared + 3 * k * s->channels, *var = mean + s->channels;
        double *factor = var + s->channels;
        if (s->pools[k] == BATCH) {
            pool_batch(s->images, s->channels, from, end, to->means, to->vars, mean, var);
        } else if (s->pools[k] == FIXED) {
            for (int64_t c = from; c < end; c++) mean[c] = f->fixed_mean[c], var[c] = f->fixed_var[c];
        } else {
            continue;
        }
        for (int64_t c = from; c < end; c++) {
            double rstd = 1 / sqrt(var[c] + s->eps);
            factor[c] = share_of(k, f->gate, c) * rstd;
            if (s->pools[k] == FIXED) {
                to->mean[k][c] = f->fixed_mean[c], to->second[k][c] = f->fixed_var[c];
                continue;
            }
            float m = (float)mean[c], v = (float)var[c];
            to->mean[k][c] = m, to->second[k][c] = (float)rstd;
            if (k) continue;
            if (f->var) f->var[c] = v;
            if (f->running_mean) {
                float share = (float)f->share;
                f->running_mean[c] = moved(f->running_mean[c], m, share);
                f->running_var[c] = moved(f->running_var[c], v * (float)f->factor, share);
            }
        }
    }
}

static void moments_of_image(const Forward *f, Found *to, int64_t n, int64_t from, int64_t end) {
    int64_t at = n * f->of.channels + from;
    moments(f->x, maps_of(&f->of, n, from, end - from), to->means + at, to->vars + at,
            f->of.type);
}

static void apply_to_image(const Forward *f, Found *to, int64_t n, int64_t from, int64_t end) {
    const Shape *s = &f->of;
    int64_t at = n * s->channels;
    const double *means = to->means + at, *vars = to->vars + at;
    double *scales = to->scales + at, *shifts = to->shifts + at;
    float *pivot = to->pivot + at, *scale = to->scale + at, *shift = to->shift + at;
    Then then = {f->residual, (int)s->relu};
    for (int64_t c = from; c < end; c++) {
        /* Centred on the map's own mean, so that a large offset does not cancel. */
        pivot[c] = to->of_maps ? (float)means[c] : f->fixed_mean[c];
        scales[c] = shifts[c] = 0;
    }
    for (int k = 0; k < to->parts; k++) {
        int64_t pool = s->pools[k];
        if (pool <= 0) {
            const double *mean = to->shared + 3 * k * s->channels;
            const double *factor = mean + 2 * s->channels;
            for (int64_t c = from; c < end; c++) {
                scales[c] += factor[c];
                shifts[c] += factor[c] * (pivot[c] - mean[c]);
            }
            continue;
        }
        int64_t each = s->channels / pool;
        for (int64_t set = from / each; set < end / each; set++) {
            double m, v;
            pool_group(each, means + set * each, vars + set * each, s->centred[k], &m, &v);
            double rstd = 1 / sqrt(v + s->eps);
            to->mean[k][n * pool + set] = (float)m, to->second[k][n * pool + set] = (float)rstd;
            if (k == 0 && f->var) f->var[n * pool + set] = (float)v;
            for (int64_t c = set * each; c < (set + 1) * each; c++) {
                double factor = share_of(k, f->gate, c) * rstd;
                scales[c] += factor, shifts[c] += factor * (pivot[c] - m);
            }
        }
    }
    for (int64_t c = from; c < end; c++) {
        double w = f->weight ? f->weight[c] : 1;
        scale[c] = (float)(scales[c] * w);
        shift[c] = (float)(shifts[c] * w + (f->bias ? f->bias[c] : 0));
    }
    scale_maps(f->x, f->y, then, maps_of(s, n, from, end - from), pivot + from, scale + from,
               shift + from, s->type);
}

/* Returns 0, or 1 where there is no memory. */
int normlab_forward(const Forward *f) {
    const Shape *s = &f->of;
    int64_t maps = s->images * s->channels, threads = s->threads;
    Found to = {.parts = f->gate ? 2 : 1};
    int of_batch = 0;
    for (int k = 0; k < to.parts; k++)
        of_batch |= s->pools[k] == BATCH, to.of_maps |= s->pools[k] != FIXED;
    double *memory =
        malloc(((size_t)maps * 4 + (size_t)s->channels * 3 * MOST_PARTS) * sizeof(double));
    float *own = f->factors ? NULL : malloc((size_t)maps * 3 * sizeof(float));
    float *factors = f->factors ? f->factors : own;
    if (!memory || !factors) {
        free(memory), free(own);
        return 1;
    }
    to.means = memory, to.vars = to.means + maps, to.scales = to.vars + maps;
    to.shifts = to.scales + maps, to.shared = to.shifts + maps;
    to.pivot = factors, to.scale = to.pivot + maps, to.shift = to.scale + maps;
    saved_at(s, to.parts, f->saved, to.mean, to.second);
    int64_t stretch = stretch_of(s, to.parts, of_batch);
    int64_t shares = stretch < s->channels ? 1 : threads; /* of the images of a stretch */
#pragma omp parallel for num_threads(threads) if (threads > shares) schedule(static)
    for (int64_t from = 0; from < s->channels; from += stretch) {
        int64_t end = from + stretch < s->channels ? from + stretch : s->channels;
        if (of_batch) {
#pragma omp parallel for num_threads(shares) if (shares > 1) schedule(static)
            for (int64_t share = 0; share < shares; share++)
                for (int64_t n = share_from(s, share, shares);
                     n < share_from(s, share + 1, shares); n++)
                    moments_of_image(f, &to, n, from, end);
        }
        statistics_of_channels(f, &to, from, end);
#pragma omp parallel for num_threads(shares) if (shares > 1) schedule(static)
        for (int64_t share = 0; share < shares; share++)
            for (int64_t n = share_from(s, share + 1, shares) - 1;
                 n >= share_from(s, share, shares); n--) {
                if (to.of_maps && !of_batch) moments_of_image(f, &to, n, from, end);
                apply_to_image(f, &to, n, from, end);
            }
    }
    if (f->count) ++*f->count;
    free(memory), free(own);
    return 0;
}

/* The output of normlab_forward once more, from x, residual, relu and the factors that it found. */
void normlab_output(const Forward *f) {
    const Shape *s = &f->of;
    Then then = {f->residual, (int)s->relu};
    const float *pivot = f->factors, *scale = pivot + s->images * s->channels;
    const float *shift = scale + s->images * s->channels;
#pragma omp parallel for num_threads(s->threads) if (s->threads > 1) schedule(static)
    for (int64_t n = 0; n < s->images; n++) {
        int64_t at = n * s->channels;
        scale_maps(f->x, f->y, then, maps_of(s, n, 0, s->channels), pivot + at, scale + at,
                   shift + at, s->type);
    }
}

/* Backward, from what forward saved, for pools of which at least one is not FIXED. NULL may be:
   weight, gate; y, the output, unless a ReLU follows; and gradients that are not needed. That of
   the residual, which was added before the ReLU, needs dx.

   With a = mean of g and b_k = mean of g * xhat_k over a map, see _Lean in _core.py. */
typedef struct {
    const void *g, *y, *x;
    const float *weight, *gate;
    float *saved;
    void *dx, *dresidual;
    float *dweight, *dbias, *dgate;
    Shape of;
} Backward;

/* Of each map a, its mean of g * (x - pivot), and by part b, mean and 1 / sqrt(var + eps); of each
   channel by part the pooled a and b; and as they are applied to each map four factors. */
typedef struct {
    double *a, *centred, *b, *means, *rstds, *pooled;
    float *pivot, *g_scale, *x_scale, *shift, *mean[MOST_PARTS], *second[MOST_PARTS];
    int parts;
} Returned;

/* Mean and 1 / sqrt(var + eps) of each map of an image as a part has them, from what is saved. */
INLINE void spread(int64_t pool, const float *mean, const float *second, int64_t n,
                   int64_t channels, int64_t from, int64_t end, double eps, double *to_mean,
                   double *to_rstd) {
    if (pool <= 0) {
        for (int64_t c = from; c < end; c++) {
            to_mean[c] = mean[c];
            to_rstd[c] = pool == FIXED ? 1 / sqrt(second[c] + eps) : second[c];
        }
        return;
    }
    int64_t each = channels / pool;
    for (int64_t set = from / each; set < end / each; set++)
        for (int64_t c = set * each; c < (set + 1) * each; c++)
            to_mean[c] = mean[n * pool + set], to_rstd[c] = second[n * pool + set];
}

static void means_of_image(const Backward *back, Returned *to, int64_t n, int64_t from,
                           int64_t end) {
    const Shape *s = &back->of;
    int64_t maps = s->images * s->channels, at = n * s->channels;
    float *pivot = to->pivot + at;
    for (int k = 0; k < to->parts; k++)
        spread(s->pools[k], to->mean[k], to->second[k], n, s->channels, from, end, s->eps,
               to->means + k * maps + at, to->rstds + k * maps + at);
    /* The last part has the smallest sets: their means are nearest to the values. */
    for (int64_t c = from; c < end; c++)
        pivot[c] = (float)to->means[(to->parts - 1) * maps + at + c];
    gradient_means(back->g, back->y, back->x, maps_of(s, n, from, end - from), pivot + from,
                   to->a + at + from, to->centred + at + from, s->type);
    for (int k = 0; k < to->parts; k++)
        for (int64_t c = from; c < end; c++) {
            int64_t i = k * maps + at + c;
            to->b[i] =
                to->rstds[i] * (to->centred[at + c] + (pivot[c] - to->means[i]) * to->a[at + c]);
        }
}

/* What the gradients of a channel's values have in common over the batch. */
static void pool_gradients(const Backward *back, Returned *to, int64_t from, int64_t end) {
    const Shape *s = &back->of;
    int64_t channels = s->channels, maps = s->images * channels;
    for (int k = 0; k < to->parts; k++) {
        if (s->pools[k] != BATCH) continue;
        double *a = to->pooled + 2 * k * channels, *b = a + channels;
        for (int64_t c = from; c < end; c++) a[c] = b[c] = 0;
        for (int64_t n = 0; n < s->images; n++)
            for (int64_t c = from; c < end; c++) {
                a[c] += to->a[n * channels + c];
                b[c] += to->b[k * maps + n * channels + c];
            }
        for (int64_t c = from; c < end; c++) {
            double part =
                (back->weight ? back->weight[c] : 1) * share_of(k, back->gate, c) / s->images;
            a[c] *= part, b[c] *= part;
        }
    }
}

static void gradient_of_image(const Backward *back, Returned *to, int64_t n, int64_t from,
                              int64_t end) {
    const Shape *s = &back->of;
    int64_t channels = s->channels, maps = s->images * channels, at = n * channels;
    const float *weight = back->weight, *gate = back->gate;
    float *pivot = to->pivot + at, *g_scale = to->g_scale + at;
    float *x_scale = to->x_scale + at, *shift = to->shift + at;
    for (int64_t c = from; c < end; c++) g_scale[c] = x_scale[c] = shift[c] = 0;
    for (int k = 0; k < to->parts; k++) {
        const double *mean = to->means + k * maps + at, *rstd = to->rstds + k * maps + at;
        const double *b = to->b + k * maps + at;
        const double *of_a = to->pooled + 2 * k * channels, *of_b = of_a + channels;
        int64_t pool = s->pools[k], each = pool > 0 ? channels / pool : end - from;
        for (int64_t first = from; first < end; first += each) {
            double group_a = 0, group_b = 0;
            if (pool > 0) {
                for (int64_t c = first; c < first + each; c++) {
                    double part = (weight ? weight[c] : 1) * share_of(k, gate, c);
                    group_a += part * to->a[at + c], group_b += part * b[c];
                }
                group_a /= each, group_b /= each;
            }
            for (int64_t c = first; c < first + each; c++) {
                double part = (weight ? weight[c] : 1) * share_of(k, gate, c);
                g_scale[c] += (float)(part * rstd[c]);
                if (pool == FIXED) continue;
                double mean_a = pool == BATCH ? of_a[c] : s->centred[k] ? group_a : 0;
                double mean_b = rstd[c] * (pool == BATCH ? of_b[c] : group_b);
                x_scale[c] -= (float)(rstd[c] * mean_b);
                shift[c] -= (float)(rstd[c] * (mean_a + (pivot[c] - mean[c]) * mean_b));
            }
        }
    }
    gradient_maps(back->g, back->y, back->x, back->dx, back->dresidual,
                  maps_of(s, n, from, end - from), pivot + from, g_scale + from, x_scale + from,
                  shift + from, s->type);
}

static void gradients_of_parameters(const Backward *back, const Returned *to) {
    const Shape *s = &back->of;
    int64_t channels = s->channels, maps = s->images * channels;
    if (!back->dweight && !back->dbias && !back->dgate) return;
    for (int64_t c = 0; c < channels; c++) {
        double w = back->weight ? back->weight[c] : 1, of_weight = 0, of_bias = 0, of_gate = 0;
        for (int64_t i = c; i < maps; i += channels) {
            of_bias += to->a[i];
            for (int k = 0; k < to->parts; k++)
                of_weight += share_of(k, back->gate, c) * to->b[k * maps + i];
            if (back->dgate) of_gate += w * (to->b[i] - to->b[maps + i]);
        }
        if (back->dweight) back->dweight[c] = (float)(s->size * of_weight);
        if (back->dbias) back->dbias[c] = (float)(s->size * of_bias);
        if (back->dgate) back->dgate[c] = (float)(s->size * of_gate);
    }
}

/* Returns 0, or 1 where there is no memory. */
int normlab_backward(const Backward *back) {
    const Shape *s = &back->of;
    int64_t maps = s->images * s->channels, threads = s->threads;
    Returned to = {.parts = back->gate ? 2 : 1};
    int of_batch = 0;
    for (int k = 0; k < to.parts; k++) of_batch |= s->pools[k] == BATCH;
    double *memory = malloc(((size_t)maps * (2 + 3 * MOST_PARTS) +
                             (size_t)s->channels * 2 * MOST_PARTS) * sizeof(double));
    float *factors = malloc((size_t)maps * 4 * sizeof(float));
    if (!memory || !factors) {
        free(memory), free(factors);
        return 1;
    }
    to.a = memory, to.centred = to.a + maps, to.b = to.centred + maps;
    to.means = to.b + MOST_PARTS * maps, to.rstds = to.means + MOST_PARTS * maps;
    to.pooled = to.rstds + MOST_PARTS * maps;
    to.pivot = factors, to.g_scale = to.pivot + maps, to.x_scale = to.g_scale + maps;
    to.shift = to.x_scale + maps;
    saved_at(s, to.parts, back->saved, to.mean, to.second);
    int64_t stretch = stretch_of(s, to.parts, of_batch);
    int64_t shares = stretch < s->channels ? 1 : threads; /* of the images of a stretch */
#pragma omp parallel for num_threads(threads) if (threads > shares) schedule(static)
    for (int64_t from = 0; from < s->channels; from += stretch) {
        int64_t end = from + stretch < s->channels ? from + stretch : s->channels;
        if (of_batch) {
#pragma omp parallel for num_threads(shares) if (shares > 1) schedule(static)
            for (int64_t share = 0; share < shares; share++)
                for (int64_t n = share_from(s, share, shares);
                     n < share_from(s, share + 1, shares); n++)
                    means_of_image(back, &to, n, from, end);
            pool_gradients(back, &to, from, end);
        }
#pragma omp parallel for num_threads(shares) if (shares > 1) schedule(static)
        for (int64_t share = 0; share < shares; share++)
            for (int64_t n = share_from(s, share + 1, shares) - 1;
                 n >= share_from(s, share, shares); n--) {
                if (!of_batch) means_of_image(back, &to, n, from, end);
                if (back->dx) gradient_of_image(back, &to, n, from, end);
            }
    }
    gradients_of_parameters(back, &to);
    free(memory), free(factors);
    return 0;
}

INLINE void add_relu_in(const void *x, const void *residual, void *y, int64_t count, int threads,
                        int type) {
    int64_t whole = count - count % LANES;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t i = 0; i < whole; i += LANES) {
        vf v = plus(load_values(x, i, LANES, type), load_values(residual, i, LANES, type));
        store_values(y, i, kept_by(v, v), LANES, type);
    }
    for (int64_t i = whole; i < count; i++) {
        float v = value(x, i, type) + value(residual, i, type);
        set_value(y, i, v <= 0 ? 0 : v, type);
    }
}

/* y = ReLU(x + residual) of `count` values. */
void normlab_add_relu(const void *x, const void *residual, void *y, int64_t count, int threads,
                      int type) {
    BY_TYPE(type, add_relu_in(x, residual, y, count, threads, TYPE))
}
