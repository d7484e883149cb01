/* The layers of _core.py for float32 on a CPU, in as few passes over memory as they allow.

   The formulas are those of `definition` and `_Lean` in _core.py, for one or two parts. Sums are
   taken in float32 over CHUNK values at most, and merged in float64 (Chan, Golub & LeVeque 1983).
   An image belongs to one thread, the images are pooled in their order, and no operation is
   reordered or contracted, so the bits depend neither on the threads nor on the processor.

   A tensor is dense and in one of two layouts: `last` (N, H, W, C in memory) or (N, C, H, W). */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16, CHUNK = 64, MOST_PARTS = 2 };

typedef float vf __attribute__((vector_size(LANES * sizeof(float))));
typedef double vd __attribute__((vector_size(LANES * sizeof(double))));
#define INLINE static inline __attribute__((always_inline))
#define WIDE(v) __builtin_convertvector(v, vd)
#define EACH for (int lane = 0; lane < LANES; lane++)

/* Sum of the lanes, which it overwrites. */
INLINE double add_up(double *lanes) {
    for (int half = LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

/* `lanes` floats; the other lanes are 0. A constant number compiles to one instruction. */
INLINE vf load(const float *from, int lanes) {
    vf v = {0};
    memcpy(&v, from, (size_t)lanes * sizeof(float));
    return v;
}

INLINE void store(float *to, vf v, int lanes) { memcpy(to, &v, (size_t)lanes * sizeof(float)); }

/* What a ReLU lets through. NaN passes, as in PyTorch: `lower` tells what is at most 0. */
INLINE vf kept_by(vf v, vf of) {
    typedef int32_t vi __attribute__((vector_size(LANES * sizeof(int32_t))));
    vi lower = of <= 0;
    return (vf)((vi)v & ~lower);
}

/* Values at rows of a gradient, after the ReLU whose output is y, if there is one. */
INLINE vf load_gradient(const float *g, const float *y, int64_t at, int lanes) {
    vf v = load(g + at, lanes);
    return y ? kept_by(v, load(y + at, lanes)) : v;
}

INLINE float one_gradient(const float *g, const float *y, int64_t at) {
    return y && y[at] <= 0 ? 0 : g[at];
}

/* Mean, and sum of squared deviations from it, of each lane over `rows` rows. */
INLINE void lane_moments(const float *x, int64_t rows, int64_t stride, int lanes, double *mean,
                         double *squares) {
    vd all_mean = {0}, all_squares = {0};
    for (int64_t first = 0; first < rows; first += CHUNK) {
        int64_t n = rows - first < CHUNK ? rows - first : CHUNK, i;
        const float *p = x + first * stride;
        vf s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
        for (i = 0; i + 4 <= n; i += 4) {
            s0 += load(p + i * stride, lanes), s1 += load(p + (i + 1) * stride, lanes);
            s2 += load(p + (i + 2) * stride, lanes), s3 += load(p + (i + 3) * stride, lanes);
        }
        for (; i < n; i++) s0 += load(p + i * stride, lanes);
        /* Near the mean, which is all that is asked of it: the rest is measured below. */
        vf near = ((s0 + s1) + (s2 + s3)) * (float)(1.0 / n);
        vf d0 = {0}, d1 = {0}, q0 = {0}, q1 = {0};
        for (i = 0; i + 2 <= n; i += 2) {
            vf a = load(p + i * stride, lanes) - near, b = load(p + (i + 1) * stride, lanes) - near;
            d0 += a, q0 += a * a, d1 += b, q1 += b * b;
        }
        for (; i < n; i++) {
            vf a = load(p + i * stride, lanes) - near;
            d0 += a, q0 += a * a;
        }
        vd apart = WIDE(d0 + d1);
        vd its_mean = WIDE(near) + apart * (1.0 / n);
        vd its_squares = WIDE(q0 + q1) - apart * apart * (1.0 / n);
        if (first == 0) {
            all_mean = its_mean, all_squares = its_squares;
        } else {
            double total = (double)(first + n);
            vd between = its_mean - all_mean;
            all_mean += between * (n / total);
            all_squares += its_squares + between * between * (first * (n / total));
        }
    }
    memcpy(mean, &all_mean, (size_t)lanes * sizeof(double));
    memcpy(squares, &all_squares, (size_t)lanes * sizeof(double));
}

/* Mean and biased variance of a map of `size` values next to each other. */
INLINE void map_moments(const float *x, int64_t size, double *mean, double *var) {
    int64_t rows = size / LANES, seen = rows * LANES;
    double means[LANES], squares[LANES], m = 0, q = 0;
    if (rows) {
        double kept[LANES];
        lane_moments(x, rows, LANES, LANES, means, squares);
        memcpy(kept, means, sizeof means);
        m = add_up(means) / LANES;
        EACH squares[lane] += rows * (kept[lane] - m) * (kept[lane] - m);
        q = add_up(squares);
    }
    for (; seen < size; seen++) { /* Welford's update */
        double apart = x[seen] - m;
        m += apart / (seen + 1);
        q += apart * (x[seen] - m);
    }
    *mean = m, *var = q / size;
}

INLINE double not_negative(double v) { return v < 0 ? 0 : v; /* NaN stays */ }

/* Mean and biased variance of each map of one image. */
static void image_moments(const float *x, int last, int64_t channels, int64_t size, double *mean,
                          double *var) {
    if (last) {
        int64_t c = 0;
        for (; c + LANES <= channels; c += LANES)
            lane_moments(x + c, size, channels, LANES, mean + c, var + c);
        if (c < channels)
            lane_moments(x + c, size, channels, (int)(channels - c), mean + c, var + c);
        for (c = 0; c < channels; c++) var[c] = not_negative(var[c] / size);
    } else {
        for (int64_t c = 0; c < channels; c++) {
            map_moments(x + c * size, size, mean + c, var + c);
            var[c] = not_negative(var[c]);
        }
    }
}

/* What follows a layer: the sum with `residual`, which may be NULL, and then ReLU, or not. */
typedef struct {
    const float *residual;
    int relu;
} Then;

/* y = (x - pivot) * scale + shift, and what follows; `first` is where x begins in the tensor. */
INLINE void scale_lanes(const float *x, float *y, Then then, int64_t first, int64_t rows,
                        int64_t stride, vf pivot, vf scale, vf shift, int lanes) {
    for (int64_t i = first; i < first + rows * stride; i += stride) {
        vf v = (load(x + i, lanes) - pivot) * scale + shift;
        if (then.residual) v += load(then.residual + i, lanes);
        store(y + i, then.relu ? kept_by(v, v) : v, lanes);
    }
}

static void scale_image(const float *x, float *y, Then then, int64_t first, int last,
                        int64_t channels, int64_t size, const float *pivot, const float *scale,
                        const float *shift) {
    if (last) {
        int64_t c = 0;
        for (; c + LANES <= channels; c += LANES)
            scale_lanes(x, y, then, first + c, size, channels, load(pivot + c, LANES),
                        load(scale + c, LANES), load(shift + c, LANES), LANES);
        if (c < channels) {
            int left = (int)(channels - c);
            scale_lanes(x, y, then, first + c, size, channels, load(pivot + c, left),
                        load(scale + c, left), load(shift + c, left), left);
        }
        return;
    }
    for (int64_t c = 0; c < channels; c++) {
        int64_t from = first + c * size;
        vf zero = {0};
        scale_lanes(x, y, then, from, size / LANES, LANES, zero + pivot[c], zero + scale[c],
                    zero + shift[c], LANES);
        for (int64_t i = from + size - size % LANES; i < from + size; i++) {
            float v = (x[i] - pivot[c]) * scale[c] + shift[c];
            if (then.residual) v += then.residual[i];
            y[i] = then.relu && v <= 0 ? 0 : v;
        }
    }
}

/* Sums of g and of g * (x - pivot) of each lane over `rows` rows. */
INLINE void lane_sums(const float *g, const float *y, const float *x, int64_t start, int64_t rows,
                      int64_t stride, vf pivot, int lanes, double *sum, double *product) {
    vd all = {0}, all_products = {0};
    for (int64_t first = 0; first < rows; first += CHUNK) {
        int64_t end = rows - first < CHUNK ? rows : first + CHUNK, i;
        vf s0 = {0}, s1 = {0}, p0 = {0}, p1 = {0};
        for (i = first; i + 2 <= end; i += 2) {
            int64_t at = start + i * stride;
            vf a = load_gradient(g, y, at, lanes), b = load_gradient(g, y, at + stride, lanes);
            s0 += a, p0 += a * (load(x + at, lanes) - pivot);
            s1 += b, p1 += b * (load(x + at + stride, lanes) - pivot);
        }
        for (; i < end; i++) {
            vf a = load_gradient(g, y, start + i * stride, lanes);
            s0 += a, p0 += a * (load(x + start + i * stride, lanes) - pivot);
        }
        all += WIDE(s0 + s1), all_products += WIDE(p0 + p1);
    }
    memcpy(sum, &all, (size_t)lanes * sizeof(double));
    memcpy(product, &all_products, (size_t)lanes * sizeof(double));
}

/* Means of g and of g * (x - pivot) over each map of one image, which begins at `first`. */
static void image_sums(const float *g, const float *y, const float *x, int64_t first, int last,
                       int64_t channels, int64_t size, const float *pivot, double *a, double *gc) {
    int64_t c = 0;
    if (last) {
        for (; c + LANES <= channels; c += LANES)
            lane_sums(g, y, x, first + c, size, channels, load(pivot + c, LANES), LANES, a + c,
                      gc + c);
        if (c < channels) {
            int left = (int)(channels - c);
            lane_sums(g, y, x, first + c, size, channels, load(pivot + c, left), left, a + c,
                      gc + c);
        }
    } else {
        for (; c < channels; c++) {
            int64_t from = first + c * size;
            double sums[LANES], products[LANES];
            vf zero = {0};
            lane_sums(g, y, x, from, size / LANES, LANES, zero + pivot[c], LANES, sums, products);
            a[c] = add_up(sums), gc[c] = add_up(products);
            for (int64_t i = from + size - size % LANES; i < from + size; i++) {
                double one = one_gradient(g, y, i);
                a[c] += one, gc[c] += one * (double)(x[i] - pivot[c]);
            }
        }
    }
    for (c = 0; c < channels; c++) a[c] /= size, gc[c] /= size;
}

/* dx = (x - pivot) * x_scale + g * g_scale + shift. The gradient of a residual, if one is asked
   for, is g behind the ReLU. */
INLINE void gradient_lanes(const float *g, const float *y, const float *x, float *dx,
                           float *dresidual, int64_t first, int64_t rows, int64_t stride,
                           vf pivot, vf g_scale, vf x_scale, vf shift, int lanes) {
    for (int64_t i = first; i < first + rows * stride; i += stride) {
        vf one = load_gradient(g, y, i, lanes);
        vf back = (load(x + i, lanes) - pivot) * x_scale;
        if (dresidual) store(dresidual + i, one, lanes);
        store(dx + i, (back + one * g_scale) + shift, lanes);
    }
}

static void image_gradient(const float *g, const float *y, const float *x, float *dx,
                           float *dresidual, int64_t first, int last, int64_t channels,
                           int64_t size, const float *pivot, const float *g_scale,
                           const float *x_scale, const float *shift) {
    if (last) {
        int64_t c = 0;
        for (; c + LANES <= channels; c += LANES)
            gradient_lanes(g, y, x, dx, dresidual, first + c, size, channels,
                           load(pivot + c, LANES), load(g_scale + c, LANES),
                           load(x_scale + c, LANES), load(shift + c, LANES), LANES);
        if (c < channels) {
            int left = (int)(channels - c);
            gradient_lanes(g, y, x, dx, dresidual, first + c, size, channels,
                           load(pivot + c, left), load(g_scale + c, left),
                           load(x_scale + c, left), load(shift + c, left), left);
        }
        return;
    }
    for (int64_t c = 0; c < channels; c++) {
        int64_t from = first + c * size;
        vf zero = {0};
        gradient_lanes(g, y, x, dx, dresidual, from, size / LANES, LANES, zero + pivot[c],
                       zero + g_scale[c], zero + x_scale[c], zero + shift[c], LANES);
        for (int64_t i = from + size - size % LANES; i < from + size; i++) {
            float one = one_gradient(g, y, i);
            if (dresidual) dresidual[i] = one;
            dx[i] = ((x[i] - pivot[c]) * x_scale[c] + one * g_scale[c]) + shift[c];
        }
    }
}

/* Whose maps share one mean and one variance: of each channel over the batch, or of `groups`
   groups of channels of each image. FIXED: given values of each channel take their place. */
enum { FIXED = -1, BATCH = 0 };

/* Mean and variance of the sets of a pool, from those of maps (law of total variance). */
static void pool_batch(int64_t images, int64_t channels, const double *mean, const double *var,
                       double *to_mean, double *to_var) {
    for (int64_t c = 0; c < channels; c++) to_mean[c] = to_var[c] = 0;
    for (int64_t n = 0; n < images; n++)
        for (int64_t c = 0; c < channels; c++) to_mean[c] += mean[n * channels + c];
    for (int64_t c = 0; c < channels; c++) to_mean[c] /= images;
    for (int64_t n = 0; n < images; n++)
        for (int64_t c = 0; c < channels; c++) {
            double apart = mean[n * channels + c] - to_mean[c];
            to_var[c] += var[n * channels + c] + apart * apart;
        }
    for (int64_t c = 0; c < channels; c++) to_var[c] /= images;
}

INLINE void pool_group(int64_t each, const double *mean, const double *var, double *to_mean,
                       double *to_var) {
    double m = 0, v = 0;
    for (int64_t c = 0; c < each; c++) m += mean[c];
    m /= each;
    for (int64_t c = 0; c < each; c++) v += var[c] + (mean[c] - m) * (mean[c] - m);
    *to_mean = m, *to_var = v / each;
}

/* What part k, or the only one, counts in the mixture. */
INLINE double share_of(int k, const float *gate, int64_t c) {
    return !gate ? 1 : k == 0 ? (double)gate[c] : 1 - (double)gate[c];
}

/* Forward of one part, or of two where there is a gate. For each: mean and second are read where
   its pool is FIXED (mean and variance of each channel), and otherwise written (mean and
   1 / sqrt(var + eps) of each set); first_var takes the variance of the first part's sets. weight,
   bias and gate may be NULL. kept, unless it is NULL, takes pivot, scale and shift of the maps of
   each image, for normlab_output. Returns 0, or 1 where there is no memory. */
int normlab_forward(const float *x, float *y, const float *weight, const float *bias,
                    const float *gate, float *mean_0, float *second_0, float *mean_1,
                    float *second_1, float *first_var, const float *residual, int relu,
                    int64_t images, int64_t channels,
                    int64_t size, int last, int pool_0, int pool_1, double eps, int threads,
                    float *kept) {
    float *mean[] = {mean_0, mean_1}, *second[] = {second_0, second_1};
    int pools[] = {pool_0, pool_1}, parts = gate ? 2 : 1;
    Then then = {residual, relu};
    int64_t maps = images * channels;
    int of_batch = 0, of_maps = 0;
    for (int k = 0; k < parts; k++) of_batch |= pools[k] == BATCH, of_maps |= pools[k] != FIXED;
    /* Of each map mean, variance, factor and shift; of each channel the first three by part. */
    double *memory =
        malloc(((size_t)maps * 4 + (size_t)channels * 3 * MOST_PARTS) * sizeof(double));
    float *own = kept ? NULL : malloc((size_t)maps * 3 * sizeof(float));
    float *factors = kept ? kept : own;
    if (!memory || !factors) {
        free(memory), free(own);
        return 1;
    }
    double *means = memory, *vars = means + maps, *all_scales = vars + maps;
    double *all_shifts = all_scales + maps, *shared = all_shifts + maps;
    if (of_batch) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
        for (int64_t n = 0; n < images; n++)
            image_moments(x + n * channels * size, last, channels, size, means + n * channels,
                          vars + n * channels);
    }
    for (int k = 0; k < parts; k++) {
        double *its_mean = shared + 3 * k * channels, *its_var = its_mean + channels;
        double *its_factor = its_var + channels;
        if (pools[k] == BATCH) {
            pool_batch(images, channels, means, vars, its_mean, its_var);
        } else if (pools[k] == FIXED) {
            for (int64_t c = 0; c < channels; c++)
                its_mean[c] = mean[k][c], its_var[c] = second[k][c];
        } else {
            continue;
        }
        for (int64_t c = 0; c < channels; c++) {
            double rstd = 1 / sqrt(its_var[c] + eps);
            its_factor[c] = share_of(k, gate, c) * rstd;
            if (pools[k] == FIXED) continue;
            mean[k][c] = (float)its_mean[c], second[k][c] = (float)rstd;
            if (k == 0) first_var[c] = (float)its_var[c];
        }
    }
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t n = 0; n < images; n++) {
        int64_t at = n * channels;
        float *pivot = factors + at * 3, *scale = pivot + channels, *shift = scale + channels;
        double *scales = all_scales + at, *shifts = all_shifts + at;
        if (of_maps && !of_batch)
            image_moments(x + at * size, last, channels, size, means + at, vars + at);
        for (int64_t c = 0; c < channels; c++) {
            /* Centred on the map's own mean, so that a large offset does not cancel. */
            pivot[c] = of_maps ? (float)means[at + c] : mean[0][c];
            scales[c] = shifts[c] = 0;
        }
        for (int k = 0; k < parts; k++) {
            if (pools[k] <= 0) {
                const double *its_mean = shared + 3 * k * channels;
                const double *its_factor = its_mean + 2 * channels;
                for (int64_t c = 0; c < channels; c++) {
                    scales[c] += its_factor[c];
                    shifts[c] += its_factor[c] * (pivot[c] - its_mean[c]);
                }
                continue;
            }
            int64_t each = channels / pools[k];
            for (int64_t s = 0; s < pools[k]; s++) {
                double m, v;
                pool_group(each, means + at + s * each, vars + at + s * each, &m, &v);
                double rstd = 1 / sqrt(v + eps);
                mean[k][n * pools[k] + s] = (float)m, second[k][n * pools[k] + s] = (float)rstd;
                if (k == 0) first_var[n * pools[k] + s] = (float)v;
                for (int64_t c = s * each; c < (s + 1) * each; c++) {
                    double factor = share_of(k, gate, c) * rstd;
                    scales[c] += factor, shifts[c] += factor * (pivot[c] - m);
                }
            }
        }
        for (int64_t c = 0; c < channels; c++) {
            double w = weight ? weight[c] : 1;
            scale[c] = (float)(scales[c] * w);
            shift[c] = (float)(shifts[c] * w + (bias ? bias[c] : 0));
        }
        scale_image(x, y, then, at * size, last, channels, size, pivot, scale, shift);
    }
    free(memory), free(own);
    return 0;
}

