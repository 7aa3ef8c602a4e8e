;; Spins for ever in its start function.
(module
  (func $begin (loop $again (br $again)))
  (start $begin)
  (func (export "_start")))
