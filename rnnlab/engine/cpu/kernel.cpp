// Whole updates of one network: forward, backward, omega, clip with guard, step. One call trains one member on one
// core, so that its weights and states stay in that core's caches and no member can touch another.
//
// Rows of N numbers are padded to NP, a multiple of the vector's LANES. Products are register tiles of ROWS rows by up
// to PANEL vectors, with the sum over the inner index in order: what a number becomes does not depend on its tile.
// Compiled with WIDTH for one NP, which the inner loops then know (a fifth of the time); without it, for any.
// Never compile with -ffast-math: tests for NaN must stay, and the process's floating-point mode is not ours.

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

#ifndef WIDTH
#define WIDTH 0
#endif
#define INLINE inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

enum Sigma { TANH, SIGMOID, LINEAR };
enum Loss { SOFTMAX, SQUARED_ERROR, BERNOULLI };
enum Method { ALGORITHM, ADAM_W };
enum Omega { NO_OMEGA, CODE, EQ9, EQ10_AS_PRINTED };
enum Clip { NO_CLIP, NORM, ELEMENTWISE };
enum Guard { NO_GUARD, SHRINK, SKIP };
enum Event { NONE, CLIPPED, GUARDED, DIVERGED };

// The same fields, in the same order, as `Job` in kernel.py. Strides count elements from one update to the next.
struct Job {
    int32_t N, I, O, B, T, K;
    int32_t symbols, classes;  // bytes of each: 1, or 2 where a network has more than 256; 0 for real numbers
    int32_t sigma, loss, method, omega, clip, guard;
    int32_t every_step, over_steps;  // whether every step has outputs, and whether their losses are summed
    float threshold, guard_factor, guard_limit, rate, bound;
    int64_t input_stride, target_stride, trace_stride;
    float* theta;            // W_rec N N, W_in N I, b N, W_out O N, b_out O
    const void* inputs;      // K times T B symbols, or T B I floats
    const void* targets;     // K times S B classes, or S B O floats
    const int64_t* lengths;  // at k * trace_stride
    const float* alpha;      // K
    float *loss_out, *norm_out, *omega_out;
    uint8_t* events;
    const float* h_0;  // B N, or null for zeros
    // Only wanted for K = 1, and then theta is left alone; null otherwise.
    float *gradient, *states, *delta, *outputs;
    float* space;
};

static INLINE vec load(const float* p) { return *(const vec*)p; }
static INLINE void store(float* p, vec v) { *(vec*)p = v; }
static INLINE vec fill(float x) { return x - (vec){}; }
static INLINE float sum(vec v) {
    float s = 0;
    for (int i = 0; i < LANES; i++) s += v[i];
    return s;
}
// Number i of the symbols or classes, which have so many bytes.
static INLINE int number(const void* p, int bytes, long i) { return bytes == 1 ? ((const uint8_t*)p)[i] : ((const int16_t*)p)[i]; }
static int padded(int n) { return (n + LANES - 1) / LANES * LANES; }

// The smaller and the larger of limit and x; x where that is NaN.
#if LANES == 8 && defined(__AVX__)
static INLINE vec at_most(float limit, vec x) { return (vec)__builtin_ia32_minps256(fill(limit), x); }
static INLINE vec at_least(float limit, vec x) { return (vec)__builtin_ia32_maxps256(fill(limit), x); }
#else
static INLINE vec at_most(float limit, vec x) { return x > limit ? fill(limit) : x; }
static INLINE vec at_least(float limit, vec x) { return x < limit ? fill(limit) : x; }
#endif

// exp(x) for x from -87 to 87 to one unit in the last place: x = n ln 2 + r, a polynomial of r, n into the exponent.
static INLINE vec exp_of(vec x) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
    x = at_least(-87.0f, at_most(87.0f, x));
    const vec shifted = x * 1.44269504f + magic;
    const vec n = shifted - magic;
    const vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    vec p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    ivec bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + (127 << 23);  // 2^n
    vec power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

