;; Has 32 MiB of memory from the beginning, and does nothing with it.
(module
  (memory (export "memory") 512)
  (func (export "run")))
