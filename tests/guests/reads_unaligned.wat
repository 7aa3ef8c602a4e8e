;; Writes and reads at odd addresses, claiming that they were aligned: slow perhaps, but no trap.
(module
  (memory (export "memory") 1)
  (func (export "run") (result i64)
    (i64.store align=8 (i32.const 3) (i64.const 0x1122334455667788))
    (i64.load align=8 (i32.const 3))))
