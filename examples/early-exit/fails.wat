;; Leaves with a message of its own.
(module
  (import "procstop" "fail" (func $fail (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "no number can be divided by 0")
  (func (export "divide") (param i32 i32) (result i32)
    (if (i32.eqz (local.get 1))
      (then (call $fail (i32.const 64) (i32.const 29))))
    (i32.div_s (local.get 0) (local.get 1))))
