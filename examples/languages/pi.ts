// AssemblyScript: estimates pi with random points in a square, a stopping point after every 100,000.

import { interrupted, progress } from "../include/procstop";

/** Use so many points, 0 for no end; return the estimate, also when it is asked to stop. */
export function pi(points: i64): f64 {
  let seed: u64 = 42;
  let inside: i64 = 0;
  let n: i64 = 0;
  while (points == 0 || n < points) {
    seed = seed * 6364136223846793005 + 1442695040888963407;
    const x = f64(seed >> 32) / 4294967296.0;
    seed = seed * 6364136223846793005 + 1442695040888963407;
    const y = f64(seed >> 32) / 4294967296.0;
    if (x * x + y * y < 1.0) inside++;
    n++;
    if (n % 100000 == 0) {
      // `progress` would leave the guest; with no end in sight it asks, and returns what it has.
      if (points != 0) progress(n, points);
      else if (interrupted() != 0) break;
    }
  }
  return 4.0 * f64(inside) / f64(n);
}
