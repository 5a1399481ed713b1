// Breaks the CUDA context of the process that it is loaded into (LD_PRELOAD) as a fault in a kernel does, once the file
// that ZSE_BREAK names is there; its first word says how. For `serve.py`. Built by gpu-pack; needs no CUDA to build.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char kernels[] =
    ".version 7.0\n.target sm_80\n.address_size 64\n"
    ".visible .entry far_away() { .reg .b64 %a; .reg .b32 %b; mov.b64 %a, 64; mov.b32 %b, 1; "
    "st.global.b32 [%a], %b; ret; }\n"
    ".visible .entry stops() { trap; }\n";

static void break_context(const char *how) {
    void *cuda = dlopen("libcuda.so.1", RTLD_NOW);
    int (*retain)(void **, int) = dlsym(cuda, "cuDevicePrimaryCtxRetain");
    int (*set_current)(void *) = dlsym(cuda, "cuCtxSetCurrent");
    int (*load)(void **, const void *) = dlsym(cuda, "cuModuleLoadData");
    int (*get)(void **, void *, const char *) = dlsym(cuda, "cuModuleGetFunction");
    int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                  void **) = dlsym(cuda, "cuLaunchKernel");
    int (*synchronize)(void) = dlsym(cuda, "cuCtxSynchronize");
    void *context, *module, *kernel;
    if (retain(&context, 0) || set_current(context) || load(&module, kernels) || get(&kernel, module, how)) {
        fprintf(stderr, "breaker: the kernel '%s' cannot be loaded\n", how);
        return;
    }
    launch(kernel, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL);
    fprintf(stderr, "breaker: %s: error %d\n", how, synchronize());
}

static void *wait_for_file(void *name) {
    for (;;) {
        usleep(5000);
        FILE *file = fopen(name, "r");
        if (!file) continue;
        char how[32] = "";
        int read = fscanf(file, "%31s", how);
        fclose(file);
        if (read != 1) continue;
        unlink(name);
        break_context(how);
    }
    return NULL;
}

__attribute__((constructor)) static void begin(void) {
    char *name = getenv("ZSE_BREAK");
    pthread_t thread;
    if (name) pthread_create(&thread, NULL, wait_for_file, strdup(name));
}
