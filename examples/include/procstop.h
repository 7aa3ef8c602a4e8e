/* Stopping points and early exits for guests in C and C++: the imports of the module "procstop".
 *
 *     clang --target=wasm32-wasi -O2 -I include guest.c -o guest.wasm
 */
#ifndef PROCSTOP_H
#define PROCSTOP_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PROCSTOP_IMPORT(name) __attribute__((import_module("procstop"), import_name(name)))

/* A stopping point: returns, or leaves the guest when it is to stop. */
PROCSTOP_IMPORT("checkpoint") void procstop_checkpoint(void);

/* The same question without leaving: 0 go on, 1 stop; then clean up and return. */
PROCSTOP_IMPORT("interrupted") int32_t procstop_interrupted(void);

/* A stopping point that also shows how far the work is. */
PROCSTOP_IMPORT("progress") void procstop_progress(int64_t done, int64_t total);

/* Leave now, with a code. */
PROCSTOP_IMPORT("exit") __attribute__((noreturn)) void procstop_exit(int32_t code);

/* Leave now, with a message of `length` bytes. */
PROCSTOP_IMPORT("fail") __attribute__((noreturn)) void procstop_fail_bytes(const char *message, size_t length);

/* Leave now, with a message. */
__attribute__((noreturn)) static inline void procstop_fail(const char *message) {
    procstop_fail_bytes(message, strlen(message));
}

#ifdef __cplusplus
}
#endif

#endif
