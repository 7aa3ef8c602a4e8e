/* Not interruptible: it looks at nothing until all of its work is done. */
#include "work.h"

__attribute__((export_name("run"))) int64_t run(void) {
    int64_t done = 0;
    while (done < ITERATIONS) {
        iterate();
        done++;
    }
    return done;
}
