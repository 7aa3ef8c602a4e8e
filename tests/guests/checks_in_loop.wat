;; Passes stopping points for ever: a polite guest.
(module
  (import "procstop" "checkpoint" (func $checkpoint))
  (func (export "_start") (loop $again (call $checkpoint) (br $again)))
  (func (export "run") (param $n i32) (result i32)
    (local $i i32)
    (loop $again
      (call $checkpoint)
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (local.get $n))))
    (local.get $i)))
