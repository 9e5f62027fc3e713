// Group norm, modulation and SiLU in one pass over memory, forward and backward, on the CPU.
//
//     u = ((x - m) r gamma + beta) (1 + scale) + shift,     y = u / (1 + exp(-u))
//
// x is (B, P, C): channels last, P positions. m and r = 1 / sqrt(var + eps) are per sample and group.
// For a fixed sample and channel u = a x + s is affine in x, so one sample is read twice while it is in
// cache: once for its sums, once to be written. Backward, with d = dy sigma(u) (1 + u (1 - sigma(u))):
//
//     D = sum_p d,  E = sum_p d (x - m) r                       per sample and channel
//     dshift = D,  dscale = gamma E + beta D,  dgamma = sum_b (1 + scale) E,  dbeta = sum_b (1 + scale) D
//     dx = r k d - r (mean_g(k D) + (x - m) r mean_g(k E)),     k = gamma (1 + scale), means over P C / G
//
// d is kept in dx between the two passes. What also flows to x past the norm (the residual path) is
// added on the way. Types: float, and bfloat16 as its 16 bits; sums are float. GELU is at the end.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

typedef uint16_t bf16;

static inline float load(float v) { return v; }
static inline float load(bf16 v) {
    uint32_t bits = (uint32_t)v << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}
