;; Asks whether it is to stop, and when it is leaves with code 9.
(module
  (import "procstop" "interrupted" (func $interrupted (result i32)))
  (import "procstop" "exit" (func $exit (param i32)))
  (func (export "_start")
    (loop $again (br_if $again (i32.eqz (call $interrupted))))
    (call $exit (i32.const 9))))
