;; The early exit of the wasmer documentation: run(i32, i32) -> i32 calls env.early_exit and never returns.
(module
  (import "env" "early_exit" (func $early_exit))
  (func (export "run") (param i32 i32) (result i32)
    (call $early_exit)
    (i32.add (local.get 0) (local.get 1))))
