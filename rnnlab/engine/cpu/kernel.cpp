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
typedef uint32_t uvec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

enum Sigma { TANH, SIGMOID, LINEAR };
enum Loss { SOFTMAX, SQUARED_ERROR, BERNOULLI };
enum Method { ALGORITHM, ADAM_W };
enum Omega { NO_OMEGA, CODE, EQ9, EQ10_AS_PRINTED };
enum Clip { NO_CLIP, NORM, ELEMENTWISE, ELEMENTWISE_SIGNAL };
enum Guard { NO_GUARD, SHRINK, SKIP };
enum Event { NONE, CLIPPED, GUARDED, DIVERGED };

// The same fields, in the same order, as `Job` in kernel.py. Strides count elements from one update to the next.
struct Job {
    int32_t N, I, O, B, T, K;
    int32_t symbols, classes;  // bytes of each: 1, or 2 where a network has more than 256; 0 for real numbers
    int32_t sigma, loss, method, omega, clip, guard;
    int32_t every_step, over_steps;  // whether every step has outputs, and whether their losses are summed
    int32_t each_length, frozen;     // whether each sequence has a length of its own; a bit for each of theta's arrays
    float threshold, guard_factor, guard_limit, rate, bound, noise, eps, decay, signal;
    double beta1, beta2;
    int64_t input_stride, target_stride, length_stride, begin_stride, trace_stride, first_update;
    float* theta;            // W_rec N N, W_in N I, b N, W_out O N, b_out O
    const void* inputs;      // K times T B symbols, or T B I floats
    const void* targets;     // K times S B classes, or S B O floats
    const int64_t* lengths;  // K, or K times B
    const float* alpha;      // K
    float *loss_out, *norm_out, *omega_out;  // at k * trace_stride
    uint8_t* events;
    const float* h_0;       // B N, or null for zeros
    const uint8_t* begins;  // K times B, which sequences start from zeros nevertheless; or null for none
    float* ends;            // B N, where the last states are left, and the next update starts from; or null
    float *first_moment, *second_moment;  // like theta
    int64_t *steps, *seed;
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

// p x^n + c x^(n-1) + ... + the last of the rest
template <class... Rest> static INLINE vec polynomial(vec x, vec p, float c, Rest... rest) {
    if constexpr (sizeof...(rest) == 0) return p * x + c;
    else return polynomial(x, p * x + c, rest...);
}

// exp(x) for x from -87 to 87 to one unit in the last place: x = n ln 2 + r, a polynomial of r, n into the exponent.
static INLINE vec exp_of(vec x) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
    x = at_least(-87.0f, at_most(87.0f, x));
    const vec shifted = x * 1.44269504f + magic;
    const vec n = shifted - magic;
    const vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    const vec p = polynomial(r, fill(1.0f / 5040), 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f);
    ivec bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + (127 << 23);  // 2^n
    vec power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

// ln(x) for normal x > 0 to two units in the last place: x = 2^n (1 + r), a polynomial of r (Cephes' logf).
static INLINE vec log_of(vec x) {
    ivec bits;
    memcpy(&bits, &x, sizeof bits);
    const ivec exponent = (bits - 0x3f3504f3) >> 23;  // so that 1 + r is from sqrt(1/2) to sqrt(2)
    bits -= exponent * (1 << 23);
    memcpy(&x, &bits, sizeof x);
    const vec n = __builtin_convertvector(exponent, vec), r = x - 1.0f, s = r * r;
    const vec p = polynomial(r, fill(7.0376836292e-2f), -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                             -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f);
    return ((r * s * p - n * 2.12194440e-4f) - 0.5f * s) + r + n * 0.693359375f;
}

// tanh(a) to five units in the last place, at most 1: a ratio of polynomials in a^2, of degrees 5 and 3, fitted for the
// least relative error (2.4e-8) up to 8.2. Beyond, tanh is 1 - 1.5e-7 or nearer to 1; beyond 9.02 it rounds to 1, and has
// to be 1, since a slope that is not 0 there would be all that is left of a gradient.
static INLINE vec tanh_of(vec a) {
    const auto far = a * a > 81.36f;
    a = at_least(-8.2f, at_most(8.2f, a));
    const vec s = a * a;
    const vec p = polynomial(s, fill(2.2355948e-11f), -1.4305087e-8f, 9.7571097e-6f, 2.9732268e-3f, 1.2967668e-1f, 1.0f);
    const vec q = polynomial(s, fill(2.3541910e-4f), 2.3976821e-2f, 4.6300980e-1f, 1.0f);
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

static const int WIDE = 4 * PANEL;  // vectors of a single row, whose matrix is read from afar: long runs of it, many sums

template <class F> static INLINE void tiles(int rows, int vectors, const F& f) {
    int v = 0;
    for (; rows == 1 && v + WIDE <= vectors; v += WIDE) row_of<WIDE>(0, v, f);
    for (; v + PANEL <= vectors; v += PANEL) rows_of<PANEL>(rows, v, f);
    switch (vectors - v) {
        case 1: return rows_of<1>(rows, v, f);
        case 2: return rows_of<2>(rows, v, f);
        case 3: return rows_of<3>(rows, v, f);
    }
}

// y = sigma(x W^T + drive): the drive is a row of a table for a symbol, or b + u W_in^T; and what y held, if noisy.
template <int S> struct Forward {
    const float *x, *W, *table;
    float* y;
    const void* symbols;
    int bytes;  // of a symbol
    const float *u, *b;
    int N, NP, I;
    bool noisy;
    template <int R, int C> INLINE void tile(int r, int v) const {  // R rows from r, C vectors from v
        vec acc[R][C];
        for (int i = 0; i < R; i++)
            for (int c = 0; c < C; c++)
                acc[i][c] = load((symbols ? table + (long)number(symbols, bytes, r + i) * NP : b) + LANES * (v + c));
        if (noisy)
            for (int i = 0; i < R; i++)
                for (int c = 0; c < C; c++) acc[i][c] += load(y + (long)(r + i) * NP + LANES * (v + c));
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

// Steps whose products join W_rec's gradient at a time: of few sequences there are more.
static int tile_of(int B) { return B > 16 ? 4 : 64 / B; }

// How many steps the sequences of a batch have.
struct Lengths {
    int T = 0;           // the longest
    double pairs = 0;    // all of them together
    const int64_t* own;  // each one; null where they are alike
    Lengths(const Job& j, int k) : own(j.lengths + k * j.length_stride) {
        for (int r = 0; r < j.B; r++) {
            const int length = (int)own[j.each_length ? r : 0];
            T = length > T ? length : T, pairs += length;
        }
        if (!j.each_length) own = nullptr;
    }
    bool over(int t, int r) const { return own && own[r] <= t; }  // whether sequence r has ended before step t + 1
};

// Where everything lies in a member's workspace; the one place that knows its size.
struct Space {
    int NP, OP;
    float *W, *W_T, *table, *b, *W_out, *W_out_T, *b_out;           // parameters, padded
    float *gW, *g_table, *g_b, *gW_out, *g_b_out;                   // gradients, likewise
    float *h, *delta, *n, *v, *y, *row;                             // histories, a tile, outputs, targets of a row
    float *d2, *n2, *c;                                             // squared norms of delta and n, omega's weights
    long size;
    Space(const Job& j, float* p) : NP(WIDTH ? WIDTH : padded(j.N)), OP(padded(j.O)) {
        const long step = (long)j.B * NP, S = j.every_step ? j.T : 1, pairs = (long)j.T * j.B;
        // With one loss, at the same end, and nothing cut off, n_t is delta_{t-1} itself.
        const bool apart = S > 1 || j.each_length || j.signal < INFINITY;
        float* start = p;
        const auto take = [&](long count) { float* q = p; p += (count + 15) / 16 * 16; return q; };
        W = take((long)j.N * NP), W_T = take((long)j.N * NP), table = take((long)j.I * NP), b = take(NP);
        W_out = take((long)j.O * NP), W_out_T = take((long)j.N * OP), b_out = take(OP);
        gW = take((long)j.N * NP), g_table = take((long)j.I * NP), g_b = take(NP), gW_out = take((long)j.O * NP), g_b_out = take(OP);
        h = take((j.T + 1) * step), delta = take((j.T + 1) * step);
        n = apart ? take(j.T * step) : delta;
        v = take(tile_of(j.B) * step), y = take(S * j.B * OP), row = take(OP);
        d2 = take(pairs + j.B), n2 = apart ? take(pairs) : d2, c = take(pairs);
        size = p - start;
    }
};

// Names of a member's flat parameters.
struct Theta {
    float *W, *W_in, *b, *W_out, *b_out;
    Theta(const Job& j, float* p)
        : W(p), W_in(W + (long)j.N * j.N), b(W_in + (long)j.N * j.I), W_out(b + j.N), b_out(W_out + (long)j.O * j.N) {}
};

// Copy rows of a width into rows of another.
static void copy(const float* from, int ld, float* to, int ldt, int width, long rows) {
    for (long r = 0; r < rows; r++) memcpy(to + r * ldt, from + r * ld, sizeof(float) * width);
}

// Transpose rows by columns numbers; a few columns at a time, so that the lines that are written stay near.
static void turn(const float* from, int rows, int columns, float* to, int ldt) {
    for (int first = 0; first < columns; first += 16) {
        const int end = first + 16 < columns ? first + 16 : columns;
        for (int r = 0; r < rows; r++)
            for (int c = first; c < end; c++) to[(long)c * ldt + r] = from[(long)r * columns + c];
    }
}

static void unpack(const Job& j, const Space& s) {
    const Theta p(j, j.theta);
    memset(s.W, 0, sizeof(float) * (s.gW - s.W));
    copy(p.W, j.N, s.W, s.NP, j.N, j.N), turn(p.W, j.N, j.N, s.W_T, s.NP);
    copy(p.W_out, j.N, s.W_out, s.NP, j.N, j.O), turn(p.W_out, j.O, j.N, s.W_out_T, s.OP);
    copy(p.b, j.N, s.b, s.NP, j.N, 1), copy(p.b_out, j.O, s.b_out, s.OP, j.O, 1);
    turn(p.W_in, j.N, j.I, s.table, s.NP);
    for (int k = 0; j.symbols && k < j.I; k++)
        for (int i = 0; i < j.N; i++) s.table[k * s.NP + i] += s.b[i];
}

// h_0 of B rows from row `first`, in the update number k
static void start(const Job& j, const Space& s, long first, int k) {
    const float* h_0 = k ? j.ends : j.h_0;
    memset(s.h, 0, sizeof(float) * j.B * s.NP);
    for (int r = 0; h_0 && r < j.B; r++)
        if (!j.begins || !j.begins[k * j.begin_stride + first + r])
            memcpy(s.h + (long)r * s.NP, h_0 + (first + r) * j.N, sizeof(float) * j.N);
}

static const int COUNTERS = 64, DRAWN = 4 * COUNTERS;  // of Philox at a time, and numbers from them

// Standard normal numbers from number `at` on, a multiple of DRAWN: those of `bits.disturbances`.
static void draw(float* z, uint64_t seed, uint64_t update, uint64_t at) {
    uint32_t c[4][COUNTERS], key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (uint64_t i = 0; i < COUNTERS; i++) {
        c[0][i] = (uint32_t)(at / 4 + i), c[1][i] = (uint32_t)update, c[2][i] = 80;  // the stream `bits.NOISE`
        c[3][i] = (uint32_t)((at / 4 + i) >> 32) | (uint32_t)(update >> 32 << 8);
    }
    for (int round = 0; round < 10; round++, key0 += 0x9E3779B9, key1 += 0xBB67AE85) {
#pragma omp simd
        for (int i = 0; i < COUNTERS; i++) {
            const uint64_t a = (uint64_t)c[0][i] * 0xD2511F53, b = (uint64_t)c[2][i] * 0xCD9E8D57;
            c[0][i] = (uint32_t)(b >> 32) ^ c[1][i] ^ key0, c[1][i] = (uint32_t)b;
            c[2][i] = (uint32_t)(a >> 32) ^ c[3][i] ^ key1, c[3][i] = (uint32_t)a;
        }
    }
    const auto number = [](const uint32_t* word) { return __builtin_convertvector((ivec)(*(const uvec*)word >> 8), vec); };
    for (int k = 0; k < 2 * COUNTERS; k += LANES) {
        const int w = k < COUNTERS ? 0 : 2, i = k % COUNTERS;  // words w and w + 1 of counters from i
        vec radius = -2.0f * log_of((number(c[w] + i) + 1.0f) * 0x1p-24f);
        for (int l = 0; l < LANES; l++) radius[l] = std::sqrt(radius[l]);
        const vec turns = number(c[w + 1] + i) * 0x1p-24f, shifted = turns * 4.0f + 12582912.0f;  // as in `exp_of`
        const vec angle = (turns - (shifted - 12582912.0f) * 0.25f) * 6.2831853072f, s = angle * angle;
        const vec sine = angle + angle * s * polynomial(s, fill(-1.9515295891e-4f), 8.3321608736e-3f, -1.6666654611e-1f);
        const vec cosine = polynomial(s, fill(2.4433157118e-5f), -1.3887316255e-3f, 4.1666645683e-2f, -0.5f, 1.0f);
        ivec quarter;
        memcpy(&quarter, &shifted, sizeof quarter);
        const vec x = (quarter & 1) != 0 ? sine : cosine, y = (quarter & 1) != 0 ? cosine : sine;
        const vec first = radius * (((quarter + 1) & 2) != 0 ? -x : x), second = radius * ((quarter & 2) != 0 ? -y : y);
        for (int l = 0; l < LANES; l++) z[4 * (i + l) + w] = first[l], z[4 * (i + l) + w + 1] = second[l];
    }
}

// Noise for the pre-activations of T steps, in the places of the states.
static void disturb(const Job& j, const Space& s, int k, int T) {
    float z[DRAWN];
    uint64_t at = 0;
    memset(s.h + (long)j.B * s.NP, 0, sizeof(float) * T * j.B * s.NP);
    for (long r = j.B; r < (T + 1L) * j.B; r++)
        for (int n = 0; n < j.N; n++, at++) {
            if (at % DRAWN == 0) draw(z, (uint64_t)*j.seed, (uint64_t)(j.first_update + k), at);
            s.h[r * s.NP + n] = j.noise * z[at % DRAWN];
        }
}

// One step of B rows, whose inputs begin at number `at`.
template <int S> static INLINE void advance(const Job& j, const Space& s, const void* inputs, long at, const float* now, float* next) {
    const int NP = WIDTH ? WIDTH : s.NP;
    Forward<S> f = {now, s.W_T, s.table, next, nullptr, j.symbols, nullptr, s.b, j.N, NP, 0, j.noise > 0};
    if (j.symbols) f.symbols = (const char*)inputs + at * j.symbols, tiles(j.B, NP / LANES, f);
    else f.u = (const float*)inputs + at * j.I, f.I = j.I, tiles(j.B, NP / LANES, f);
}

// States of sequences that have ended before step t + 1 stay as they were.
static void keep(const Job& j, const Space& s, const Lengths& lengths, int t, const float* now, float* next) {
    for (int r = 0; lengths.own && r < j.B; r++)
        if (lengths.over(t, r)) memcpy(next + (long)r * s.NP, now + (long)r * s.NP, sizeof(float) * s.NP);
}

template <int S> static void forward(const Job& j, const Space& s, const void* inputs, const Lengths& lengths, int k) {
    const long step = (long)j.B * (WIDTH ? WIDTH : s.NP);
    start(j, s, 0, k);
    if (j.noise > 0) disturb(j, s, k, lengths.T);
    for (int t = 0; t < lengths.T; t++) {
        advance<S>(j, s, inputs, (long)t * j.B, s.h + t * step, s.h + (t + 1) * step);
        keep(j, s, lengths, t, s.h + t * step, s.h + (t + 1) * step);
    }
}

// y = h W_out^T + b_out for so many rows
static void read(const Job& j, const Space& s, int rows, const float* h, float* y) {
    for (int r = 0; r < rows; r++) memcpy(y + (long)r * s.OP, s.b_out, sizeof(float) * s.OP);
    product(rows, s.OP / LANES, Product{h, s.NP, 1, s.W_out_T, s.OP, y, s.OP, j.N, true});
}

// Each of these adds a row's loss, and puts in the place of y its derivative over `rows`.
static void softmax(const Job& j, const Space& s, float* y, int target, double rows, double& loss) {
    float top = y[0];
    for (int o = 1; o < j.O; o++) top = y[o] > top ? y[o] : top;
    const float right = y[target] - top;
    for (int v = 0; v < s.OP; v += LANES) store(y + v, exp_of(load(y + v) - top));
    double total = 0;
    for (int o = 0; o < j.O; o++) total += y[o];
    loss += std::log(total) - right;
    const float chosen = y[target];
#pragma omp simd
    for (int o = 0; o < j.O; o++) y[o] = (float)(y[o] / total / rows);
    y[target] = (float)((chosen / total - 1) / rows);
    for (int o = j.O; o < s.OP; o++) y[o] = 0;
}

static void squared_error(const Job& j, float* y, const float* target, double rows, double& loss) {
    for (int o = 0; o < j.O; o++) loss += ((double)y[o] - target[o]) * ((double)y[o] - target[o]);
#pragma omp simd
    for (int o = 0; o < j.O; o++) y[o] = (float)(2 * ((double)y[o] - target[o]) / rows);
}

static void bernoulli(const Job& j, const Space& s, float* y, const float* target, double rows, double& loss) {
    const float share = (float)(1 / rows);
    vec sums = {};
    memset(s.row, 0, sizeof(float) * s.OP);
    memcpy(s.row, target, sizeof(float) * j.O);
    for (int o = j.O; o < s.OP; o++) y[o] = -128;  // off, at no loss
    for (int v = 0; v < s.OP; v += LANES) {
        const vec x = load(y + v), on = load(s.row + v), e = exp_of(x < 0 ? x : -x), w = 1.0f + e, inverse = 1.0f / w;
        const vec softened = log_of(w) + (e - (w - 1.0f)) * inverse;  // ln(1 + e), with the digits of e that w has lost
        sums += at_least(0.0f, x) - x * on + softened;
        store(y + v, ((x < 0 ? e : fill(1.0f)) * inverse - on) * share);
    }
    loss += sum(sums);
}

// The loss of the B rows of y for step t, or for the last; rows of sequences that have ended before count nothing.
static double score(const Job& j, const Space& s, float* y, const void* targets, int t, const Lengths& lengths, double rows) {
    double loss = 0;
    for (int r = 0; r < j.B; r++, y += s.OP) {
        const long at = (j.every_step ? (long)t * j.B : 0) + r;
        const float* real = (const float*)targets + at * j.O;
        if (j.every_step && lengths.over(t, r)) memset(y, 0, sizeof(float) * s.OP);
        else if (j.loss == SOFTMAX) softmax(j, s, y, number(targets, j.classes, at), rows, loss);
        else if (j.loss == SQUARED_ERROR) squared_error(j, y, real, rows, loss);
        else bernoulli(j, s, y, real, rows, loss);
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

// Carry dE/dh from step T to 0. On entry the rows of y hold the loss's derivative for the outputs. Through the steps
// beyond a sequence's end it passes as it is, and leaves 0; they are no pairs for omega, which a squared norm of -1 says.
template <int S> static void backward(const Job& j, const Space& s, const Lengths& lengths) {
    const int T = lengths.T, NP = WIDTH ? WIDTH : s.NP, vectors = NP / LANES;
    const long step = (long)j.B * NP;
    const bool every = j.every_step, apart = s.n != s.delta;
    const auto immediate = [&](int t, bool add) {  // delta_t (+)= dE_t/dy W_out
        product(j.B, vectors, Product{s.y + (every ? (long)(t - 1) * j.B * s.OP : 0), s.OP, 1, s.W_out, NP, s.delta + t * step, NP, j.O, add});
    };
    const auto norms = [&](const float* rows, float* squares) {
        if (j.omega)
            for (int r = 0; r < j.B; r++) squares[r] = squared(rows + (long)r * NP, NP);
    };
    immediate(T, false);
    for (int t = T; t > 0; t--) {
        const float* h = s.h + t * step;
        float *d = s.delta + t * step, *past = d - step, *n = s.n + (t - 1) * step;
        if (j.signal < INFINITY)
            for (long i = 0; i < step; i += LANES) store(d + i, at_most(j.signal, at_least(-j.signal, load(d + i))));
        for (long i = 0; i < step; i += LANES) store(s.v + i, load(d + i) * slope<S>(load(h + i)));
        norms(d, s.d2 + (long)t * j.B);
        tiles(j.B, vectors, Product{s.v, NP, 1, s.W, NP, n, NP, j.N, false});
        if (!apart) continue;
        norms(n, s.n2 + (long)(t - 1) * j.B);
        memcpy(past, n, sizeof(float) * step);
        for (int r = 0; lengths.own && r < j.B; r++)
            if (lengths.over(t - 1, r)) {
                memcpy(past + (long)r * NP, d + (long)r * NP, sizeof(float) * NP);
                memset(d + (long)r * NP, 0, sizeof(float) * NP);
                s.d2[(long)t * j.B + r] = -1;
            }
        if (every && t > 1) immediate(t - 1, true);
    }
    if (!apart) norms(s.n, s.d2);  // n_t is delta_{t-1}, so that n2 is d2
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
    const int TILE = tile_of(j.B), NP = WIDTH ? WIDTH : s.NP, vectors = NP / LANES;
    const long step = (long)j.B * NP;
    memset(s.gW, 0, sizeof(float) * (s.h - s.gW));
    const int first = j.every_step ? 1 : T;
    const int outputs = (T - first + 1) * j.B;
    product(j.O, vectors, Product{s.y, 1, s.OP, s.h + first * step, NP, s.gW_out, NP, outputs, true});
    for (int r = 0; r < outputs; r++)
        for (int o = 0; o < s.OP; o += LANES) store(s.g_b_out + o, load(s.g_b_out + o) + load(s.y + (long)r * s.OP + o));
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

// Set the gradients of frozen arrays to 0.
static void freeze(const Job& j, const Space& s) {
    float* arrays[] = {s.gW, s.g_table, s.g_b, s.gW_out, s.g_b_out, s.h};
    for (int a = 0; a < 5; a++)
        if (j.frozen >> a & 1) memset(arrays[a], 0, sizeof(float) * (arrays[a + 1] - arrays[a]));
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

// Take `step` times the clipped gradient, or the guard's, from what is flat like theta.
// The norm is of double precision, in which no float's square over- or underflows.
static Event descend(const Job& j, const Space& s, double total, float* flat, float step) {
    const bool finite = std::isfinite(total);
    const float norm = (float)total;
    if (j.guard != NO_GUARD && !(finite && norm <= j.guard_limit)) {
        if (j.guard == SHRINK && !(j.frozen & 1))
            for (long i = 0; i < (long)j.N * j.N; i++) flat[i] -= step * (j.guard_factor * j.theta[i]);
        return GUARDED;
    }
    const float limit = j.threshold;
    if (j.clip == ELEMENTWISE) {
        bool changed = false;
        each(j, s, flat, [&](float& p, float g) {
            changed |= std::fabs(g) > limit;
            p -= step * (g > limit ? limit : g < -limit ? -limit : g);
        });
        return finite ? changed ? CLIPPED : NONE : DIVERGED;
    }
    const bool clipped = j.clip == NORM && norm >= limit && limit < INFINITY;
    const float rate = clipped ? step * (limit / norm) : step;
    if (clipped && finite && !(limit / norm >= FLT_MIN)) {  // a factor that no float holds, of a step that may be one
        const double factor = step * (limit / total);
        each(j, s, flat, [&](float& p, float g) { p -= (float)(factor * g); });
    } else {
        each(j, s, flat, [&](float& p, float g) { p -= rate * g; });
    }
    return finite ? clipped ? CLIPPED : NONE : DIVERGED;
}

// Adam's step along a gradient that is flat like theta, with decay apart from it; frozen arrays stay.
static void adam(const Job& j, const float* g) {
    const double steps = (double)++*j.steps;
    const float bias1 = (float)(1 - std::pow(j.beta1, steps)), bias2 = (float)(1 - std::pow(j.beta2, steps));
    const float kept1 = (float)j.beta1, kept2 = (float)j.beta2, new1 = (float)(1 - j.beta1), new2 = (float)(1 - j.beta2);
    const Theta p(j, j.theta);
    const float* ends[] = {p.W_in, p.b, p.W_out, p.b_out, p.b_out + j.O};
    for (long a = 0, from = 0; a < 5; from = ends[a++] - j.theta) {
        const bool still = j.frozen >> a & 1;
#pragma omp simd
        for (long i = from; i < ends[a] - j.theta; i++) {
            const float first = j.first_moment[i] = kept1 * j.first_moment[i] + new1 * g[i];
            const float second = j.second_moment[i] = kept2 * j.second_moment[i] + new2 * (g[i] * g[i]);
            const float step = first / bias1 / (std::sqrt(second / bias2) + j.eps) + j.decay * j.theta[i];
            j.theta[i] = still ? j.theta[i] : j.theta[i] - j.rate * step;
        }
    }
}

template <int S> static void update(const Job& j, const Space& s, int k) {
    const long i = k * j.trace_stride;
    const Lengths lengths(j, k);
    const int T = lengths.T;
    const char* inputs = (const char*)j.inputs + k * j.input_stride * (j.symbols ? j.symbols : 4);
    const char* targets = (const char*)j.targets + k * j.target_stride * (j.classes ? j.classes : 4);
    const int first = j.every_step ? 0 : T - 1, outputs = (T - first) * j.B;
    const double rows = j.every_step && !j.over_steps ? lengths.pairs : j.B;  // whose losses make a mean
    unpack(j, s);
    forward<S>(j, s, inputs, lengths, k);
    read(j, s, outputs, s.h + (first + 1L) * j.B * s.NP, s.y);
    if (j.outputs) copy(s.y, s.OP, j.outputs, j.O, j.O, outputs);
    double loss = 0;
    for (int t = first; t < T; t++) loss += score(j, s, s.y + (long)(t - first) * j.B * s.OP, targets, t, lengths, rows);
    if (j.gradient) copy(s.h, s.NP, j.states, j.N, j.N, (T + 1L) * j.B);
    if (j.ends) copy(s.h + (long)T * j.B * s.NP, s.NP, j.ends, j.N, j.N, j.B);
    backward<S>(j, s, lengths);
    const Sums sums = j.omega ? regularize(j, s, T) : Sums{0, 0};
    const double pairs = sums.live ? (double)sums.live : 1;
    const double scale = j.omega == CODE ? 4 / pairs : 2.0 / j.B;
    collect<S>(j, s, inputs, T, (float)(j.alpha[k] * scale));
    freeze(j, s);
    const double total = squares(s.gW, j.N, j.N, s.NP) + squares(s.g_table, j.I, j.N, s.NP) + squares(s.g_b, 1, j.N, 0) +
                         squares(s.gW_out, j.O, j.N, s.NP) + squares(s.g_b_out, 1, j.O, 0);
    const double norm = std::sqrt(total);
    j.loss_out[i] = (float)loss;
    j.norm_out[i] = (float)norm;
    j.omega_out[i] = (float)(sums.omega / (j.omega == CODE ? pairs : j.B));
    if (j.gradient) {
        each(j, s, j.gradient, [&](float& p, float g) { p = g; });
        copy(s.delta, s.NP, j.delta, j.N, j.N, (T + 1L) * j.B);
    } else if (j.method == ADAM_W) {
        float* g = s.W;  // parameters were read for the last time
        memset(g, 0, sizeof(float) * (s.gW - s.W));
        j.events[i] = descend(j, s, norm, g, -1);
        adam(j, g);
    } else {
        j.events[i] = descend(j, s, norm, j.theta, j.rate);
    }
}

static const int BLOCK = 40;  // rows that go through all steps together, their states in the nearest cache

// What the network answers, and the states that it ends in, without keeping a history.
template <int S> static void respond(const Job& j) {
    Job part = j;
    part.T = 1, part.B = j.B < BLOCK ? j.B : BLOCK;
    const Lengths whole(j, 0);
    unpack(part, Space(part, j.space));
    for (long first = 0; first < j.B; first += BLOCK) {
        part.B = j.B - first < BLOCK ? (int)(j.B - first) : BLOCK;
        const Space s(part, j.space);
        Lengths lengths = whole;
        if (lengths.own) lengths.own += first;
        const auto answer = [&](const float* h, long row) {
            read(part, s, part.B, h, s.y);
            copy(s.y, s.OP, j.outputs + row * j.O, j.O, j.O, part.B);
        };
        float *now = s.h, *next = s.h + (long)part.B * s.NP;
        start(part, s, first, 0);
        for (int t = 0; t < whole.T; t++) {
            const long at = (long)t * j.B + first;
            advance<S>(part, s, j.inputs, at, now, next);
            keep(part, s, lengths, t, now, next);
            float* swapped = now;
            now = next, next = swapped;
            if (j.every_step) answer(now, at);
        }
        if (!j.every_step) answer(now, first);
        copy(now, s.NP, j.states + first * j.N, j.N, j.N, part.B);
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
    const auto run = j->sigma == TANH ? update<TANH> : j->sigma == SIGMOID ? update<SIGMOID> : update<LINEAR>;
    for (int k = 0; k < j->K; k++) run(*j, s, k);
}

// One member's outputs and last states.
void rnnlab_respond(const Job* j) {
    (j->sigma == TANH ? respond<TANH> : j->sigma == SIGMOID ? respond<SIGMOID> : respond<LINEAR>)(*j);
}
}
