;; Opens in.txt of its first directory again and again, and returns how often it could, times 100, plus the errno.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "in.txt")
  (func (export "run") (param $most i32) (result i32)
    (local $opened i32) (local $error i32)
    (loop $again
      (local.set $error (call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 6) (i32.const 0)
        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))
      (if (i32.eqz (local.get $error)) (then
        (local.set $opened (i32.add (local.get $opened) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $opened) (local.get $most))))))
    (i32.add (i32.mul (local.get $opened) (i32.const 100)) (local.get $error))))
