;; Leaves with the code that it is given: "run" through WASI, "leave" through procstop.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "procstop" "exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "run") (param i32) (call $proc_exit (local.get 0)))
  (func (export "leave") (param i32) (result i64) (call $exit (local.get 0)) (i64.const 1)))
