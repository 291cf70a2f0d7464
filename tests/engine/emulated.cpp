// The kernel behind a pipe, for a processor that is emulated: a job comes in with all that it points to, and goes back.

#include KERNEL

#include <cstddef>
#include <cstdio>
#include <cstdlib>

static const int COUNT = (offsetof(Job, space) - offsetof(Job, theta)) / sizeof(void*);  // pointers, up to the workspace

static bool take(void* into, size_t bytes) { return fread(into, 1, bytes, stdin) == bytes; }

int main() {
    for (char kind; take(&kind, 1);) {
        Job j;
        int64_t sizes[COUNT];
        if (!take(&j, sizeof j) || !take(sizes, sizeof sizes)) return 1;
        void** fields = (void**)((char*)&j + offsetof(Job, theta));
        for (int i = 0; i < COUNT; i++) {
            fields[i] = sizes[i] ? malloc(sizes[i]) : nullptr;
            if (!take(fields[i], sizes[i])) return 1;
        }
        const bool train = kind == 't';
        const int64_t floats = train ? rnnlab_train_space(&j) : rnnlab_respond_space(&j);
        j.space = (float*)aligned_alloc(64, (4 * floats + 63) / 64 * 64);
        (train ? rnnlab_train : rnnlab_respond)(&j);
        for (int i = 0; i < COUNT; i++) {
            fwrite(fields[i], 1, sizes[i], stdout);
            free(fields[i]);
        }
        free(j.space);
        fflush(stdout);
    }
}
