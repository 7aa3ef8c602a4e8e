/* A stopping point in every iteration: how often to look is left to the job. */
#include "procstop.h"
#include "work.h"

__attribute__((export_name("run"))) int64_t run(void) {
    int64_t done = 0;
    while (done < ITERATIONS) {
        iterate();
        done++;
        procstop_checkpoint();
    }
    return done;
}
