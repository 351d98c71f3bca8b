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
  | "vm_bad_spec"
  /** A host cannot be reached over the network, or the connection to it ended. */
  | "vm_host_unreachable"
  /** A host's TLS certificate is not one to trust: of an unknown authority, expired, or for another name. */
  | "vm_host_certificate"
  /** A host refuses our token or our certificate, or asks for one that is not configured. */
  | "vm_host_credentials"
  /** What answers at a host's address is not flintlockd, or speaks with TLS where none is configured, or the reverse. */
  | "vm_host_protocol"
  /** A host did not answer one call in time. */
  | "vm_host_timeout"
  /** A host failed several times in a row and is left alone for some seconds. */
  | "vm_host_avoided"
  /** A host answered a call with an error. */
  | "vm_host_refused"
  /** A host shows the signs of a daemon that needs a hand: it takes calls and does nothing, or cannot list its machines. */
  | "vm_host_sick"
  /** A host answered that it does not know the machine. */
  | "vm_host_unknown_machine"
  /** A host does not have the image, and its registry does not have it any more. */
  | "vm_image_gone"
  /** The image is on this computer only, and the host has nowhere to pull it from. */
  | "vm_image_unpublished"
  /** All addresses that a host may give to machines are taken. */
  | "vm_no_address";

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
