(module
  (type $nothing (func))
  (table 1 funcref)
  (func (export "_start") (call_indirect (type $nothing) (i32.const 7))))
