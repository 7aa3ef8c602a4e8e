;; Sleeps for 1000 seconds in WASI's poll_oneoff, having said so on standard output.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; A subscription: userdata, tag 0 (a clock), clock 1 (monotonic), timeout in ns, precision, flags.
  (data (i32.const 16) "\01\00\00\00")
  (data (i32.const 128) "\90\00\00\00\09\00\00\00")
  (data (i32.const 144) "sleeping\n")
  (func (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 128) (i32.const 1) (i32.const 160)))
    (i64.store (i32.const 24) (i64.const 1_000_000_000_000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 100))))
  (func (export "nap") (param $ns i64) (result i32)
    (i64.store (i32.const 24) (local.get $ns))
    (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 100))))
