;; Asks whether it is to stop, and goes on whatever the answer is.
(module
  (import "procstop" "interrupted" (func $interrupted (result i32)))
  (func (export "_start")
    (loop $again (drop (call $interrupted)) (br $again))))