/* The output of normlab_forward once more, from what it kept. */
void normlab_output(const float *x, float *y, const float *kept, const float *residual, int relu,
                    int64_t images, int64_t channels, int64_t size, int last, int threads) {
    Then then = {residual, relu};
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t n = 0; n < images; n++) {
        const float *pivot = kept + n * channels * 3, *scale = pivot + channels;
        scale_image(x, y, then, n * channels * size, last, channels, size, pivot, scale,
                    scale + channels);
    }
}

/* Mean and 1 / sqrt(var + eps) of each map of an image as a part has them, from what is saved. */
INLINE void spread(int pool, const float *mean, const float *second, int64_t n, int64_t channels,
                   double eps, double *to_mean, double *to_rstd) {
    if (pool <= 0) {
        for (int64_t c = 0; c < channels; c++) {
            to_mean[c] = mean[c];
            to_rstd[c] = pool == FIXED ? 1 / sqrt(second[c] + eps) : second[c];
        }
        return;
    }
    int64_t each = channels / pool;
    for (int64_t s = 0; s < pool; s++)
        for (int64_t c = s * each; c < (s + 1) * each; c++)
            to_mean[c] = mean[n * pool + s], to_rstd[c] = second[n * pool + s];
}

/* Backward, from what forward saved, for pools of which at least one is not FIXED. dx and the
   gradients of weight, bias and gate may be NULL. y is the output where a ReLU follows, else NULL;
   dresidual, which needs dx, the gradient of what was added before it.

   With a = mean of g and b_k = mean of g * xhat_k over a map, see _Lean in _core.py. Returns 0, or
   1 where there is no memory. */
