/* Fine-grained: a check every 1,000 iterations. Asked to stop, it returns how far it got. */
#include "procstop.h"
#include "work.h"

__attribute__((export_name("run"))) int64_t run(void) {
    int64_t done = 0;
    while (done < ITERATIONS) {
        iterate();
        done++;
        if (done % 1000 == 0 && procstop_interrupted())
            break;
    }
    return done;
}
