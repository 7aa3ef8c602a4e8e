;; "run" calls itself as often as it is told to and returns the depth; "_start" never stops calling itself.
(module
  (func $run (export "run") (param $n i32) (result i32)
    (if (result i32) (i32.eqz (local.get $n))
      (then (i32.const 0))
      (else (i32.add (i32.const 1) (call $run (i32.sub (local.get $n) (i32.const 1)))))))
  (func $forever (param i64) (result i64)
    (i64.add (i64.const 1) (call $forever (i64.add (local.get 0) (i64.const 1)))))
  (func (export "_start") (drop (call $forever (i64.const 0)))))
