;; Makes a/b/c with the link l -> ../../../secret in it, which leads nowhere; then moves that directory up, to where the
;; link would lead out, and returns the errno of that.
(module
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink"
    (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename"
    (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "a/b/c/l")
  (data (i32.const 120) "../../../secret")
  (data (i32.const 140) "moved")
  (func (export "run") (result i32)
    (if (call $mkdir (i32.const 3) (i32.const 100) (i32.const 1)) (then (return (i32.const -1))))
    (if (call $mkdir (i32.const 3) (i32.const 100) (i32.const 3)) (then (return (i32.const -2))))
    (if (call $mkdir (i32.const 3) (i32.const 100) (i32.const 5)) (then (return (i32.const -3))))
    (if (call $symlink (i32.const 120) (i32.const 15) (i32.const 3) (i32.const 100) (i32.const 7))
      (then (return (i32.const -4))))
    (call $rename (i32.const 3) (i32.const 100) (i32.const 5) (i32.const 3) (i32.const 140) (i32.const 5))))
