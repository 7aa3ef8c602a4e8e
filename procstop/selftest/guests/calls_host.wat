;; Calls env.work, once: whatever that does is done in a host function.
(module
  (import "env" "work" (func $work))
  (memory (export "memory") 1)
  (func (export "_start") (call $work)))
