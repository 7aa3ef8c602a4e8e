/* C: finds the start below N with the longest Collatz chain; N is the argument, 0 goes on for ever. */
#include <stdio.h>
#include <stdlib.h>

#include "procstop.h"

static int chain(int64_t n) {
    int steps = 0;
    for (; n != 1; n = n % 2 ? 3 * n + 1 : n / 2)
        steps++;
    return steps;
}

int main(int argc, char **argv) {
    if (argc != 2)
        procstop_fail("give one argument: where to end, 0 for never");
    int64_t end = atoll(argv[1]), best = 1;
    int longest = 0;
    for (int64_t n = 1; end == 0 || n < end; n++) {
        if (n % 10000 == 0)
            procstop_progress(n, end);
        int steps = chain(n);
        if (steps > longest) {
            longest = steps;
            best = n;
        }
    }
    printf("%lld takes %d steps, more than any other below %lld\n", best, longest, end);
    return 0;
}
