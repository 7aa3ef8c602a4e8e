;; "link" makes the symbolic link up -> .. in its first directory; "follow" opens up/secret.txt there; both return the
;; errno.
(module
  (import "wasi_snapshot_preview1" "path_symlink"
    (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "..")
  (data (i32.const 110) "up/secret.txt")
  (func (export "link") (result i32)
    (call $path_symlink (i32.const 100) (i32.const 2) (i32.const 3) (i32.const 110) (i32.const 2)))
  (func (export "follow") (result i32)
    (call $path_open (i32.const 3) (i32.const 1) (i32.const 110) (i32.const 13) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32))))