static inline void store(float *to, float v) { *to = v; }
static inline void store(bf16 *to, float v) {  // round to nearest, ties to even
    uint32_t bits;
    memcpy(&bits, &v, 4);
    *to = (bf16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// exp(-u): 2^t = 2^n 2^f with n = round(t), |f| <= 1/2, and a polynomial for 2^f (error 2e-7)
static inline float decay(float u) {
    float t = u * -1.44269504f;
    t = t > 126.0f ? 126.0f : t;
    t = t < -126.0f ? -126.0f : t;
    float n = __builtin_rintf(t), f = t - n;
    float p = 1.33335581e-3f + f * 1.54035304e-4f;
    p = 9.61812911e-3f + f * p;
    p = 5.55041087e-2f + f * p;
    p = 2.40226507e-1f + f * p;
    p = 6.93147181e-1f + f * p;
    p = 1.0f + f * p;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}
static inline float sigmoid(float u) { return 1.0f / (1.0f + decay(u)); }

struct Shape {
    int64_t batch, positions, channels, groups, stride;  // stride: of a row of the modulation
};

// u = a x + s for one sample
static void affine(const Shape &n, const float *mean, const float *rstd, const float *gamma, const float *beta,
                   const float *scale, const float *shift, float *a, float *s) {
    int64_t per = n.channels / n.groups;
    for (int64_t c = 0; c < n.channels; c++) {
        float k = scale ? 1.0f + scale[c] : 1.0f;
        a[c] = gamma[c] * rstd[c / per] * k;
        s[c] = (beta[c] - gamma[c] * rstd[c / per] * mean[c / per]) * k + (shift ? shift[c] : 0.0f);
    }
}

template <class T>
static void moments(const Shape &n, const T *x, float eps, float *mean, float *rstd, float *sum, float *square) {
    int64_t C = n.channels, per = C / n.groups;
    memset(sum, 0, C * sizeof(float));
    memset(square, 0, C * sizeof(float));
    for (int64_t p = 0; p < n.positions; p++)
        for (int64_t c = 0; c < C; c++) {
            float v = load(x[p * C + c]);
            sum[c] += v;
            square[c] += v * v;
        }
    double count = (double)(n.positions * per);
    for (int64_t g = 0; g < n.groups; g++) {
        double m = 0, q = 0;
        for (int64_t c = g * per; c < (g + 1) * per; c++) m += sum[c], q += square[c];
        m /= count;
        double var = q / count - m * m;
        mean[g] = (float)m;
        rstd[g] = (float)(1.0 / std::sqrt((var > 0 ? var : 0) + eps));
    }
}

template <class T>
static void forward(Shape n, float eps, const T *x, const float *gamma, const float *beta, const float *scale,
                    const float *shift, T *y, float *mean, float *rstd) {
    int64_t C = n.channels, G = n.groups, size = n.positions * C;
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < n.batch; b++) {
        std::vector<float> buffer(2 * C);
        float *a = buffer.data(), *s = a + C;
        const T *from = x + b * size;
        T *to = y + b * size;
        moments(n, from, eps, mean + b * G, rstd + b * G, a, s);
        affine(n, mean + b * G, rstd + b * G, gamma, beta, scale ? scale + b * n.stride : nullptr,
               shift ? shift + b * n.stride : nullptr, a, s);
        for (int64_t p = 0; p < n.positions; p++)
#pragma GCC ivdep
            for (int64_t c = 0; c < C; c++) {
                float u = a[c] * load(from[p * C + c]) + s[c];
                store(&to[p * C + c], u * sigmoid(u));
            }
    }
}

// first pass: d into dx, and its sums D and E per channel
template <class T>
static void slope(const Shape &n, const T *dy, const T *x, const float *a, const float *s, T *dx, float *D,
                  float *E) {
    int64_t C = n.channels;
    memset(D, 0, C * sizeof(float));
    memset(E, 0, C * sizeof(float));
    for (int64_t p = 0; p < n.positions; p++)
#pragma GCC ivdep
        for (int64_t c = 0; c < C; c++) {
            float v = load(x[p * C + c]), u = a[c] * v + s[c], sig = sigmoid(u);
            float d = load(dy[p * C + c]) * sig * (1.0f + u * (1.0f - sig));
            store(&dx[p * C + c], d);
            D[c] += d;
            E[c] += d * v;
        }
}

// second pass: dx = w d + q x + t, plus what flows past the norm
template <class T>
static void finish(const Shape &n, const T *x, const T *past, const float *w, const float *q, const float *t,
                   T *dx) {
    int64_t C = n.channels;
    for (int64_t p = 0; p < n.positions; p++)
#pragma GCC ivdep
        for (int64_t c = 0; c < C; c++) {
            int64_t i = p * C + c;
            float v = w[c] * load(dx[i]) + q[c] * load(x[i]) + t[c];
            store(&dx[i], past ? v + load(past[i]) : v);
        }
}

// gradients per channel from the sums; leaves the coefficients of the second pass in w, q, t
static void spread(const Shape &n, const float *mean, const float *rstd, const float *gamma, const float *beta,
                   const float *scale, const float *D, float *E, float *partial, float *dmod, float *w, float *q,
                   float *t) {
    int64_t C = n.channels, per = C / n.groups;
    for (int64_t g = 0; g < n.groups; g++) {
        float m = mean[g], r = rstd[g], first = 0, second = 0;
        for (int64_t c = g * per; c < (g + 1) * per; c++) {
            float one = scale ? 1.0f + scale[c] : 1.0f, k = gamma[c] * one;
            E[c] = r * (E[c] - m * D[c]);
            first += k * D[c];
            second += k * E[c];
            partial[c] = one * E[c];
            partial[C + c] = one * D[c];
            if (dmod) dmod[c] = gamma[c] * E[c] + beta[c] * D[c], dmod[C + c] = D[c];
            w[c] = r * k;
        }
        first /= (float)(n.positions * per);
        second /= (float)(n.positions * per);
        for (int64_t c = g * per; c < (g + 1) * per; c++) {
            q[c] = -r * r * second;
            t[c] = -r * first + r * r * m * second;
        }
    }
}

template <class T>
static void backward(Shape n, const T *dy, const T *past, const T *x, const float *gamma, const float *beta,
                     const float *scale, const float *shift, const float *mean, const float *rstd, T *dx,
                     float *dgamma, float *dbeta, float *dmod) {
    int64_t C = n.channels, G = n.groups, size = n.positions * C;
    std::vector<float> partial(n.batch * 2 * C);
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < n.batch; b++) {
        std::vector<float> buffer(7 * C);
        float *a = buffer.data(), *s = a + C, *D = s + C, *E = D + C, *w = E + C, *q = w + C, *t = q + C;
        const float *m = mean + b * G, *r = rstd + b * G, *row = scale ? scale + b * n.stride : nullptr;
        affine(n, m, r, gamma, beta, row, shift ? shift + b * n.stride : nullptr, a, s);
        slope(n, dy + b * size, x + b * size, a, s, dx + b * size, D, E);
        spread(n, m, r, gamma, beta, row, D, E, &partial[b * 2 * C], dmod ? dmod + b * 2 * C : nullptr, w, q, t);
        finish(n, x + b * size, past ? past + b * size : nullptr, w, q, t, dx + b * size);
    }
    memset(dgamma, 0, C * sizeof(float));
    memset(dbeta, 0, C * sizeof(float));
    for (int64_t b = 0; b < n.batch; b++)
        for (int64_t c = 0; c < C; c++) {
            dgamma[c] += partial[b * 2 * C + c];
            dbeta[c] += partial[b * 2 * C + C + c];
        }
}

