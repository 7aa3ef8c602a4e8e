;; "run" grows its memory to its maximum and returns the pages it has then; "_start" tries for ever.
(module
  (memory (export "memory") 1 40)
  (func (export "run") (result i32)
    (loop $more
      (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (memory.size))
  (func (export "_start")
    (loop $more
      (drop (memory.grow (i32.const 1)))
      (br $more))))
