;; Passes three stopping points, and then spins without another.
(module
  (import "procstop" "checkpoint" (func $checkpoint))
  (func (export "_start")
    (call $checkpoint)
    (call $checkpoint)
    (call $checkpoint)
    (loop $for_ever (br $for_ever))))
