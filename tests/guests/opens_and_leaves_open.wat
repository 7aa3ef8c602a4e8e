;; Opens in.txt of its first directory, closes that directory and standard error, and returns the new descriptor:
;; the same number in every fresh state.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "in.txt")
  (func (export "run") (result i32)
    (local $error i32)
    (local.set $error (call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 6) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))
    (if (local.get $error) (then (return (i32.sub (i32.const 0) (local.get $error)))))
    (if (call $fd_close (i32.const 2)) (then (return (i32.const -1000))))
    (if (call $fd_close (i32.const 3)) (then (return (i32.const -2000))))
    (i32.load (i32.const 32))))
