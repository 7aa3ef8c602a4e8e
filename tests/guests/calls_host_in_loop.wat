;; Calls env.work for ever.
(module
  (import "env" "work" (func $work))
  (func (export "_start") (loop $again (call $work) (br $again))))