// tanh(a) to five units in the last place, at most 1: a ratio of polynomials in a^2, of degrees 5 and 3, fitted for the
// least relative error (2.4e-8) up to 8.2. Beyond, tanh is 1 - 1.5e-7 or nearer to 1; beyond 9.02 it rounds to 1, and has
// to be 1, since a slope that is not 0 there would be all that is left of a gradient.
static INLINE vec tanh_of(vec a) {
    const auto far = a * a > 81.36f;
    a = at_least(-8.2f, at_most(8.2f, a));
    const vec s = a * a;
    vec p = s * 2.2355948e-11f - 1.4305087e-8f, q = s * 2.3541910e-4f + 2.3976821e-2f;
    p = p * s + 9.7571097e-6f, q = q * s + 4.6300980e-1f;
    p = p * s + 2.9732268e-3f, q = q * s + 1.0f;
    p = p * s + 1.2967668e-1f;
    p = p * s + 1.0f;
    return (far ? a : a * p) / (far ? fill(8.2f) : q);
}

template <int S> static INLINE vec apply(vec a) {
    if (S == TANH) return tanh_of(a);
    if (S == SIGMOID) return 1.0f / (exp_of(-a) + 1.0f);
    return a;
}

template <int S> static INLINE vec slope(vec h) {
    if (S == TANH) return 1.0f - h * h;
    if (S == SIGMOID) return h * (1.0f - h);
    return fill(1.0f);
}

// acc[r] += sum over k of a(r, k) w[k], with a(r, k) = a[r row + k step]
template <int R, int C> static INLINE void multiply(vec (&acc)[R][C], const float* a, long row, long step, const float* w, long ld, int K) {
    for (int k = 0; k < K; k++, a += step, w += ld) {
        vec panel[C];
        for (int c = 0; c < C; c++) panel[c] = load(w + LANES * c);
        for (int r = 0; r < R; r++) {
            const float x = a[r * row];
            for (int c = 0; c < C; c++) acc[r][c] += x * panel[c];
        }
    }
}

template <int C, class F> static __attribute__((noinline)) void row_of(int r, int v, const F& f) { f.template tile<1, C>(r, v); }

// Do what `f` does for all rows, in tiles of ROWS and then one by one, at C vectors from number v.
template <int C, class F> static INLINE void rows_of(int rows, int v, const F& f) {
    int r = 0;
    for (; r + ROWS <= rows; r += ROWS) f.template tile<ROWS, C>(r, v);
    for (; r < rows; r++) row_of<C>(r, v, f);
}

template <class F> static INLINE void tiles(int rows, int vectors, const F& f) {
    int v = 0;
    for (; v + PANEL <= vectors; v += PANEL) rows_of<PANEL>(rows, v, f);
    switch (vectors - v) {
        case 1: return rows_of<1>(rows, v, f);
        case 2: return rows_of<2>(rows, v, f);
        case 3: return rows_of<3>(rows, v, f);
    }
}

// y = sigma(x W^T + drive): the drive is a row of a table for a symbol, or b + u W_in^T.
template <int S> struct Forward {
    const float *x, *W, *table;
    float* y;
    const void* symbols;
    int bytes;  // of a symbol
    const float *u, *b;
    int N, NP, I;
    template <int R, int C> INLINE void tile(int r, int v) const {  // R rows from r, C vectors from v
        vec acc[R][C];
        for (int i = 0; i < R; i++)
            for (int c = 0; c < C; c++)
                acc[i][c] = load((symbols ? table + (long)number(symbols, bytes, r + i) * NP : b) + LANES * (v + c));
        if (!symbols) multiply<R, C>(acc, u + (long)r * I, I, 1, table + LANES * v, NP, I);
        multiply<R, C>(acc, x + (long)r * NP, NP, 1, W + LANES * v, NP, N);
        for (int i = 0; i < R; i++)
            for (int c = 0; c < C; c++) store(y + (long)(r + i) * NP + LANES * (v + c), apply<S>(acc[i][c]));
    }
};