// GELU in its tanh form, element by element:
//
//     y = u s,  dy/du = s + u s (1 - s) g'(u),     s = 1 / (1 + exp(-g)),  g = A u + B u^3
//
// 1 - s is exp(-g) s, exact where s is almost 1. s is never below 2^-126, so that far down y is 2^-126 u and
// not 0. The derivative is taken at u within [-8, 8]: outside it is 0 or 1 to 1e-18, and no product here
// can overflow. All arithmetic is on whole blocks in local memory, so that every element goes through
// the same instructions and none depends on its place: a compiler computes what a vector leaves over
// in another way.

static const float A = 1.59576912f, B = 0.0713548163f;  // 2 sqrt(2 / pi), 0.044715 times that
static const int64_t BLOCK = 512;                       // elements
static const int64_t ALONE = 32;                        // blocks that one thread does faster than several

static inline float gelu(float u) { return u * sigmoid(u * (A + B * u * u)); }

static inline float gelu_slope(float u) {
    u = u > 8.0f ? 8.0f : u;
    u = u < -8.0f ? -8.0f : u;
    float w = u * u, e = decay(u * (A + B * w)), s = 1.0f / (1.0f + e);
    return s + u * (s * s * e) * (A + 3.0f * B * w);
}

// y(u), or dy times the derivative at u where there is a dy
template <class T>
static void gelu(int64_t size, const T *u, const T *dy, T *out) {
    int64_t blocks = (size + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) if (blocks > ALONE)
    for (int64_t b = 0; b < blocks; b++) {
        alignas(64) float v[BLOCK];
        int64_t start = b * BLOCK, count = size - start < BLOCK ? size - start : BLOCK;
        if (count < BLOCK) memset(v, 0, sizeof v);
        for (int64_t i = 0; i < count; i++) v[i] = load(u[start + i]);
        if (dy) {
            for (int64_t i = 0; i < BLOCK; i++) v[i] = gelu_slope(v[i]);
            for (int64_t i = 0; i < count; i++) v[i] *= load(dy[start + i]);
        } else
            for (int64_t i = 0; i < BLOCK; i++) v[i] = gelu(v[i]);
        for (int64_t i = 0; i < count; i++) store(&out[start + i], v[i]);
    }
}

#define INSTANCES(T, NAME)                                                                                       \
    extern "C" void forward_##NAME(int64_t B, int64_t P, int64_t C, int64_t G, int64_t stride, float eps,       \
                                   const T *x, const float *gamma, const float *beta, const float *scale,       \
                                   const float *shift, T *y, float *mean, float *rstd) {                        \
        forward<T>({B, P, C, G, stride}, eps, x, gamma, beta, scale, shift, y, mean, rstd);                     \
    }                                                                                                           \
    extern "C" void backward_##NAME(int64_t B, int64_t P, int64_t C, int64_t G, int64_t stride, const T *dy,    \
                                    const T *past, const T *x, const float *gamma, const float *beta,           \
                                    const float *scale, const float *shift, const float *mean,                  \
                                    const float *rstd, T *dx, float *dgamma, float *dbeta, float *dmod) {       \
        backward<T>({B, P, C, G, stride}, dy, past, x, gamma, beta, scale, shift, mean, rstd, dx, dgamma,       \
                    dbeta, dmod);                                                                               \
    }                                                                                                           \
    extern "C" void gelu_##NAME(int64_t size, const T *u, const T *dy, T *out) { gelu<T>(size, u, dy, out); }

INSTANCES(float, float32)
INSTANCES(bf16, bfloat16)
