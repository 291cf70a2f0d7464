// The kernel behind a pipe, for a processor that is emulated: a job comes in with all that it points to, and goes back.

#include KERNEL

#include <cstdio>
#include <cstdlib>

static bool take(void* into, size_t bytes) { return fread(into, 1, bytes, stdin) == bytes; }

int main() {
    for (char kind; take(&kind, 1);) {
        Job j;
        int64_t sizes[14];
        if (!take(&j, sizeof j) || !take(sizes, sizeof sizes)) return 1;
        void** fields[14] = {
            (void**)&j.theta,    (void**)&j.inputs,    (void**)&j.targets, (void**)&j.lengths, (void**)&j.alpha,
            (void**)&j.loss_out, (void**)&j.norm_out,  (void**)&j.omega_out, (void**)&j.events,  (void**)&j.h_0,
            (void**)&j.gradient, (void**)&j.states,    (void**)&j.delta,   (void**)&j.outputs,
        };
        for (int i = 0; i < 14; i++) {
            *fields[i] = sizes[i] ? malloc(sizes[i]) : nullptr;
            if (!take(*fields[i], sizes[i])) return 1;
        }
        const bool train = kind == 't';
        const int64_t floats = train ? rnnlab_train_space(&j) : rnnlab_respond_space(&j);
        j.space = (float*)aligned_alloc(64, (4 * floats + 63) / 64 * 64);
        (train ? rnnlab_train : rnnlab_respond)(&j);
        for (int i = 0; i < 14; i++) {
            fwrite(*fields[i], 1, sizes[i], stdout);
            free(*fields[i]);
        }
        free(j.space);
        fflush(stdout);
    }
}
