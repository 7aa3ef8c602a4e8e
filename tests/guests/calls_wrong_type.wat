;; Calls a function through its table as if it were of another type.
(module
  (type $nothing (func))
  (table 1 funcref)
  (elem (i32.const 0) $number)
  (func $number (result i32) (i32.const 1))
  (func (export "_start") (call_indirect (type $nothing) (i32.const 0))))
