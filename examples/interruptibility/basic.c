/* Basic: 100 steps of 10,000 iterations, and a check between two steps. */
#include <stdio.h>

#include "procstop.h"
#include "work.h"

#define STEP 10000

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int step = 1; step <= ITERATIONS / STEP; step++) {
        for (int i = 0; i < STEP; i++)
            iterate();
        printf("step %d of %d\n", step, ITERATIONS / STEP);
        procstop_checkpoint();
    }
    return 0;
}
