;; Reaches an unreachable, two calls deep.
(module
  (func $deep unreachable)
  (func (export "_start") (call $deep)))
