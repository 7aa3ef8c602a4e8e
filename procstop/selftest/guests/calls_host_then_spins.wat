;; Calls env.work, then spins for ever.
(module
  (import "env" "work" (func $work))
  (memory (export "memory") 1)
  (func (export "_start") (call $work) (loop $again (br $again))))
