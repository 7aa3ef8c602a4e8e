;; Traps in its start function, before anything was called.
(module
  (func $begin unreachable)
  (start $begin)
  (func (export "_start")))
