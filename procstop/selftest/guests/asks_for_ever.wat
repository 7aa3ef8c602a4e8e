;; Calls env.work, then asks for ever whether it is to stop, and goes on whatever the answer is.
(module
  (import "env" "work" (func $work))
  (import "procstop" "interrupted" (func $interrupted (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $work) (loop $again (drop (call $interrupted)) (br $again))))
