;; Leaves through WASI with code 300, from inside a function that would go on.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func $leave (call $proc_exit (i32.const 300)))
  (func (export "_start") (call $leave) unreachable))
