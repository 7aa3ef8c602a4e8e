;; Ends in one way for each export.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "procstop" "checkpoint" (func $checkpoint))
  (memory (export "memory") 1)
  (func (export "adds") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "exits") (call $proc_exit (i32.const 3)))
  (func (export "traps") unreachable)
  (func (export "divides") (result i32) (i32.div_s (i32.const 1) (i32.const 0)))
  (func (export "reaches_out") (result i32) (i32.load (i32.const 65536)))
  (func $recurses (export "recurses") (call $recurses) (call $recurses))
  (func (export "checks") (loop $again (call $checkpoint) (br $again))))
