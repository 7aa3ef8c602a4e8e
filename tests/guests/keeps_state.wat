;; Shows whether it is new: "run" returns 1 in a fresh instance, and leaves traces of itself in a global, in memory,
;; in the memory's size and in a table.
(module
  (global $count (mut i32) (i32.const 0))
  (memory (export "memory") 1)
  (table $table 1 10 funcref)
  (func $one (result i32) (i32.const 1))
  (elem (i32.const 0) $one)
  (elem declare func $two)
  (func $two (result i32) (i32.const 2))
  (func (export "run") (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store (i32.const 1000) (i32.add (i32.load (i32.const 1000)) (i32.const 1)))
    (if (i32.or
          (i32.or (i32.ne (i32.load (i32.const 1000)) (i32.const 1)) (i32.ne (memory.size) (i32.const 1)))
          (i32.ne (call_indirect (result i32) (i32.const 0)) (i32.const 1)))
      (then (return (i32.const -1))))
    (drop (memory.grow (i32.const 3)))
    (table.set $table (i32.const 0) (ref.func $two))
    (global.get $count)))
