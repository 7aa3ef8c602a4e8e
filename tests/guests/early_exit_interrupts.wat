;; The other early exit of the wasmer documentation: exit_early calls env.interrupt_execution.
(module
  (import "env" "interrupt_execution" (func $interrupt_execution))
  (func $inner (call $interrupt_execution))
  (func (export "exit_early") (call $inner) unreachable))
