;; Takes elements of a table, a million at a time, and traps when it gets no more.
(module
  (table $table 1 funcref)
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $more
      (if (i32.eq (table.grow $table (ref.null func) (i32.const 1_000_000)) (i32.const -1)) (then (unreachable)))
      (br $more))))