int normlab_backward(const float *g, const float *y, const float *x, float *dx,
                     float *dresidual, const float *weight,
                     const float *gate, const float *mean_0, const float *second_0,
                     const float *mean_1, const float *second_1, float *dweight, float *dbias,
                     float *dgate, int64_t images, int64_t channels, int64_t size, int last,
                     int pool_0, int pool_1, double eps, int threads) {
    const float *mean[] = {mean_0, mean_1}, *second[] = {second_0, second_1};
    int pools[] = {pool_0, pool_1}, parts = gate ? 2 : 1;
    int64_t maps = images * channels;
    /* Of each map a, its mean of g * (x - pivot), and by part b, mean and 1 / sqrt(var + eps); of
       each channel by part the pooled a and b. */
    double *memory = malloc(((size_t)maps * (2 + 3 * MOST_PARTS) +
                             (size_t)channels * 2 * MOST_PARTS) * sizeof(double));
    float *factors = malloc((size_t)maps * 4 * sizeof(float));
    if (!memory || !factors) {
        free(memory), free(factors);
        return 1;
    }
    double *a = memory, *centred = a + maps, *b = centred + maps, *means = b + MOST_PARTS * maps;
    double *rstds = means + MOST_PARTS * maps, *pooled = rstds + MOST_PARTS * maps;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t n = 0; n < images; n++) {
        int64_t at = n * channels;
        float *pivot = factors + at * 4;
        for (int k = 0; k < parts; k++)
            spread(pools[k], mean[k], second[k], n, channels, eps, means + k * maps + at,
                   rstds + k * maps + at);
        /* The last part has the smallest sets: their means are nearest to the values. */
        for (int64_t c = 0; c < channels; c++)
            pivot[c] = (float)means[(parts - 1) * maps + at + c];
        image_sums(g, y, x, at * size, last, channels, size, pivot, a + at, centred + at);
        for (int k = 0; k < parts; k++)
            for (int64_t c = 0; c < channels; c++) {
                int64_t i = k * maps + at + c;
                b[i] = rstds[i] * (centred[at + c] + (pivot[c] - means[i]) * a[at + c]);
            }
    }
    for (int k = 0; k < parts; k++) {
        if (pools[k] != BATCH) continue;
        double *of_a = pooled + 2 * k * channels, *of_b = of_a + channels;
        for (int64_t c = 0; c < 2 * channels; c++) of_a[c] = 0;
        for (int64_t n = 0; n < images; n++)
            for (int64_t c = 0; c < channels; c++) {
                of_a[c] += a[n * channels + c];
                of_b[c] += b[k * maps + n * channels + c];
            }
        for (int64_t c = 0; c < channels; c++) {
            double part = (weight ? weight[c] : 1) * share_of(k, gate, c) / images;
            of_a[c] *= part, of_b[c] *= part;
        }
    }
    if (dweight || dbias || dgate)
        for (int64_t c = 0; c < channels; c++) {
            double w = weight ? weight[c] : 1, of_weight = 0, of_bias = 0, of_gate = 0;
            for (int64_t i = c; i < maps; i += channels) {
                of_bias += a[i];
                for (int k = 0; k < parts; k++) of_weight += share_of(k, gate, c) * b[k * maps + i];
                if (dgate) of_gate += w * (b[i] - b[maps + i]);
            }
            if (dweight) dweight[c] = (float)(size * of_weight);
            if (dbias) dbias[c] = (float)(size * of_bias);
            if (dgate) dgate[c] = (float)(size * of_gate);
        }
    if (!dx) {
        free(memory), free(factors);
        return 0;
    }
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t n = 0; n < images; n++) {
        int64_t at = n * channels;
        float *pivot = factors + at * 4, *g_scale = pivot + channels;
        float *x_scale = g_scale + channels, *shift = x_scale + channels;
        for (int64_t c = 0; c < channels; c++) g_scale[c] = x_scale[c] = shift[c] = 0;
        for (int k = 0; k < parts; k++) {
            const double *its_mean = means + k * maps + at, *rstd = rstds + k * maps + at;
            const double *its_b = b + k * maps + at;
            const double *of_a = pooled + 2 * k * channels, *of_b = of_a + channels;
            int64_t each = pools[k] > 0 ? channels / pools[k] : channels;
            for (int64_t from = 0; from < channels; from += each) {
                double group_a = 0, group_b = 0;
                if (pools[k] > 0) {
                    for (int64_t c = from; c < from + each; c++) {
                        double part = (weight ? weight[c] : 1) * share_of(k, gate, c);
                        group_a += part * a[at + c], group_b += part * its_b[c];
                    }
                    group_a /= each, group_b /= each;
                }
                for (int64_t c = from; c < from + each; c++) {
                    double part = (weight ? weight[c] : 1) * share_of(k, gate, c);
                    g_scale[c] += (float)(part * rstd[c]);
                    if (pools[k] == FIXED) continue;
                    double mean_a = pools[k] == BATCH ? of_a[c] : group_a;
                    double mean_b = rstd[c] * (pools[k] == BATCH ? of_b[c] : group_b);
                    x_scale[c] -= (float)(rstd[c] * mean_b);
                    shift[c] -= (float)(rstd[c] * (mean_a + (pivot[c] - its_mean[c]) * mean_b));
                }
            }
        }
        image_gradient(g, y, x, dx, dresidual, at * size, last, channels, size, pivot, g_scale,
                       x_scale, shift);
    }
    free(memory), free(factors);
    return 0;
}

/* y = ReLU(x + residual) of `count` values. */
void normlab_add_relu(const float *x, const float *residual, float *y, int64_t count,
                      int threads) {
    int64_t whole = count - count % LANES;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t i = 0; i < whole; i += LANES) {
        vf v = load(x + i, LANES) + load(residual + i, LANES);
        store(y + i, kept_by(v, v), LANES);
    }
    for (int64_t i = whole; i < count; i++) {
        float v = x[i] + residual[i];
        y[i] = v <= 0 ? 0 : v;
    }
}

/* Move the running values of each channel towards new ones, times `factor`, as
   BatchStatistics._move in batch.py does: an average that holds an infinity is infinite. */
void normlab_move(float *running, const float *new, float share, float factor, int64_t channels) {
    for (int64_t c = 0; c < channels; c++) {
        float old = running[c], apart = new[c] * factor - old;
        running[c] = isinf(old) ? old
                     : share < 0.5f ? old + share * apart
                                    : new[c] * factor - apart * (1 - share);
    }
}
