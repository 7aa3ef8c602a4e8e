;; Turns in a circle and passes no stopping point: nobody can ask it anything.
(module
  (func (export "run")
    (loop $again (br $again))))
