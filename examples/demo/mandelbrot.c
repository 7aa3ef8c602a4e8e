/* Draws row by row, and tells how far it is after each. */
#include <stdio.h>

#include "procstop.h"

#define ROWS 17
#define COLUMNS 64
#define DEPTH 1000000

static char shade(double x, double y) {
    double a = 0, b = 0;
    for (int i = 0; i < DEPTH; i++) {
        double t = a * a - b * b + x;
        b = 2 * a * b + y;
        a = t;
        if (a * a + b * b > 4)
            return " .:-=+*%"[i < 7 ? i : 7];
    }
    return '#';
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int row = 0; row < ROWS; row++) {
        for (int column = 0; column < COLUMNS; column++)
            putchar(shade(-2.2 + 3.2 * column / (COLUMNS - 1), -1.2 + 2.4 * row / (ROWS - 1)));
        putchar('\n');
        procstop_progress(row + 1, ROWS);
    }
    return 0;
}
