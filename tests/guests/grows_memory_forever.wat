;; Grows a memory that has no maximum, page by page, touching each, and returns how many pages it got beyond "n".
(module
  (memory (export "memory") 1)
  (func (export "run") (param $n i32) (result i32)
    (loop $more
      (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (return (memory.size))))
      (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 1))
      (br_if $more (i32.lt_u (memory.size) (local.get $n))))
    (memory.size)))
