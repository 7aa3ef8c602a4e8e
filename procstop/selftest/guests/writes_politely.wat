;; Writes lines of 64 bytes to standard output for ever, with a stopping point after each.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "procstop" "checkpoint" (func $checkpoint))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\40\00\00\00")
  (data (i32.const 16) "0123456789012345678901234567890123456789012345678901234567890 x\n")
  (func (export "_start")
    (loop $again
      (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (call $checkpoint)
      (br $again))))
