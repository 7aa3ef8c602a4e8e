;; Writes a line to each standard stream, then spins for ever.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\20\00\00\00\0d\00\00\00")
  (data (i32.const 8) "\40\00\00\00\0d\00\00\00")
  (data (i32.const 32) "said so far.\n")
  (data (i32.const 64) "and warned.. ")
  (data (i32.const 76) "\n")
  (func (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 24)))
    (drop (call $fd_write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 24)))
    (loop $again (br $again))))