// y = a w (+ y): a is rows by K, w is K by columns
struct Product {
    const float* a;
    long row, step;
    const float* w;
    long ldw;
    float* y;
    long ldy;
    int K;
    bool add;
    template <int R, int C> INLINE void tile(int r, int v) const {
        vec acc[R][C];
        for (int i = 0; i < R; i++)
            for (int c = 0; c < C; c++) acc[i][c] = add ? load(y + (r + i) * ldy + LANES * (v + c)) : (vec){};
        multiply<R, C>(acc, a + r * row, row, step, w + LANES * v, ldw, K);
        for (int i = 0; i < R; i++)
            for (int c = 0; c < C; c++) store(y + (r + i) * ldy + LANES * (v + c), acc[i][c]);
    }
};

// Compiled once, for all callers that take little of the time.
static __attribute__((noinline)) void product(int rows, int vectors, const Product& p) { tiles(rows, vectors, p); }

static const int TILE = 4;  // steps whose products join W_rec's gradient at a time

// Where everything lies in a member's workspace; the one place that knows its size.
struct Space {
    int NP, OP;
    float *W, *W_T, *table, *b, *W_out, *W_out_T, *b_out;           // parameters, padded
    float *gW, *g_table, *g_b, *gW_out, *g_b_out;                   // gradients, likewise
    float *h, *delta, *n, *v, *y;                                   // histories, a tile, outputs
    float *d2, *n2, *c;                                             // squared norms of delta and n, omega's weights
    long size;
    Space(const Job& j, float* p) : NP(WIDTH ? WIDTH : padded(j.N)), OP(padded(j.O)) {
        const long step = (long)j.B * NP, S = j.every_step ? j.T : 1, pairs = (long)j.T * j.B;
        float* start = p;
        const auto take = [&](long count) { float* q = p; p += (count + 15) / 16 * 16; return q; };
        W = take((long)j.N * NP), W_T = take((long)j.N * NP), table = take((long)j.I * NP), b = take(NP);
        W_out = take((long)j.O * NP), W_out_T = take((long)j.N * OP), b_out = take(OP);
        gW = take((long)j.N * NP), g_table = take((long)j.I * NP), g_b = take(NP), gW_out = take((long)j.O * NP), g_b_out = take(OP);
        h = take((j.T + 1) * step), delta = take((j.T + 1) * step);
        n = S > 1 ? take(j.T * step) : delta;  // with one loss at the end, n_t is delta_{t-1} itself
        v = take(TILE * step), y = take(S * j.B * OP);
        d2 = take(pairs + j.B), n2 = S > 1 ? take(pairs) : d2, c = take(pairs);
        size = p - start;
    }
};

// Names of a member's flat parameters.
struct Theta {
    float *W, *W_in, *b, *W_out, *b_out;
    Theta(const Job& j, float* p)
        : W(p), W_in(W + (long)j.N * j.N), b(W_in + (long)j.N * j.I), W_out(b + j.N), b_out(W_out + (long)j.O * j.N) {}
};


static void unpack(const Job& j, const Space& s) {
    const Theta p(j, j.theta);
    memset(s.W, 0, sizeof(float) * (s.gW - s.W));
    for (int i = 0; i < j.N; i++) {
        for (int k = 0; k < j.N; k++) s.W[i * s.NP + k] = s.W_T[k * s.NP + i] = p.W[(long)i * j.N + k];
        for (int k = 0; k < j.I; k++) s.table[k * s.NP + i] = p.W_in[(long)i * j.I + k] + (j.symbols ? p.b[i] : 0.0f);
        for (int o = 0; o < j.O; o++) s.W_out[o * s.NP + i] = s.W_out_T[i * s.OP + o] = p.W_out[(long)o * j.N + i];
        s.b[i] = p.b[i];
    }
    for (int o = 0; o < j.O; o++) s.b_out[o] = p.b_out[o];
}

