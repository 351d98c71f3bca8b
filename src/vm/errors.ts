import { FireRunnerError } from "../base/errors.ts";

export type VmErrorCode =
  /** The host lacks a program, a right or a device. */
  | "vm_unusable"
  /** The image's files are missing or not what their digest says. */
  | "vm_image_broken"
  /** No room left for a scratch disk or the machine's directory. */
  | "vm_disk_full"
  /** The hypervisor refused to start or ended at once. */
  | "vm_create_failed"
  /** Something of the machine would not go away. */
  | "vm_destroy_failed"
  /** The machine id, a path or a size is not acceptable. */
  | "vm_bad_spec";

/** What a driver throws. `retryable` is true when another try, perhaps on another host, may work. */
export class VmError extends FireRunnerError {
  constructor(
    code: VmErrorCode,
    message: string,
    options: ErrorOptions & { hint?: string; retryable?: boolean } = {},
  ) {
    super(code, message, options);
  }
}
