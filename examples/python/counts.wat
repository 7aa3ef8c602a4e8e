;; Counts to its argument and returns it, with a stopping point at each number; 0 is never reached.
(module
  (import "procstop" "progress" (func $progress (param i64 i64)))
  (func (export "count") (param $end i64) (result i64)
    (local $n i64)
    (loop $next
      (local.set $n (i64.add (local.get $n) (i64.const 1)))
      (call $progress (local.get $n) (local.get $end))
      (br_if $next (i64.ne (local.get $n) (local.get $end))))
    (local.get $n)))