// h_0 of B rows from row `first`
static void start(const Job& j, const Space& s, long first) {
    memset(s.h, 0, sizeof(float) * j.B * s.NP);
    if (j.h_0)
        for (int r = 0; r < j.B; r++) memcpy(s.h + (long)r * s.NP, j.h_0 + (first + r) * j.N, sizeof(float) * j.N);
}

// One step of B rows, whose inputs begin at number `at`.
template <int S> static INLINE void advance(const Job& j, const Space& s, const void* inputs, long at, const float* now, float* next) {
    const int NP = WIDTH ? WIDTH : s.NP;
    Forward<S> f = {now, s.W_T, s.table, next, nullptr, j.symbols, nullptr, s.b, j.N, NP, 0};
    if (j.symbols) {
        f.symbols = (const char*)inputs + at * j.symbols;
        tiles(j.B, NP / LANES, f);
    } else {
        f.u = (const float*)inputs + at * j.I, f.I = j.I;
        tiles(j.B, NP / LANES, f);
    }
}

template <int S> static void forward(const Job& j, const Space& s, const void* inputs, int T) {
    const long step = (long)j.B * (WIDTH ? WIDTH : s.NP);
    start(j, s, 0);
    for (int t = 0; t < T; t++) advance<S>(j, s, inputs, (long)t * j.B, s.h + t * step, s.h + (t + 1) * step);
}

// y = h W_out^T + b_out for B rows
static void read(const Job& j, const Space& s, const float* h, float* y) {
    for (int r = 0; r < j.B; r++) memcpy(y + (long)r * s.OP, s.b_out, sizeof(float) * s.OP);
    product(j.B, s.OP / LANES, Product{h, s.NP, 1, s.W_out_T, s.OP, y, s.OP, j.N, true});
}

// The loss of B rows, and in the place of y its derivative, of the mean over `rows` rows in all.
static double score(const Job& j, const Space& s, float* y, const void* targets, long first, double rows) {
    double loss = 0;
    for (int r = 0; r < j.B; r++, y += s.OP) {
        if (j.loss == SQUARED_ERROR) {
            const float* target = (const float*)targets + (first + r) * j.O;
            for (int o = 0; o < j.O; o++) {
                const double deviation = (double)y[o] - target[o];
                loss += deviation * deviation;
                y[o] = (float)(2 * deviation / rows);
            }
            continue;
        }
        const int target = number(targets, j.classes, first + r);
        float top = y[0];
        for (int o = 1; o < j.O; o++) top = y[o] > top ? y[o] : top;
        const float right = y[target] - top;
        double total = 0;
        for (int v = 0; v < s.OP; v += LANES) store(y + v, exp_of(load(y + v) - top));
        for (int o = 0; o < j.O; o++) total += y[o];
        loss += std::log(total) - right;
        for (int o = 0; o < j.O; o++) y[o] = (float)((y[o] / total - (o == target)) / rows);
        for (int o = j.O; o < s.OP; o++) y[o] = 0;
    }
    return loss / rows;
}

