;; Calls an element of its table that was never set.
(module
  (type $nothing (func))
  (table 2 funcref)
  (func (export "_start") (call_indirect (type $nothing) (i32.const 1))))
