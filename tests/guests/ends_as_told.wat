;; Ends in the way that its argument says: 0 returns, 1 traps, 2 exits with 0, 3 with 3, 4 leaves through procstop,
;; 5 calls env.work and returns, 6 passes stopping points for ever, 7 spins for ever.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "procstop" "exit" (func $exit (param i32)))
  (import "procstop" "checkpoint" (func $checkpoint))
  (import "env" "work" (func $work))
  (memory (export "memory") 1)
  (func (export "run") (param $how i32) (result i32)
    (if (i32.eq (local.get $how) (i32.const 1)) (then unreachable))
    (if (i32.eq (local.get $how) (i32.const 2)) (then (call $proc_exit (i32.const 0))))
    (if (i32.eq (local.get $how) (i32.const 3)) (then (call $proc_exit (i32.const 3))))
    (if (i32.eq (local.get $how) (i32.const 4)) (then (call $exit (i32.const 4))))
    (if (i32.eq (local.get $how) (i32.const 5)) (then (call $work)))
    (if (i32.eq (local.get $how) (i32.const 6)) (then (loop $again (call $checkpoint) (br $again))))
    (if (i32.eq (local.get $how) (i32.const 7)) (then (loop $again (br $again))))
    (local.get $how)))
