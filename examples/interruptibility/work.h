/* The work: 1,000,000 iterations of some ten microseconds each, far more than the job gives time for. */
#include <stdint.h>

#define ITERATIONS 1000000

static uint32_t state = 1;

static inline void iterate(void) {
    for (int i = 0; i < 20000; i++)
        state = state * 1664525u + 1013904223u;
    /* Keeps the compiler from leaving the work out. */
    __asm__ volatile("" : "+r"(state));
}
