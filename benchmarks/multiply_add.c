/* Fused multiply-adds a second of one core, in vectors: `multiply_add SECONDS`, compiled for one set of instructions.
   Twelve sums side by side, so that none waits for another. */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef double vector __attribute__((vector_size(BYTES)));

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(int count, char **arguments) {
    double lasting = count > 1 ? atof(arguments[1]) : 0.1, done = 0, began = now();
    vector sums[12], factor = {0}, term = {0};
    factor += 0.999999;
    term += 1e-7;
    for (int i = 0; i < 12; i++) sums[i] = term * i;
    while (now() - began < lasting) {
        for (int step = 0; step < 100000; step++) {
#pragma GCC unroll 12
            for (int i = 0; i < 12; i++) sums[i] = sums[i] * factor + term;
        }
        done += 12 * 100000;
    }
    double rate = done / (now() - began), total = 0; /* on the mean, as everything beside it is timed */
    for (int i = 0; i < 12; i++) total += sums[i][0];
    printf("%.6e %g\n", rate, total);
    return 0;
}
