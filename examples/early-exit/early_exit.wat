;; Asks the host before it adds; a host that says "leave" spares it the sum.
(module
  (import "env" "early_exit" (func $early_exit))
  (func (export "run") (param i32 i32) (result i32)
    call $early_exit
    (i32.add (local.get 0) (local.get 1))))
