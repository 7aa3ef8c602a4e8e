;; Passes stopping points of each kind, and traps then.
(module
  (import "procstop" "checkpoint" (func $checkpoint))
  (import "procstop" "interrupted" (func $interrupted (result i32)))
  (import "procstop" "progress" (func $progress (param i64 i64)))
  (func $deep
    (call $checkpoint)
    (call $progress (i64.const 1) (i64.const 2))
    (if (i32.eqz (call $interrupted)) (then unreachable)))
  (func (export "_start") (call $deep)))
