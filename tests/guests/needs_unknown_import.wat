;; Imports functions that nobody provides.
(module
  (import "somewhere" "nobody_has_this" (func $nobody (param i32) (result i64)))
  (import "procstop" "chekpoint" (func $misspelt))
  (func (export "_start") (drop (call $nobody (i32.const 1))) (call $misspelt)))
