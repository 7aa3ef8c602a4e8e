;; Spins for ever, with no stopping point.
(module
  (func (export "_start") (loop $again (br $again))))
