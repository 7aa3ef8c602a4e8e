//! Stopping points and early exits for guests in Rust: the imports of the module "procstop".
//!
//! Put this file beside your own and write `mod procstop;`.
#![allow(dead_code)]

mod raw {
    #[link(wasm_import_module = "procstop")]
    extern "C" {
        pub fn checkpoint();
        pub fn interrupted() -> i32;
        pub fn progress(done: i64, total: i64);
        pub fn exit(code: i32) -> !;
        pub fn fail(message: *const u8, length: usize) -> !;
    }
}

/// A stopping point: returns, or leaves the guest when it is to stop. Nothing is dropped then.
pub fn checkpoint() {
    unsafe { raw::checkpoint() }
}

/// The same question without leaving: when it says true, clean up and return.
pub fn interrupted() -> bool {
    unsafe { raw::interrupted() != 0 }
}

/// A stopping point that also shows how far the work is.
pub fn progress(done: i64, total: i64) {
    unsafe { raw::progress(done, total) }
}

/// Leave now, with a code.
pub fn exit(code: i32) -> ! {
    unsafe { raw::exit(code) }
}

/// Leave now, with a message.
pub fn fail(message: &str) -> ! {
    unsafe { raw::fail(message.as_ptr(), message.len()) }
}