// sum of the squares of n numbers
static INLINE float squared(const float* x, int n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

// Carry dE/dh from step T to 0. On entry the rows of y hold the loss's derivative for the outputs.
template <int S> static void backward(const Job& j, const Space& s, int T) {
    const int NP = WIDTH ? WIDTH : s.NP, vectors = NP / LANES;
    const long step = (long)j.B * NP;
    const bool every = j.every_step;
    const auto immediate = [&](int t, bool add) {  // delta_t (+)= dE_t/dy W_out
        product(j.B, vectors, Product{s.y + (every ? (long)(t - 1) * j.B * s.OP : 0), s.OP, 1, s.W_out, NP, s.delta + t * step, NP, j.O, add});
    };
    const auto norms = [&](const float* rows, float* squares) {
        if (j.omega)
            for (int r = 0; r < j.B; r++) squares[r] = squared(rows + (long)r * NP, NP);
    };
    immediate(T, false);
    for (int t = T; t > 0; t--) {
        const float *h = s.h + t * step, *d = s.delta + t * step;
        float* n = s.n + (t - 1) * step;
        for (long i = 0; i < step; i += LANES) store(s.v + i, load(d + i) * slope<S>(load(h + i)));
        norms(d, s.d2 + (long)t * j.B);
        tiles(j.B, vectors, Product{s.v, NP, 1, s.W, NP, n, NP, j.N, false});
        if (every) {
            norms(n, s.n2 + (long)(t - 1) * j.B);
            memcpy(s.delta + (t - 1) * step, n, sizeof(float) * step);
            if (t > 1) immediate(t - 1, true);
        }
    }
    if (!every) norms(s.n, s.d2);  // n_t is delta_{t-1}, so that n2 is d2
}

struct Sums { double omega; long live; };

// The regularizer: each pair's coefficient, and Omega's sum over the pairs.
static Sums regularize(const Job& j, const Space& s, int T) {
    Sums sums = {0, 0};
    for (long i = 0; i < (long)T * j.B; i++) {
        const float d2 = s.d2[i + j.B], n2 = s.n2[i], q = n2 / d2;
        s.c[i] = 0;
        if (!(d2 >= j.bound)) continue;
        sums.live++;
        if (j.omega == CODE) s.c[i] = (q - 1) / d2, sums.omega += ((double)q - 1) * ((double)q - 1);
        if (j.omega == EQ9) {
            const double ratio = std::sqrt(q >= FLT_MIN ? q : (double)n2 / d2);
            sums.omega += (ratio - 1) * (ratio - 1);
            if (n2 > 0) s.c[i] = (float)((1 - 1 / ratio) / d2);
        }
        if (j.omega == EQ10_AS_PRINTED) s.c[i] = 1 / d2, sums.omega += (double)q - 1;
    }
    return sums;
}

// The parameters' gradients: sums over steps and sequences of v^T (h_{t-1} + weight c n), of v by symbol, and so on.
// Omega's part joins h in its place, once it is read for the last time.
template <int S> static void collect(const Job& j, const Space& s, const void* inputs, int T, float weight) {
    const int NP = WIDTH ? WIDTH : s.NP, vectors = NP / LANES;
    const long step = (long)j.B * NP;
    memset(s.gW, 0, sizeof(float) * (s.h - s.gW));
    const int first = j.every_step ? 1 : T;
    const int outputs = (T - first + 1) * j.B;
    product(j.O, vectors, Product{s.y, 1, s.OP, s.h + first * step, NP, s.gW_out, NP, outputs, true});
    for (int r = 0; r < outputs; r++)
        for (int o = 0; o < j.O; o++) s.g_b_out[o] += s.y[(long)r * s.OP + o];
    for (int t = 0; t < T; t += TILE) {
        const int rows = (t + TILE <= T ? TILE : T - t) * j.B;
        float* h = s.h + t * step;
        const float *d = s.delta + (t + 1) * step, *n = s.n + t * step;
        for (int r = 0; r < rows; r++) {
            const float pull = j.omega ? weight * s.c[(long)t * j.B + r] : 0;
            float* into = j.symbols ? s.g_table + (long)number(inputs, j.symbols, (long)t * j.B + r) * NP : s.g_b;
            for (long i = (long)r * NP; i < (long)(r + 1) * NP; i += LANES, into += LANES) {
                const vec v = load(d + i) * slope<S>(load(h + step + i));
                store(s.v + i, v);
                store(into, load(into) + v);
                if (pull != 0) store(h + i, load(h + i) + pull * load(n + i));
            }
        }
        tiles(j.N, vectors, Product{s.v, 1, NP, h, NP, s.gW, NP, rows, true});
        if (!j.symbols)
            product(j.I, vectors, Product{(const float*)inputs + (long)t * j.B * j.I, 1, j.I, s.v, NP, s.g_table, NP, rows, true});
    }
    if (j.symbols)  // every step holds exactly one symbol
        for (int k = 0; k < j.I; k++)
            for (int i = 0; i < NP; i += LANES) store(s.g_b + i, load(s.g_b + i) + load(s.g_table + (long)k * NP + i));
}

// Call f(parameter, gradient) for every parameter, in theta's order.
template <class F> static void each(const Job& j, const Space& s, float* flat, const F& f) {
    const Theta p(j, flat);
    for (int i = 0; i < j.N; i++)
        for (int k = 0; k < j.N; k++) f(p.W[(long)i * j.N + k], s.gW[i * s.NP + k]);
    for (int i = 0; i < j.N; i++)
        for (int k = 0; k < j.I; k++) f(p.W_in[(long)i * j.I + k], s.g_table[k * s.NP + i]);
    for (int i = 0; i < j.N; i++) f(p.b[i], s.g_b[i]);
    for (int o = 0; o < j.O; o++)
        for (int i = 0; i < j.N; i++) f(p.W_out[(long)o * j.N + i], s.gW_out[o * s.NP + i]);
    for (int o = 0; o < j.O; o++) f(p.b_out[o], s.g_b_out[o]);
}

// Sum of the squares of rows by columns numbers.
static double squares(const float* x, int rows, int columns, int ld) {
    double sum = 0;
    for (int r = 0; r < rows; r++, x += ld) {
#pragma omp simd reduction(+ : sum)
        for (int i = 0; i < columns; i++) sum += (double)x[i] * x[i];
    }
    return sum;
}

// The norm is of double precision, in which no float's square over- or underflows.
static Event descend(const Job& j, const Space& s, double total) {
    const bool finite = std::isfinite(total);
    const float norm = (float)total;
    if (j.guard != NO_GUARD && !(finite && norm <= j.guard_limit)) {
        if (j.guard == SHRINK)
            for (long i = 0; i < (long)j.N * j.N; i++) j.theta[i] -= j.rate * (j.guard_factor * j.theta[i]);
        return GUARDED;
    }
    const float limit = j.threshold;
    if (j.clip == ELEMENTWISE) {
        bool changed = false;
        each(j, s, j.theta, [&](float& p, float g) {
            changed |= std::fabs(g) > limit;
            p -= j.rate * (g > limit ? limit : g < -limit ? -limit : g);
        });
        return finite ? changed ? CLIPPED : NONE : DIVERGED;
    }
    const bool clipped = j.clip == NORM && norm >= limit && limit < INFINITY;
    const float rate = clipped ? j.rate * (limit / norm) : j.rate;
    if (clipped && finite && !(limit / norm >= FLT_MIN)) {  // a factor that no float holds, of a step that may be one
        const double factor = j.rate * (limit / total);
        each(j, s, j.theta, [&](float& p, float g) { p -= (float)(factor * g); });
    } else {
        each(j, s, j.theta, [&](float& p, float g) { p -= rate * g; });
    }
    return finite ? clipped ? CLIPPED : NONE : DIVERGED;
}

// Copy padded rows into a plain array.
static void copy_rows(const float* from, int ld, float* to, int width, long rows) {
    for (long r = 0; r < rows; r++) memcpy(to + r * width, from + r * ld, sizeof(float) * width);
}

template <int S> static void update(const Job& j, const Space& s, int k) {
    const long i = k * j.trace_stride;
    const int T = (int)j.lengths[i];
    const char* inputs = (const char*)j.inputs + k * j.input_stride * (j.symbols ? j.symbols : 4);
    const char* targets = (const char*)j.targets + k * j.target_stride * (j.classes ? j.classes : 4);
    const bool every = j.every_step;
    unpack(j, s);
    forward<S>(j, s, inputs, T);
    double loss = 0;
    for (int t = every ? 1 : T; t <= T; t++) {
        const long row = every ? (long)(t - 1) * j.B : 0;
        read(j, s, s.h + (long)t * j.B * s.NP, s.y + row * s.OP);
        if (j.outputs) copy_rows(s.y + row * s.OP, s.OP, j.outputs + row * j.O, j.O, j.B);
        loss += score(j, s, s.y + row * s.OP, targets, row, every ? (double)T * j.B : j.B);
    }
    if (j.gradient) copy_rows(s.h, s.NP, j.states, j.N, (long)(T + 1) * j.B);
    backward<S>(j, s, T);
    const Sums sums = j.omega ? regularize(j, s, T) : Sums{0, 0};
    const double pairs = sums.live ? (double)sums.live : 1;
    const double scale = j.omega == CODE ? 4 / pairs : 2.0 / j.B;
    collect<S>(j, s, inputs, T, (float)(j.alpha[k] * scale));
    const double total = squares(s.gW, j.N, j.N, s.NP) + squares(s.g_table, j.I, j.N, s.NP) + squares(s.g_b, 1, j.N, 0) +
                         squares(s.gW_out, j.O, j.N, s.NP) + squares(s.g_b_out, 1, j.O, 0);
    const double norm = std::sqrt(total);
    j.loss_out[i] = (float)loss;
    j.norm_out[i] = (float)norm;
    j.omega_out[i] = (float)(sums.omega / (j.omega == CODE ? pairs : j.B));
    if (j.gradient) {
        each(j, s, j.gradient, [&](float& p, float g) { p = g; });
        copy_rows(s.delta, s.NP, j.delta, j.N, (long)(T + 1) * j.B);
        return;
    }
    j.events[i] = descend(j, s, norm);
}

static const int BLOCK = 40;  // rows that go through all steps together, their states in the nearest cache

// What the network answers, and the states that it ends in, without keeping a history.
template <int S> static void respond(const Job& j) {
    Job part = j;
    part.T = 1, part.B = j.B < BLOCK ? j.B : BLOCK;
    const int T = (int)j.lengths[0];
    const bool every = j.every_step;
    unpack(part, Space(part, j.space));
    for (long first = 0; first < j.B; first += BLOCK) {
        part.B = j.B - first < BLOCK ? (int)(j.B - first) : BLOCK;
        const Space s(part, j.space);
        float *now = s.h, *next = s.h + (long)part.B * s.NP;
        start(part, s, first);
        for (int t = 0; t < T; t++) {
            const long at = (long)t * j.B + first;
            advance<S>(part, s, j.inputs, at, now, next);
            float* swapped = now;
            now = next, next = swapped;
            if (every) {
                read(part, s, now, s.y);
                copy_rows(s.y, s.OP, j.outputs + at * j.O, j.O, part.B);
            }
        }
        if (!every) {
            read(part, s, now, s.y);
            copy_rows(s.y, s.OP, j.outputs + first * j.O, j.O, part.B);
        }
        copy_rows(now, s.NP, j.states + first * j.N, j.N, part.B);
    }
}

extern "C" {

// Floats of workspace that a job needs, to train and to respond.
int64_t rnnlab_train_space(const Job* j) { return Space(*j, nullptr).size; }
int64_t rnnlab_respond_space(const Job* j) {
    Job part = *j;
    part.T = 1, part.B = j->B < BLOCK ? j->B : BLOCK;
    return Space(part, nullptr).size;
}

// K updates of one member, or its gradient.
void rnnlab_train(const Job* j) {
    const Space s(*j, j->space);
    for (int k = 0; k < j->K; k++) {
        if (j->sigma == TANH) update<TANH>(*j, s, k);
        if (j->sigma == SIGMOID) update<SIGMOID>(*j, s, k);
        if (j->sigma == LINEAR) update<LINEAR>(*j, s, k);
    }
}

// One member's outputs and last states, for as many steps as lengths[0] says.
void rnnlab_respond(const Job* j) {
    if (j->sigma == TANH) respond<TANH>(*j);
    if (j->sigma == SIGMOID) respond<SIGMOID>(*j);
    if (j->sigma == LINEAR) respond<LINEAR>(*j);
}
}
