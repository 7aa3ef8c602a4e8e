;; Writes 64 KiB after 64 KiB to out.txt in its first directory, and returns the errno with which that ends.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\00\00\01\00\00\00\01\00")
  (data (i32.const 100) "out.txt")
  (func (export "run") (result i32)
    (local $error i32)
    (local.set $error (call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 7) (i32.const 1)
      (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32)))
    (if (local.get $error) (then (return (i32.add (local.get $error) (i32.const 1000)))))
    (loop $more
      (local.set $error (call $fd_write (i32.load (i32.const 32)) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if $more (i32.eqz (local.get $error))))
    (local.get $error)))
