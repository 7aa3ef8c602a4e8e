;; Passes stopping points for ever in its start function.
(module
  (import "procstop" "checkpoint" (func $checkpoint))
  (func $begin (loop $again (call $checkpoint) (br $again)))
  (start $begin)
  (func (export "_start")))
