;; Counts down from "n" and returns: some nanoseconds for each.
(module
  (func (export "run") (param $n i32)
    (loop $again
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))))
