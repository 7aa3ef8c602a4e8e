// Stopping points and early exits for guests in AssemblyScript: the imports of the module "procstop".

/** A stopping point: returns, or leaves the guest when it is to stop. */
@external("procstop", "checkpoint")
export declare function checkpoint(): void;

/** The same question without leaving: 0 go on, 1 stop; then clean up and return. */
@external("procstop", "interrupted")
export declare function interrupted(): i32;

/** A stopping point that also shows how far the work is. */
@external("procstop", "progress")
export declare function progress(done: i64, total: i64): void;

/** Leave now, with a code. */
@external("procstop", "exit")
export declare function exit(code: i32): void;

@external("procstop", "fail")
declare function failBytes(message: usize, length: usize): void;

/** Leave now, with a message. */
export function fail(message: string): void {
  const bytes = String.UTF8.encode(message);
  failBytes(changetype<usize>(bytes), bytes.byteLength);
}
