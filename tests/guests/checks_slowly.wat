;; Passes a stopping point after each ten million steps of work, for ever.
(module
  (import "procstop" "checkpoint" (func $checkpoint))
  (func (export "_start")
    (local $i i32)
    (loop $again
      (local.set $i (i32.const 10_000_000))
      (loop $work
        (local.set $i (i32.sub (local.get $i) (i32.const 1)))
        (br_if $work (local.get $i)))
      (call $checkpoint)
      (br $again))))
