;; Returns the sum of its arguments; the other exports return their argument as it came, or nothing.
(module
  (func (export "run") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "same_i32") (param i32) (result i32) (local.get 0))
  (func (export "same_i64") (param i64) (result i64) (local.get 0))
  (func (export "same_f32") (param f32) (result f32) (local.get 0))
  (func (export "same_f64") (param f64) (result f64) (local.get 0))
  (func (export "nothing"))
  (func (export "_start")))
