;; Asks whether it is to stop, and when it is returns what it has counted so far.
(module
  (import "procstop" "interrupted" (func $interrupted (result i32)))
  (func (export "run") (result i32)
    (local $n i32)
    (loop $again
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.eqz (call $interrupted))))
    (local.get $n)))
