// What one core can do at most, as JSON: float32 multiply-adds in registers, for several lengths of a vector, in
// operations per second, and reading from working sets of 8 kB to 256 MB, in bytes per second. Best of several.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

static const int TRIES = 20;

template <class F> static double seconds(const F& f) {
    const auto start = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class F> static double shortest(const F& f) {
    double best = 1e9;
    for (int i = 0; i < TRIES; i++) best = std::min(best, seconds(f));
    return best;
}

// Twelve independent chains hide the latency of a multiply-add, and fit into sixteen registers.
template <int LANES> static double multiply_adds(float factor, float term) {
    typedef float vec __attribute__((vector_size(4 * LANES)));
    const long rounds = 1000000;
    vec chain[12];
    for (int i = 0; i < 12; i++) chain[i] = 0.1f * i - (vec){};
    const vec a = factor - (vec){}, b = term - (vec){};
    const double time = shortest([&] {
        vec x[12];
        for (int i = 0; i < 12; i++) x[i] = chain[i];
        for (long k = 0; k < rounds; k++)
            for (int i = 0; i < 12; i++) x[i] = x[i] * a + b;
        for (int i = 0; i < 12; i++) chain[i] = x[i];
    });
    __asm__ volatile("" ::"r"(chain) : "memory");  // the sums are wanted
    return 2.0 * 12 * LANES * rounds / time;
}

typedef int64_t words __attribute__((vector_size(32), may_alias));

// Exclusive or of it all, which costs nothing beside the loads.
static words read(const char* data, size_t bytes) {
    words x[8] = {};
    for (size_t i = 0; i < bytes; i += sizeof x)
        for (int c = 0; c < 8; c++) x[c] ^= *(const words*)(data + i + sizeof(words) * c);
    for (int c = 1; c < 8; c++) x[0] ^= x[c];
    return x[0];
}

static double bandwidth(const char* data, size_t bytes) {
    const long times = std::max<long>(1, (64L << 20) / (long)bytes);
    const double time = shortest([&] {
        words all = {};
        for (long k = 0; k < times; k++) {
            __asm__ volatile("" : "+r"(data));  // for all that the compiler knows, other data each time
            all ^= read(data, bytes);
        }
        __asm__ volatile("" ::"r"(&all) : "memory");
    });
    return (double)bytes * times / time;
}

int main(int count, char**) {
    const float factor = 0.999f / count, term = 1e-3f * count;  // known only at run time
    printf("{\"multiply_adds\": {\"4\": %.6g, \"8\": %.6g, \"16\": %.6g}, \"reading\": [", multiply_adds<4>(factor, term),
           multiply_adds<8>(factor, term), multiply_adds<16>(factor, term));
    const size_t most = (size_t)256 << 20;
    char* data = (char*)aligned_alloc(4096, most);
    if (!data) return 1;
    memset(data, 1, most);
    for (size_t bytes = 8 << 10; bytes <= most; bytes *= 2)
        printf("%s[%zu, %.6g]", bytes > (8 << 10) ? ", " : "", bytes, bandwidth(data, bytes));
    printf("]}\n");
    free(data);
    return 0;
}
