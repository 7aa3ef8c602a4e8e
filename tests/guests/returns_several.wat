;; Returns four values of four types: its arguments in reverse order.
(module
  (func (export "run") (param i32 i64 f32 f64) (result f64 f32 i64 i32)
    (local.get 3) (local.get 2) (local.get 1) (local.get 0)))
