;; Takes memory until it gets no more, and traps then; the memory's name is its own.
(module
  (memory (export "heap") 1)
  (func (export "_start")
    (loop $more
      (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
      (br $more))))
