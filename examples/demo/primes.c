/* Polite: counts primes for ever, looks between two blocks whether it is to stop, and hands back what it has. */
#include "procstop.h"

static int is_prime(int64_t n) {
    for (int64_t d = 2; d * d <= n; d++)
        if (n % d == 0)
            return 0;
    return n > 1;
}

__attribute__((export_name("count"))) int64_t count(void) {
    int64_t primes = 0;
    for (int64_t n = 0; n % 1000 != 0 || !procstop_interrupted(); n++)
        primes += is_prime(n);
    return primes;
}
