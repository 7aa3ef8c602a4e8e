;; Leaves with a message: "_start" with one of its own, "run" with whatever lies at the address that it is given.
(module
  (import "procstop" "fail" (func $fail (param i32 i32)))
  (memory (export "memory") 1 1)
  (data (i32.const 100) "no such colour: \"\e2\82\acblue\"")
  (func (export "_start") (call $fail (i32.const 100) (i32.const 25)) unreachable)
  (func (export "run") (param i32 i32) (call $fail (local.get 0) (local.get 1))))
